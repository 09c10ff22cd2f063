"""`acl demo`: the whole road on drawn products."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.text.terminal import echo


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder to write to; of an earlier demo only its own files are replaced."
        ),
    ] = Path("demo"),
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder of your own labelled images to judge instead of drawn ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawings and of the learning.")] = 111,
) -> None:
    """Show every step in minutes: draw products, learn prompts, export, calibrate, judge, and write a page to look at.

    Needs no GPU and no downloads: it uses a small CLIP that ships with the package.
    """
    from acl_export.demo import DemoConfig, run_demo
    from acl_export.demo_report import summary
    from acl_runtime.text.progress import progress_phases

    with progress_phases() as progress:
        result = run_demo(output, DemoConfig(seed=seed), data=data, progress=progress, say=echo)
    for line in summary(result):
        echo(line)
