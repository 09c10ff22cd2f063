"""A progress bar on the terminal's error stream; nothing where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SELDOM_S = 60.0  # between lines where there is no terminal


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


@contextmanager
def progress_rate(description: str, *, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a bar with rate and time left; where there is no terminal, lines say so, seldom.

    Args:
        description: What is done.
        total: How many in all.
        done: How many of them were done before; the rate is that of the others.
    """
    begun, count, told = time.monotonic(), 0, time.monotonic()
    if not sys.stderr.isatty():

        def tell(more: int) -> None:
            nonlocal count, told
            count, now = count + more, time.monotonic()
            if count > 0 and now - told > SELDOM_S:
                told = now
                words = _rate_words(total - done - count, count / (now - begun))
                print(f"{description}: {done + count} of {total}, {words}", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, completed=done, words="")

        def show(more: int) -> None:
            nonlocal count
            count += more
            words = _rate_words(total - done - count, count / max(time.monotonic() - begun, 1e-9))
            bar.update(task, completed=done + count, words=words)

        yield show


def _rate_words(left: int, rate: float) -> str:
    """Such as "12.3/s, 1:05:00 left"."""
    if rate <= 0:
        return ""
    minutes, seconds = divmod(round(left / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate:.1f}/s, {hours}:{minutes:02d}:{seconds:02d} left"
