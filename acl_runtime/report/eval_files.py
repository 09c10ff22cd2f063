"""The files of an evaluation: checked before the work, written after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.backends.choose import BACKENDS
from acl_runtime.bundle.words import (
    memory_words,
    network_words,
    normalisation_words,
    prompts_words,
    tiling_words,
)
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.run import EvalResult, EvalSettings
from acl_runtime.evaluation.tables import csv_table, json_text, markdown_table
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.report.evaluation import INDEX, write_eval_report

STDOUT = Path("-")


@dataclass(frozen=True)
class EvalFiles:
    """Where to write; None for nowhere, `STDOUT` for what the command prints."""

    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None
    report: Path | None = None  # a folder

    @property
    def texts(self) -> dict[str, Path]:
        """Where the forms go that are text."""
        forms = {"json": self.json, "csv": self.csv, "markdown": self.markdown}
        return {form: path for form, path in forms.items() if path is not None}

    @property
    def printed(self) -> list[str]:
        """The forms that go to stdout."""
        return [form for form, path in self.texts.items() if path == STDOUT]


def check_files(files: EvalFiles, bundle: Path, data: Sequence[Path] = ()) -> None:
    """Check that everything can be written in the end, and would replace nothing that it must not.

    Args:
        files: Where to write.
        bundle: The bundle's folder.
        data: The folders of the data sets; none of their files is replaced, by whatever name or link it is called.

    Raises:
        InputError: Something could not be written, or would replace a file of the bundle or of the data.
    """
    report = [] if files.report is None else [files.report]
    for folder in report:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; name a folder for the page")
    paths = [path for path in files.texts.values() if path != STDOUT] + [folder / INDEX for folder in report]
    for path in paths:
        _check_file(path, bundle)
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise InputError(f"{path}: is named twice; name a file for each form")
    _check_inputs_are_safe(paths, [*data, bundle])


def render(form: str, result: EvalResult) -> str:
    """An evaluation as text: "json", "csv" or "markdown"."""
    if form == "json":
        return json_text(result.evaluations, settings=result.settings)
    return csv_table(result.evaluations) if form == "csv" else markdown_table(result.evaluations)


def write_files(
    files: EvalFiles,
    result: EvalResult,
    detector: Detector,
    *,
    settings: EvalSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write everything but what goes to stdout.

    Args:
        files: Where to write.
        result: What was found.
        detector: Judges the images again that the page shows.
        settings: How it was measured.
        progress: Called after each picture of the page with the number of those drawn, and of all.
    """
    settings = settings or EvalSettings()
    for form, path in files.texts.items():
        if path != STDOUT:
            with atomic_file(path) as temporary:
                temporary.write_text(render(form, result), encoding="utf-8")
    if files.report is not None:
        write_eval_report(
            files.report,
            result.evaluations,
            detector,
            rule=detector.rule,
            facts=_facts(result, detector, settings),
            notes=result.notes,
            mask_above=settings.mask_above,
            settings=settings.read,
            progress=progress,
        )


def _facts(result: EvalResult, detector: Detector, settings: EvalSettings) -> list[tuple[str, str]]:
    """Return the settings for the page in words, as `acl info` has them; what is off is left out."""
    manifest = detector.bundle.manifest
    side = manifest.image_size
    facts = [
        ("Backbone", manifest.backbone.name),
        ("Weights", f"{manifest.backbone.weights}, sha256 {manifest.backbone.weights_sha256[:12]}"),
        ("Network", network_words(manifest)),
        ("Prompts", prompts_words(manifest)),
        ("Input", f"{side} \u00d7 {side} pixels"),
        ("Normalised", normalisation_words(manifest)),
        ("Pixels", _pixels_words(settings.read)),
        ("Frames", tiling_words(detector.tiling)),
        ("Graph", f"head {manifest.head}, {manifest.precision}"),
        ("Computed by", _computer(detector)),
        ("Metrics", str(result.settings["metrics"])),
    ]
    if manifest.memory_file is not None:
        facts.append(("Memory", memory_words(manifest)))
    return facts + (
        [("Masks", f"a defect is above grey level {settings.mask_above}")] if settings.mask_above else []
    )


def _pixels_words(read: ReadSettings) -> str:
    turned = (
        "turned as their orientation tags say" if read.exif else "as stored, orientation tags are not applied"
    )
    return f"{turned}; {read.bits or 16} bits of 16-bit files count"


def _computer(detector: Detector) -> str:
    """Name what computes and where, as people know it."""
    entry = BACKENDS.get(detector.backend)
    backend = detector.backend if entry is None else entry.label
    return " on ".join(filter(None, (backend, detector.provider.removesuffix("ExecutionProvider"))))


def _check_inputs_are_safe(paths: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write to a file inside the inputs, or to a link to one."""
    targets = {(path.stat().st_dev, path.stat().st_ino): path for path in paths if path.exists()}
    if not targets:
        return
    for folder in inputs:
        for file in (Path(parent, name) for parent, _, names in os.walk(folder) for name in names):
            found = file.stat() if file.exists() else None
            if found and (path := targets.get((found.st_dev, found.st_ino))):
                raise InputError(f"{path}: is the input {file}; name another file for the results")


def _check_file(path: Path, bundle: Path) -> None:
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file; name a file to write")
    if path.resolve().is_relative_to(bundle.resolve()):
        raise InputError(f"{path}: lies in the bundle; name another place for the results")
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{path}: {folder} is a file; name a place in a folder")
