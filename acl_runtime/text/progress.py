"""A progress bar on the terminal's error stream; nothing where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_phases() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (what, done, total) that shows one bar for each thing that is done.

    Where there is no terminal, a line says when each begins.
    """
    if not sys.stderr.isatty():
        begun: set[str] = set()

        def announce(what: str, done: int, total: int) -> None:
            if what not in begun:
                print(f"{what}: {total}", file=sys.stderr, flush=True)
            begun.add(what)

        yield announce
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    tasks: dict[str, TaskID] = {}
    with Progress(console=Console(stderr=True)) as bar:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


@contextmanager
def progress(description: str, *, total: int | None) -> Iterator[Callable[[], None]]:
    """Yield a function that advances the bar by one; `total` is None where the end is not known."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # Printed lines go above the bar, unless they go to a file.
    bar = Progress(console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), transient=True)
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
