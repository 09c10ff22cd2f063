"""Read a labelled data set, whatever published layout it has, and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acl_runtime.data.layouts import recognise
from acl_runtime.data.layouts.published import PAPER_SETS, compare_with_paper
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.masks import check_mask_size, load_mask
from acl_runtime.data.pointers import refuse_pointers
from acl_runtime.data.samples import Sample, count_unread, list_folders, mask_files
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import IMAGES, ReadSettings, load_frame
from acl_runtime.text.names import shorten

__all__ = ["Dataset", "Sample", "check_mask_size", "load_mask", "load_sample", "read_dataset", "require_both"]

JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The labelled pictures of a folder.

    Attributes:
        name: The paper's name of the data set where it is known, else the folder's.
        root: Folder that holds it; inside the one that was named, where archives add an outer folder.
        samples: In the order of the layout, categories together.
        has_masks: Every defective part has one; otherwise none has.
        layout: Name of the layout that it was recognised by.
        published: The paper's name of the data set, such as "MVTec AD"; None where it is none of the paper's.
        notes: What a reader of the figures must know, one sentence each.
    """

    name: str
    root: Path
    samples: tuple[Sample, ...]
    has_masks: bool
    layout: str
    published: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The products, in the order of the samples."""
        return tuple(dict.fromkeys(sample.category for sample in self.samples))


def read_dataset(root: Path) -> Dataset:
    """List the pictures of a data set; which layout it has is told from its folders.

    Args:
        root: Folder that holds it.

    Raises:
        FileNotFoundError: There is no such folder, or a listed file is missing.
        InputError: The layout is none of `LAYOUTS` or nearly one, there are no images, some defects lack a
            mask, or files are Git LFS pointers.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: is not a folder; name the folder that holds the data set")
    named = root
    root, layout, reading = recognise(named)
    samples = reading.samples
    if not samples:
        raise InputError(f"{root}: holds no images; put {_extensions()} files there")
    _check_files(root, samples)
    has_masks = _check_masks(root, samples)
    notes = (*_beside(named, root), *_unread(root, samples), *_notes(reading, has_masks=has_masks))
    name = reading.published or root.resolve().name
    return Dataset(
        name=name,
        root=root,
        samples=tuple(samples),
        has_masks=has_masks,
        layout=layout,
        published=reading.published,
        notes=notes,
    )


def load_sample(sample: Sample, settings: ReadSettings | None = None) -> np.ndarray:
    """Read the picture of a sample, which may be some rows of a file.

    Args:
        sample: The picture.
        settings: How to read it, and what was noted about files before.

    Returns:
        (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8; uint16 where `load_frame` gives that.

    Raises:
        FileNotFoundError: No such file.
        FrameError: The file is not a picture, or is damaged.
    """
    frame = load_frame(sample.path, settings)
    return frame if sample.rows is None else frame[slice(*sample.rows)]


def require_both(dataset: Dataset) -> None:
    """Refuse a data set without good or without defective parts; learning needs both."""
    labels = {sample.label for sample in dataset.samples}
    if 1 not in labels:
        raise InputError(f"{dataset.root}: has no defective parts; good and defective ones are needed")
    if 0 not in labels:
        raise InputError(f"{dataset.root}: has no good parts; good and defective ones are needed")


def _check_files(root: Path, samples: list[Sample]) -> None:
    files = {path for sample in samples for path in (sample.path, sample.mask) if path is not None}
    missing = [path for path in files if not path.is_file() and not path.is_dir()]
    if missing:
        raise FileNotFoundError(f"{root}: lacks {_names(root, missing)}; download or unpack it again")
    refuse_pointers(root, {file for path in files for file in mask_files(path)})


def _check_masks(root: Path, samples: list[Sample]) -> bool:
    """Whether there are masks; some without others would count unmarked defects as good pixels."""
    bad = [sample for sample in samples if sample.label]
    unmarked = [sample.path for sample in bad if sample.mask is None]
    if 0 < len(unmarked) < len(bad):
        raise InputError(
            f"{root}: {len(unmarked)} of {len(bad)} defective parts have no mask ({_names(root, unmarked)}); "
            f"add theirs, or remove all masks"
        )
    return bool(bad) and not unmarked


def _beside(named: Path, root: Path) -> list[str]:
    """A note on the folders beside the one that holds the data set."""
    levels = [folder for folder in (root, *root.parents) if folder != named and folder.is_relative_to(named)]
    beside = [other.name for level in levels for other in list_folders(level.parent) if other != level]
    inner = root.relative_to(named).as_posix()
    return (
        [f"only {inner} is read; {shorten(beside)} beside it is no data set that is known"] if beside else []
    )


def _unread(root: Path, samples: list[Sample]) -> list[str]:
    """A note on files beside the pictures that are no images of a format that is read."""
    used = {path.parent for sample in samples for path in (sample.path, sample.mask) if path is not None}
    inside = {folder for folder in used if folder != root and folder.is_relative_to(root)}
    beside = {folder for parent in {each.parent for each in inside} for folder in list_folders(parent)}
    counted = count_unread(used | beside)
    return [f"files of other formats are passed over: {counted}; save them as PNG or JPEG"] if counted else []


def _notes(reading: Reading, *, has_masks: bool) -> tuple[str, ...]:
    """What the layout's reader says, what differs from the paper, and what holds for any data set."""
    published, samples = reading.published, reading.samples
    notes = list(reading.notes) + ([] if published is None else compare_with_paper(published, samples))
    for lacking, kind in ((0, "good"), (1, "defective")):
        only = [category for category, labels in _labels(samples).items() if lacking not in labels]
        if only:
            where = "" if len(only) == len(_labels(samples)) else f" in {shorten(only)}"
            like = ", as in the paper" if published and PAPER_SETS[published].counts[lacking] == 0 else ""
            remedy = (
                "" if where or kind == "good" else "; acl calibrate sets thresholds from good images alone"
            )
            notes.append(
                f"there are no {kind} images{where}, so image-level metrics are undefined{like}{remedy}"
            )
    if not has_masks and any(sample.label for sample in samples):
        notes.append("there are no masks, so there are image-level metrics only")
    if any(
        file.suffix.lower() in JPEG for sample in samples if sample.mask for file in mask_files(sample.mask)
    ):
        notes.append(
            "the masks are JPEG files and hold compression noise, of which every pixel that is not black counts "
            "as in the published code; --mask-above 127 counts only the clear ones"
        )
    return tuple(notes)


def _labels(samples: list[Sample]) -> dict[str, set[int]]:
    """The labels that occur in each category."""
    labels: dict[str, set[int]] = {}
    for sample in samples:
        labels.setdefault(sample.category, set()).add(sample.label)
    return labels


def _names(root: Path, paths: list[Path]) -> str:
    return shorten(str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths)


def _extensions() -> str:
    return ", ".join(sorted(ending[1:] for ending in IMAGES))
