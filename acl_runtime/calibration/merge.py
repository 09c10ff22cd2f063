"""Find the memory that a user wants to add to another: of a record, of a bundle, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acl_runtime.bundle.bundle import MANIFEST, Bundle, load_bundle
from acl_runtime.calibration.memory_statistics import Statistics, read_statistics
from acl_runtime.calibration.record import record_from_json
from acl_runtime.files.errors import InputError, UserError


def read_merged(names: Sequence[str], bundle: Bundle) -> tuple[tuple[str, Statistics], ...]:
    """Return the statistics of memories by their names, for a bundle.

    Args:
        names: Of records (`calibrations/0001.json`) in their bundles, of bundles, or of memory files (`.npz`).
        bundle: That they are added for.

    Raises:
        InputError: One is none, is of another network, or its images are those of another one of them.
    """
    merged: list[tuple[str, Statistics]] = []
    for name in names:
        statistics = read_statistics(find_memory_file(Path(name)), bundle)
        for other, before in merged:
            if both := statistics.digests & before.digests:
                raise InputError(
                    f"{name}: {len(both)} of its {statistics.images} images are in {other} too, and would count twice; "
                    "merge the later one of the two alone"
                )
        merged.append((name, statistics))
    return tuple(merged)


def find_memory_file(path: Path) -> Path:
    """Return the memory's file of a record in its bundle, of a bundle, or the file itself."""
    if (path / MANIFEST).is_file():
        memory = load_bundle(path).manifest.memory_file
        if memory is None:
            raise InputError(f"{path}: has no memory of good parts; name one calibrated with --memory")
        return path / memory
    if path.suffix == ".npz" and path.is_file():
        return path
    if not path.is_file():
        raise InputError(f"{path}: no such record; name calibrations/NUMBER.json of a bundle, or the bundle")
    try:
        record = record_from_json(path.read_bytes())
    except UserError as error:
        raise InputError(f"{path}: {error}") from error
    if record.memory is None:
        raise InputError(f"{path}: is of a calibration without a memory; name one made with --memory")
    return path.parent.parent / record.memory.file
