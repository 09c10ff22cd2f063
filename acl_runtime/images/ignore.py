"""Parts of a frame that do not count, such as a fixture or a printed date: per product, at one frame size.

They are painted over before the network sees the frame, in the colour that its normalisation makes zero, so that
nothing there moves a verdict; on the map they are 0, and a memory neither remembers nor judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.bundle.bundle import Bundle, calibration_file
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BundleError, FrameError, InputError

MOST = 0.5  # share of a patch, or of a map's pixel, under the mask from which all of it is ignored


@dataclass(frozen=True, eq=False)
class Ignore:
    """What does not count."""

    mask: npt.NDArray[np.bool_]  # (H, W), True where pixels do not count
    color: tuple[float, float, float]  # BGR in 0..1, to paint them with

    def check_size(self, height: int, width: int) -> None:
        """Raise FrameError unless frames have the mask's size."""
        if self.mask.shape != (height, width):
            wanted = f"{self.mask.shape[1]}×{self.mask.shape[0]}"
            raise FrameError(
                f"frame must be {wanted} pixels, as the mask of what is ignored, got {width}×{height}; calibrate with "
                "a mask of that size"
            )

    def paint(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame of the mask's size, painted over where it does not count; in its shape and type."""
        full = 255 if frame.dtype == np.uint8 else 65535
        color = np.array(self.color) * full
        painted = np.array(frame)
        if frame.ndim == 2:
            painted[self.mask] = round(float(color.mean()))
        else:
            painted[self.mask] = [*np.rint(color), full][: frame.shape[2]]
        return painted

    def on_map(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Return which pixels of a map of the whole frame do not count, (height, width)."""
        return _shrink(self.mask, height, width)


def on_patches(mask: npt.NDArray[np.bool_], grid: int) -> npt.NDArray[np.bool_]:
    """Return which patches of an image do not count, (G, G); the mask is the image's, a whole frame's or a tile's."""
    return _shrink(mask, grid, grid)


def load_ignore(bundle: Bundle) -> Ignore | None:
    """Return what a bundle's thresholds were measured without; None where all of a frame counts."""
    name = bundle.manifest.calibration.ignore
    if name is None:
        return None
    path = calibration_file(bundle, name)
    mask = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise BundleError(f"{path}: must be a grey PNG of 8 bits; calibrate again")
    return make_ignore(mask > 0, bundle.manifest, str(path))


def make_ignore(mask: npt.NDArray[np.bool_], manifest: Manifest, name: str) -> Ignore:
    """Return what does not count, given a mask, (H, W), and whose it is.

    Raises:
        InputError: Nothing is left.
    """
    if mask.all():
        raise InputError(f"{name}: ignores the whole frame, nothing is left to judge; make black what counts")
    red, green, blue = manifest.preprocessing.mean
    mask = mask.copy()
    mask.setflags(write=False)
    return Ignore(mask, (blue, green, red))


def read_ignore(options: Sequence[str], manifest: Manifest, height: int, width: int) -> Ignore:
    """Return what a user wants ignored, in frames of a size.

    Args:
        options: Each a picture of the frames' size that is white where pixels do not count, or the corners of a polygon
            in pixels, "x,y x,y x,y"; together they add up.
        manifest: Of the bundle.
        height: Of the frames.
        width: Of the frames.

    Raises:
        InputError: One is neither, or has another size, or nothing is left.
    """
    mask = np.zeros((height, width), np.bool_)
    for option in options:
        mask |= (
            _read_picture(option, height, width)
            if Path(option).is_file()
            else _polygon(option, height, width)
        )
    if not mask.any():
        raise InputError(
            f"{', '.join(options)}: ignores nothing; leave --ignore out, or make white what does not count"
        )
    return make_ignore(mask, manifest, ", ".join(options))


def save_ignore(path: Path, ignore: Ignore) -> None:
    """Write a mask into a bundle, atomically; it is in force once the manifest names it."""
    done, data = cv2.imencode(".png", ignore.mask.astype(np.uint8) * 255)
    assert done
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _read_picture(name: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    picture = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise InputError(f"{name}: is no picture that can be read; save the mask as PNG")
    if picture.shape != (height, width):
        raise InputError(
            f"{name}: must be {width}×{height} pixels, as the frames are, got {picture.shape[1]}×{picture.shape[0]}; "
            "draw the mask on a frame of this camera"
        )
    return np.asarray(picture >= 128)


def _polygon(option: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    try:
        corners = [tuple(int(number) for number in corner.split(",")) for corner in option.split()]
    except ValueError:
        corners = []
    if len(corners) < 3 or any(len(corner) != 2 for corner in corners):
        raise InputError(
            f"--ignore must be the file of a mask or the corners of a polygon, such as '0,0 200,0 200,80 0,80', got "
            f"{option!r}"
        )
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.array(corners, np.int32)], 1)
    if not mask.any():
        raise InputError(f"{option}: lies outside of frames of {width}×{height} pixels; give x,y in pixels")
    return mask > 0


def _shrink(mask: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    cover = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cover >= MOST)
