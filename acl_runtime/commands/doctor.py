"""`acl doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.text.terminal import echo

if TYPE_CHECKING:
    from acl_runtime.doctor.findings import Finding


def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="Exported bundle.", show_default=False)] = None,
    *,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Write all of it to this file, for a support ticket; - for stdout, and nothing else."
        ),
    ] = None,
) -> None:
    """Say what this machine has, what is wrong with it, and the command that helps.

    It reads GPU, driver, JetPack, TensorRT, ONNX Runtime, OpenVINO, OpenCV, memory,
    power mode and clocks, knows versions of TensorRT that compute wrongly, names
    the extra that makes this machine faster, and predicts the memory that building
    takes. With a bundle it also says which of its engines fit, and whether its
    thresholds are those that were measured. The exit code is 1 if an error is found. The JSON holds no name of a
    person, machine or folder.
    """
    from json import dumps

    from acl_runtime.doctor.bundle_check import check_bundle
    from acl_runtime.doctor.findings import Severity, find, sort_findings
    from acl_runtime.doctor.machine import read_machine
    from acl_runtime.doctor.report import to_document, to_text, what_works
    from acl_runtime.files.atomic import atomic_file

    machine = read_machine()
    facts, findings = (None, []) if bundle is None else check_bundle(bundle, machine)
    if bundle is not None and facts is not None:
        findings = [*findings, *_check_calibration(bundle)]
    findings = sort_findings([*find(machine), *findings])
    works = what_works(machine)
    document = dumps(to_document(machine, facts, findings, works, path=bundle), indent=2) + "\n"
    if json == Path("-"):
        echo(document.rstrip())
    else:
        echo(to_text(machine, facts, findings, works))
    if json is not None and json != Path("-"):
        with atomic_file(json) as temporary:
            temporary.write_text(document, encoding="utf-8")
    if any(finding.severity is Severity.error for finding in findings):
        raise typer.Exit(1)


def _check_calibration(bundle: Path) -> list[Finding]:
    """Return an error where the thresholds are not those that were measured."""
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.calibration.record import check_calibration
    from acl_runtime.doctor.findings import Finding, Severity
    from acl_runtime.files.errors import UserError

    try:
        check_calibration(load_bundle(bundle))
    except UserError as error:
        text = str(error).replace(str(Path.home()), "~")
        return [Finding(Severity.error, "calibration", text, "acl calibrate or acl restore")]
    return []
