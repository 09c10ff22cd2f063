"""`acl info`: check a bundle and say what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.text.terminal import echo


def info(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Check every file of a bundle and say what it is."""
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.bundle.manifest import manifest_to_json
    from acl_runtime.calibration.record import check_calibration
    from acl_runtime.commands.describe import describe

    loaded = load_bundle(bundle)
    check_calibration(loaded)
    echo(manifest_to_json(loaded.manifest).rstrip() if json else describe(loaded))
