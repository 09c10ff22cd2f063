"""`acl demo`: the whole road on drawn products."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.text.terminal import echo


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all of it.")] = Path("demo"),
    *,
    data: Annotated[
        Path | None, typer.Option(help="Judge your own labelled images instead of drawn ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawings and of the learning.")] = 111,
) -> None:
    """Go the whole road in minutes: draw products, learn, export, prove, detect, and write a page to look at.

    Needs no GPU and no downloads: it uses a small CLIP that ships with the package.
    """
    from acl_export.demo import DemoConfig, run_demo
    from acl_export.demo_report import summary
    from acl_runtime.text.progress import progress_phases

    with progress_phases() as progress:
        result = run_demo(output, DemoConfig(seed=seed), data=data, progress=progress, say=echo)
    for line in summary(result):
        echo(line)
