"""`acl restore`: take back a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.text.terminal import echo


def restore(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle that was calibrated; it is changed.", show_default=False)
    ],
) -> None:
    """Restore the previous calibration: thresholds, memory and what is ignored.

    Each calibration, and each threshold that was set by hand on a station's page,
    keeps what it replaced, so that several can be taken back one by one, down to
    the default threshold. A station that runs is told with SIGHUP.
    """
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.calibration.change import restore_previous
    from acl_runtime.calibration.record import read_record
    from acl_runtime.scoring.rule import bundle_rule, rule_words

    calibration = restore_previous(bundle)
    record = read_record(load_bundle(bundle))
    words = rule_words(bundle_rule(calibration))
    if record is None:
        echo(f"{bundle}: anomalous from {words} again, the default, an arbitrary number")
    else:
        when = "" if record.by_hand is not None else f", as calibrated on {record.created[:10]}"
        echo(f"{bundle}: anomalous from {words} again{when}: {record.statement}")
