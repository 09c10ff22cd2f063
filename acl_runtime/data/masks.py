"""Ground-truth masks: read, cut as their picture is, and resized as the published code resizes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from acl_runtime.data.samples import Sample, mask_files
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import ReadSettings, load_frame, open_image
from acl_runtime.images.pixels import frame_size, orientation_of

Marked = npt.NDArray[np.bool_]


def load_mask(
    sample: Sample, *, height: int, width: int, above: int = 0, settings: ReadSettings | None = None
) -> Marked:
    """Return the ground truth at another size; at the network's, to the pixel as the published code makes it.

    Args:
        sample: Its mask may be grey, colour, palette or 1-bit, or a folder of such files.
        height: Height of the result, in pixels; the network's input is square.
        width: Width of the result, in pixels.
        above: Grey level, 0 to 254, above which a pixel of the mask is a defect. Masks hold 0/1, class indices
            or 0/255, so 0 is right; those kept as JPEG hold noise too, and 127 leaves the clear pixels.
        settings: How pictures are read: whether they are turned, and how many pixels they may have.

    Returns:
        (height, width) bool, True on the defect; all False for a good part.

    Raises:
        InputError: A defective part has no mask, or the mask's size is not its image's.
        FrameError: The mask cannot be read.
    """
    if sample.label == 0:
        check_above(above)
        return np.zeros((height, width), np.bool_)
    return shrink(read_marked(sample, above=above, settings=settings), height=height, width=width)


def read_marked(sample: Sample, *, above: int = 0, settings: ReadSettings | None = None) -> Marked:
    """Return the ground truth of a defective part at its picture's own size, (H, W) bool; see `load_mask`."""
    check_above(above)
    if sample.mask is None:
        raise InputError(f"{sample.path}: is defective and has no mask; learn from a data set with masks")
    check_mask_size(sample, settings)
    marks = [read_grey(file, settings) > above for file in mask_files(sample.mask)]  # (H, W) each
    marked = np.logical_or.reduce(marks)
    return np.asarray(marked if sample.rows is None else marked[slice(*sample.rows)])


def shrink(marked: Marked, *, height: int, width: int) -> Marked:
    """Resize ground truth as the published code does: a pixel of the result is marked if more than half of it is."""
    grey = Image.fromarray(marked.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR)) > 127  # antialiased


def check_above(above: int) -> None:
    """Refuse a grey level above which there could be no defect."""
    if not 0 <= above <= 254:
        raise InputError(f"above must be a grey level from 0 to 254, got {above}")


def check_mask_size(sample: Sample, settings: ReadSettings | None = None) -> None:
    """Compare a mask's size with its image's, from the headers alone."""
    settings = settings or ReadSettings()
    for file in [] if sample.mask is None else mask_files(sample.mask):
        (width, height), of_mask = (_size(path, settings) for path in (sample.path, file))
        if of_mask != (width, height):
            raise InputError(
                f"{file}: is {of_mask[0]}x{of_mask[1]} and its image {sample.path} is {width}x{height}; use the mask "
                "drawn on that image"
            )


def orientation_of_file(path: Path) -> int:
    """Return the orientation tag of an image file, 1 to 8; 1 where there is none."""
    with open_image(path) as image:
        return orientation_of(image)


class _ForMasks(ReadSettings):
    """All bits of a mask count, and what is unusual about one is told by `check_masks`."""

    def note(self, kind: str, message: str) -> None:
        """Say nothing."""


def read_grey(path: Path, settings: ReadSettings | None = None) -> npt.NDArray[np.uint8]:
    """Return a mask's grey levels, (H, W) uint8; what is transparent is black, and more bits are cut off at 255.

    Args:
        path: Of the mask.
        exif: Whether it is turned as its own orientation tag says.

    Raises:
        FrameError: It is not an image, or is damaged.
    """
    given = settings or ReadSettings()
    settings = _ForMasks(bits=16, exif=given.exif, max_megapixels=given.max_megapixels)
    with open_image(path, max_megapixels=settings.max_megapixels) as image:
        if (
            image.mode in ("I", "F") and image.format == "TIFF"
        ):  # label maps may have 32 bits, which no frame may
            pixels = np.nan_to_num(np.ceil(np.asarray(image)))
        else:
            pixels = load_frame(path, settings)
    if pixels.dtype != np.uint8:
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    if pixels.ndim == 2:
        return np.asarray(pixels, np.uint8)
    color = Image.fromarray(np.ascontiguousarray(pixels[:, :, 2::-1]))  # RGB
    if pixels.shape[2] == 4:
        black = Image.new("RGB", color.size)
        color = Image.composite(color, black, Image.fromarray(np.ascontiguousarray(pixels[:, :, 3])))
    return np.asarray(color.convert("L"))


def _size(path: Path, settings: ReadSettings) -> tuple[int, int]:
    """Width and height of the frame that a file becomes."""
    with open_image(path, max_megapixels=settings.max_megapixels) as image:
        return frame_size(image, exif=settings.exif)
