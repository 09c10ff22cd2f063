"""Frames from images, folders, videos and cameras."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from acl_runtime.text.names import natural_key

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".jp2")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_DECODING = (  # what Pillow's decoders raise on damaged files, beside the documented OSError
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class Source:
    """An image file, a video file or a camera."""

    path: str  # as the user named it, or below the folder that the user named; a number for a camera
    name: PurePath  # what to call its results, below the folder of all the sources; without suffix if unique

    @property
    def is_camera(self) -> bool:
        """Whether the path is a camera's number."""
        return self.path.isdecimal() and not Path(self.path).exists()

    @property
    def is_video(self) -> bool:
        """Whether frames come from a video file or a camera."""
        return self.is_camera or Path(self.path).suffix.lower() in VIDEOS


@dataclass(frozen=True)
class Frame:
    """A picture and where it is from."""

    source: str
    index: int  # position in its video or camera stream; 0 for an image
    name: PurePath  # what to call its results, without suffix
    frame: np.ndarray  # (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey; uint8 or uint16


@dataclass(frozen=True)
class BadFrame:
    """A file that is no picture, or a stream that broke; the frames after it are not lost."""

    source: str
    index: int
    problem: str


def list_sources(paths: Sequence[Path | str]) -> list[Source]:
    """What there is to look at: a folder becomes the images below it, in natural order (2 before 10).

    Hidden files and folders and linked folders inside a folder are passed over. Results are named after the file,
    relative to the deepest folder that holds all of `paths`; files that differ in their suffix only keep it.

    Args:
        paths: Image files, video files, folders, and camera numbers such as "0".

    Raises:
        FileNotFoundError: One of the paths does not exist.
        ValueError: A folder holds no images.
    """
    roots = [os.path.abspath(path if os.path.isdir(path) else Path(path).parent) for path in paths]
    common = os.path.commonpath(roots) if roots else ""
    files = [file for path in paths for file in _expand(str(path))]
    relative = [PurePath(os.path.relpath(os.path.abspath(file), common)) for file in files]
    uses = Counter(name.with_suffix("") for name in set(relative))
    stems = [name.with_suffix("") for name in relative]
    named = zip(files, relative, stems, strict=True)
    return [Source(file, stem if uses[stem] == 1 else full) for file, full, stem in named]


def iter_frames(sources: Iterable[Source]) -> Iterator[Frame | BadFrame]:
    """The frames of all sources, in order; what cannot be read comes as a BadFrame in its place."""
    for source in sources:
        if source.is_video:
            yield from _stream(source)
            continue
        try:
            yield Frame(source.path, 0, source.name, load_frame(source.path))
        except (ValueError, OSError) as error:
            yield BadFrame(source.path, 0, str(error))


def load_frame(path: Path | str) -> np.ndarray:
    """Read an image file as the published code does, where that is sane.

    The EXIF orientation is ignored, because ground-truth masks are drawn on the file's own pixels. Palette
    and 1-bit images are expanded first; the published code resizes them by nearest neighbour. 16-bit grey
    stays 16 bits; the published code clips it to white. Of several pictures in a file, the first counts.

    Returns:
        (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8; (H, W) uint16 for 16-bit grey.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not a picture, or is cut short.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file; check the name")
    data = Path(path).read_bytes()
    if not data:
        raise ValueError(f"{path}: is empty; save the image again")
    try:
        pixels = _decode(data)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: is not an image; remove it, or save it as PNG or JPEG") from error
    except _DECODING as error:
        raise ValueError(f"{path}: cannot be decoded ({_one_line(error)}); save the image again") from error
    if pixels.ndim == 2:
        return pixels
    return np.ascontiguousarray(pixels[:, :, (2, 1, 0, 3)[: pixels.shape[2]]])


def _decode(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata and large pictures; damaged pixels raise
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "PNG":
                _check_sums(data)
            image.load()
            return _expand_mode(image)


def _check_sums(data: bytes) -> None:
    """Raise SyntaxError for a PNG whose checksums are wrong: decoding passes over those of the pixels."""
    with Image.open(io.BytesIO(data)) as image:
        image.verify()


def _expand_mode(image: Image.Image) -> np.ndarray:
    """(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, or uint16 for 16-bit grey."""
    mode = image.mode
    if mode.startswith("I;16") or (
        mode == "I" and image.format == "PNG"
    ):  # older Pillow calls PNG's 16 bits "I"
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        raise ValueError(f"32-bit pixels, mode {mode}, have no known range: 8 or 16 bits are needed")
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or (mode == "P" and "transparency" in image.info)
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _expand(path: str) -> list[str]:
    """The files to read for one argument."""
    if os.path.isdir(path):
        return _list_images(path)
    if not os.path.exists(path) and not path.isdecimal():
        raise FileNotFoundError(f"{path}: no such file or folder; check the name")
    return [path]


def _list_images(folder: str) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (file for file in files if file.lower().endswith(IMAGES) and not file.startswith("."))
        found += [os.path.join(parent, file) for file in images]
    if not found:
        raise ValueError(f"{folder}: holds no images ({' '.join(IMAGES)}); name a folder of images")
    return sorted(found, key=lambda path: [natural_key(part) for part in PurePath(path).parts])


def _stream(source: Source) -> Iterator[Frame | BadFrame]:
    """Frames of a video until its end, or of a camera until it stops."""
    capture = cv2.VideoCapture(int(source.path) if source.is_camera else source.path)
    index = 0
    try:
        while capture.isOpened():
            ok, frame = capture.read()
            if not ok:
                break
            prefix = f"camera{source.path}" if source.is_camera else source.name.name
            yield Frame(source.path, index, source.name.with_name(f"{prefix}_{index:06d}"), frame)
            index += 1
    finally:
        capture.release()
    if source.is_camera:
        yield BadFrame(
            source.path, index, f"camera {source.path}: gives no frame; check that it is connected"
        )
    elif index == 0:
        yield BadFrame(source.path, 0, f"{source.path}: no frame can be decoded; save the video again")


def _raise(error: OSError) -> None:
    raise error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
