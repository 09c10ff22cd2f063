"""Read a labelled data set, whatever published layout it has, and its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Image import Image as Picture

from acl_runtime.layouts import LAYOUTS
from acl_runtime.samples import EXTENSIONS, Sample, shorten

__all__ = ["Dataset", "Sample", "check_mask_size", "load_mask", "read_dataset", "require_both"]


@dataclass(frozen=True)
class Dataset:
    """The labelled pictures of a folder."""

    name: str
    root: Path
    samples: tuple[Sample, ...]
    has_masks: bool  # every defective part has one, or none has
    layout: str  # name of the layout it was recognised by

    @property
    def categories(self) -> tuple[str, ...]:
        """The products, in the order of the samples."""
        return tuple(dict.fromkeys(sample.category for sample in self.samples))


def read_dataset(root: Path) -> Dataset:
    """List the pictures of a data set; which layout it has is told from its folders.

    Raises:
        FileNotFoundError: There is no such folder, or a listed file is missing.
        ValueError: The layout is none of `LAYOUTS`, there are no images, or some defects lack a mask.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: is not a folder; name the folder that holds the data set")
    layout, samples = _recognise(root)
    if not samples:
        raise ValueError(f"{root}: holds no images; put {_extensions()} files there")
    _check_files(root, samples)
    has_masks = _check_masks(root, samples)
    return Dataset(root.resolve().name, root, tuple(samples), has_masks, layout)


def require_both(dataset: Dataset) -> None:
    """Refuse a data set without good or without defective parts; learning needs both."""
    labels = {sample.label for sample in dataset.samples}
    if 1 not in labels:
        raise ValueError(f"{dataset.root}: has no defective parts; good and defective ones are needed")
    if 0 not in labels:
        raise ValueError(f"{dataset.root}: has no good parts; good and defective ones are needed")


def load_mask(sample: Sample, *, image_size: int) -> npt.NDArray[np.bool_]:
    """Ground truth at the network's resolution, to the pixel as the published code makes it.

    Args:
        sample: Its mask may be grey, colour, palette or 1-bit: whatever is not black is a defect.
        image_size: Side S of the network input, in pixels.

    Returns:
        (S, S) bool, True on the defect; all False for a good part.

    Raises:
        ValueError: A defective part has no mask, its size is not its image's, or it cannot be read.
    """
    if sample.label == 0:
        return np.zeros((image_size, image_size), np.bool_)
    if sample.mask is None:
        raise ValueError(f"{sample.path}: is defective and has no mask; learn from a data set with masks")
    check_mask_size(sample)
    marked = _read_grey(sample.mask) > 0  # (H, W): data sets store 0/1, class indices or 0/255
    grey = Image.fromarray(marked.astype(np.uint8) * 255)
    resized = grey.resize((image_size, image_size), Image.Resampling.BILINEAR)  # antialiased
    return np.asarray(resized) > 127


def check_mask_size(sample: Sample) -> None:
    """Compare a mask's size with its image's, from the headers alone."""
    if sample.mask is None:
        return
    with _open(sample.path) as image, _open(sample.mask) as mask:
        if image.size != mask.size:
            raise ValueError(
                f"{sample.mask}: is {mask.width}x{mask.height} and its image {sample.path} is "
                f"{image.width}x{image.height}; use the mask drawn on that image"
            )


def _open(path: Path) -> Picture:
    try:
        return Image.open(path)
    except OSError as error:
        raise ValueError(f"{path}: is not an image that can be read; replace it") from error


def _read_grey(path: Path) -> npt.NDArray[np.uint8]:
    with _open(path) as picture:
        try:
            return np.asarray(picture.convert("L"))  # (H, W)
        except OSError as error:
            raise ValueError(f"{path}: is damaged ({error}); replace it") from error


def _recognise(root: Path) -> tuple[str, list[Sample]]:
    for layout in LAYOUTS:
        samples = layout.read(root)
        if samples is not None:
            return layout.name, samples
    sought = "; ".join(layout.looks_like for layout in LAYOUTS)
    raise ValueError(f"{root}: is laid out in no known way; arrange it as one of: {sought}")


def _check_files(root: Path, samples: list[Sample]) -> None:
    files = {path for sample in samples for path in (sample.path, sample.mask) if path is not None}
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{root}: lacks {_names(root, missing)}; download or unpack it again")


def _check_masks(root: Path, samples: list[Sample]) -> bool:
    """Whether there are masks; some without others would count unmarked defects as good pixels."""
    bad = [sample for sample in samples if sample.label]
    unmarked = [sample.path for sample in bad if sample.mask is None]
    if 0 < len(unmarked) < len(bad):
        raise ValueError(
            f"{root}: {len(unmarked)} of {len(bad)} defective parts have no mask ({_names(root, unmarked)}); "
            f"add theirs, or remove all masks"
        )
    return bool(bad) and not unmarked


def _names(root: Path, paths: list[Path]) -> str:
    return shorten(str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths)


def _extensions() -> str:
    return ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
