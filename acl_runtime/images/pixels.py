"""From what a file stores to a frame: modes, bits, orientation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFile

from acl_runtime.files.errors import FrameError

NEARLY_BLACK = 4096  # of 65535: pixels of 12 bits or fewer in 16 stay below it
_ORIENTATION, _WIDTH, _HEIGHT, _BITS, _PLANAR, _SAMPLE_FORMAT = 274, 256, 257, 258, 284, 339  # tags


def orientation_of(image: Image.Image) -> int:
    """The orientation tag, 1 to 8; 1 where there is none."""
    found = image.getexif().get(_ORIENTATION)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def frame_size(image: Image.Image, *, exif: bool) -> tuple[int, int]:
    """Width and height that the frame of an opened file has, from its header alone.

    Args:
        image: From `open_image`, before its pixels were used.
        exif: Whether it is turned as its orientation tag says.
    """
    tags = getattr(image, "tag_v2", {})  # TIFF: Pillow tells the size after turning, in some versions
    width, height = tags.get(_WIDTH, image.width), tags.get(_HEIGHT, image.height)
    return (height, width) if exif and orientation_of(image) >= 5 else (width, height)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored (H, W[, C]) pixels as the orientation tag says."""
    turned = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }
    return np.asarray(turned.get(orientation, pixels))


def turn_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo `turn`."""
    return turn(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def is_16_bit(image: ImageFile.ImageFile) -> bool:
    """Whether a file that was opened and not yet decoded stores 16 bits a sample whose range nothing tells."""
    return ";16" in _raw_mode(image) or image.mode.startswith("I;16")


def declared_bits(image: ImageFile.ImageFile) -> int | None:
    """Significant bits of 16 by TIFF's BitsPerSample or PNG's sBIT; None where the file does not say fewer."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, (1,))[0]  # type: ignore[attr-defined]
    elif image.format == "PNG" and is_16_bit(image):
        bits = _png_significant_bits(image)
    else:
        return None
    return bits if bits is not None and 8 <= bits < 16 and image.mode in ("I", "I;16", "I;16B") else None


def expand(image: Image.Image, path: Path | str) -> np.ndarray:
    """The pixels of a decoded image.

    Returns:
        (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGRA; uint8, or uint16 for 16-bit grey.
    """
    mode = image.mode
    is_grey16 = mode.startswith("I;16") or (
        mode == "I" and image.format in ("PNG", "PPM")
    )  # "I": PGM, older Pillow
    if is_grey16:
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        raise FrameError(
            f"{path}: {_sample_words(image)} pixels have no known range: 8 or 16 bits are needed, unsigned"
        )
    if mode in ("1", "L"):
        return np.asarray(image if mode == "L" else image.convert("L"))
    if mode == "La":
        image = image.convert("LA")
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or (mode == "P" and "transparency" in image.info)
    wanted, order = ("RGBA", cv2.COLOR_RGBA2BGRA) if has_alpha else ("RGB", cv2.COLOR_RGB2BGR)
    return cv2.cvtColor(np.asarray(image if image.mode == wanted else image.convert(wanted)), order)


def widen(upper: np.ndarray, data: bytes, path: Path | str) -> np.ndarray:
    """All 16 bits of colour, of which Pillow gives the upper 8.

    Args:
        upper: (H, W, 3|4) uint8, what Pillow made of the file.
        data: The file.
        path: For the error.

    Returns:
        (H, W, 3|4) uint16.
    """
    wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if wide is None or wide.dtype != np.uint16 or not np.array_equal(np.right_shift(wide, 8), upper):
        raise FrameError(
            f"{path}: the lower bits of its 16-bit colours cannot be read; save it as grey, or as 8 bits"
        )
    return wide


def to_full_scale(pixels: np.ndarray, bits: int, path: Path | str) -> np.ndarray:
    """Shift uint16 pixels of fewer significant bits to the top of 16."""
    highest = int(pixels.max())
    if highest >> bits:
        needed = highest.bit_length()
        raise FrameError(
            f"{path}: holds {highest}, which takes {needed} bits, not {bits}; give --bits {needed} or more"
        )
    return pixels << (16 - bits)


def is_at_the_top(pixels: np.ndarray, bits: int) -> bool:
    """Whether uint16 pixels use the whole range, as PNG wants them: `bits` at the top, the rest 0 or repeated."""
    below = pixels & ((1 << (16 - bits)) - 1)
    return bool(
        int(pixels.max()) >> bits
        or not below.any()
        or np.array_equal(below, np.asarray(pixels, np.uint16) >> bits)
    )


def refuse_planar_colour(image: ImageFile.ImageFile, path: Path | str) -> None:
    """Raise FrameError for an uncompressed TIFF of 16-bit colours one after another: Pillow makes noise of it."""
    tags = getattr(image, "tag_v2", {})
    is_raw = (
        bool(image.tile) and image.tile[0][0] == "raw"
    )  # libtiff, which reads compressed ones, does it right
    if is_raw and tags.get(_PLANAR, 1) == 2 and len(tags.get(_BITS, (1,))) > 1 and max(tags[_BITS]) > 8:
        raise FrameError(
            f"{path}: stores each of its 16-bit colours as a plane, which is not read; save it as PNG, or with "
            "interleaved colours"
        )


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the decoder finds the samples, such as "RGB;16B"."""
    arguments = image.tile[0][3] if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _png_significant_bits(image: ImageFile.ImageFile) -> int | None:
    """PNG's sBIT of a grey picture, which Pillow passes over."""
    assert image.fp is not None
    position, found = image.fp.tell(), None
    image.fp.seek(8)
    while (head := image.fp.read(8))[4:] not in (b"IDAT", b""):
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"sBIT":
            found = image.fp.read(1)[0]
            break
        image.fp.seek(length + 4, 1)
    image.fp.seek(position)
    return found


def _sample_words(image: Image.Image) -> str:
    """What its samples are, such as "signed 16-bit"."""
    tags = getattr(image, "tag_v2", {})
    form = tags.get(_SAMPLE_FORMAT, (1,))[0]
    bits = tags.get(_BITS, (32,))[0]
    kind = "floating-point" if image.mode == "F" else "signed" if form == 2 else ""
    return f"{kind} {bits}-bit".strip()
