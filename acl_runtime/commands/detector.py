"""Open the detector that a command's options ask for, and say what the user should know about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.text.terminal import note

if TYPE_CHECKING:
    import typer

    from acl_runtime.bundle.manifest import Backbone
    from acl_runtime.detection.detector import Detector
    from acl_runtime.detection.stages import MapsOf
    from acl_runtime.images.decode import ReadSettings


def open_detector(
    context: typer.Context,
    bundle: Path,
    *,
    tile: str,
    overlap: int | None,
    min_defect: int | None,
    fast_resize: bool,
    backend: Backend,
    provider: str,
    batch: int | None = None,
    threshold: float | None = None,
    maps: MapsOf = "all",
    reading: ReadSettings | None = None,
    says_mismatches: bool = True,
) -> Detector:
    """Open a detector that is closed when the command ends.

    Args:
        context: Of the command.
        bundle: Path of the bundle.
        tile: As `options.TileSize`, and so on for each option.
        overlap: Pixels that neighbouring tiles share.
        min_defect: Smallest defect of interest, in frame pixels.
        fast_resize: Whether frames are resized nearly as by Pillow, but faster.
        backend: What runs the graph.
        provider: Where ONNX Runtime computes.
        batch: Frames that are judged together; None where it is not known.
        maps: Of which frames the anomaly map leaves the GPU.
        threshold: Smallest score of a defect, instead of the bundle's thresholds.
        reading: How image files become frames; None where there are no files.
        says_mismatches: Whether to say what speaks against the bundle's thresholds here; not where they are about to
            be replaced.
    """
    from acl_runtime.calibration.mismatch import find_mismatches
    from acl_runtime.detection.detector import Detector

    detector = context.with_resource(
        Detector(
            bundle,
            backend=backend.value,
            provider=provider,
            batch=batch,
            threshold=threshold,
            maps=maps,
            tiling=options.parse_tiling(tile, overlap, min_defect),
            fast_resize=fast_resize,
        )
    )
    note_unless_fit(detector.bundle.manifest.backbone)
    for mismatch in find_mismatches(detector, reading) if says_mismatches else ():
        note(mismatch)
    return detector


def check_order(bundle: Path, paths: Sequence[str]) -> None:
    """Raise InputError where bundle and images changed places on the command line."""
    from acl_runtime.bundle.bundle import MANIFEST
    from acl_runtime.files.errors import InputError

    swapped = [path for path in paths if (Path(path) / MANIFEST).is_file()]
    if swapped and bundle.is_dir() and not (bundle / MANIFEST).is_file():
        raise InputError(
            f"{bundle}: is no bundle, but {swapped[0]} is; the bundle comes first, then the images"
        )


def note_unless_fit(backbone: Backbone) -> None:
    """Say that a demonstration model is one."""
    if warning := demonstration_words(backbone):
        note(warning)


def demonstration_words(backbone: Backbone) -> str:
    """That a model is a demonstration; empty for one that is fit for inspection."""
    return "" if backbone.inspection else f"{backbone.name} is a demonstration, not for inspection"
