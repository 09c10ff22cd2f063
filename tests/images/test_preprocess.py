"""The network's input equals that of the published code, whatever kind of picture comes in."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import tiny_manifest
from PIL import Image

import acl_runtime.images.preprocess as preprocess_module
from acl_runtime.images.decode import load_frame
from acl_runtime.images.preprocess import preprocess, to_bgr, to_image

FIXTURES = Path(__file__).parents[1] / "golden" / "fixtures"
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def random_frame(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_it_equals_the_published_code(mode: str) -> None:
    frame = load_frame(FIXTURES / "modes" / f"{mode}.png")
    images = preprocess([frame], image_size=70)
    normalized = (images[0].astype(np.float32) / 255 - MEAN) / STD  # (S, S, 3)
    expected = np.load(FIXTURES / "preprocess_modes.npz")[f"{mode}_70"]
    np.testing.assert_allclose(normalized.transpose(2, 0, 1), expected, rtol=0, atol=1e-6)


def test_frames_of_all_kinds_and_sizes_make_one_batch() -> None:
    frames = [
        random_frame(90, 120, 3),
        random_frame(30, 500),
        random_frame(1, 1, 4),
        random_frame(64, 64, dtype="uint16"),
        random_frame(40, 50, 3, dtype="uint16"),
    ]
    images = preprocess(frames, image_size=56)
    assert images.shape == (5, 56, 56, 3)
    assert images.dtype == np.uint8
    for image, frame in zip(images, frames, strict=True):
        np.testing.assert_array_equal(image, preprocess([frame], image_size=56)[0])


def test_blue_and_red_trade_places() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[..., 0] = 200  # blue
    np.testing.assert_array_equal(preprocess([frame], image_size=4)[0, 0, 0], [0, 0, 200])


def test_sixteen_bits_give_their_upper_eight() -> None:
    frame = random_frame(60, 80, dtype="uint16")
    upper = (frame // 256).astype(np.uint8)
    np.testing.assert_array_equal(preprocess([frame], image_size=56), preprocess([upper], image_size=56))


def test_transparent_pixels_do_not_bleed_into_their_neighbours() -> None:
    frame = random_frame(60, 80, 4)
    rgba = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2RGBA))
    expected = rgba.resize((28, 28), Image.Resampling.BICUBIC).convert("RGB")
    np.testing.assert_array_equal(preprocess([frame], image_size=28)[0], np.asarray(expected))


def test_a_view_into_a_larger_picture_is_fine() -> None:
    frame = random_frame(90, 120, 3)[::2, 10:70][:, ::-1]
    np.testing.assert_array_equal(
        preprocess([frame], image_size=28), preprocess([frame.copy()], image_size=28)
    )


@pytest.mark.parametrize(
    "shape", [(1 << 18, 2), (2, 1 << 18, 3), (1, 1 << 19), (3, 1 << 18), (1 << 19, 1, 3)]
)
def test_large_frames_thinner_than_the_strips_are_squashed_like_any_other(shape: tuple[int, ...]) -> None:
    frame = np.full(shape, 77, np.uint8)
    np.testing.assert_array_equal(preprocess([frame], image_size=28), np.full((1, 28, 28, 3), 77))


@pytest.mark.parametrize("shape", [(56, 56, 3), (56, 56)])
def test_a_tile_of_the_networks_size_is_cut_out_and_not_resized(shape: tuple[int, ...]) -> None:
    frame = random_frame(120, 200, *shape[2:])
    tile = frame[10:66, 90:146]

    def refuse(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        raise AssertionError("it was resized")

    image = to_image(tile, tiny_manifest(), refuse)
    assert image.flags.c_contiguous, "copied once, and not backwards pixel by pixel"
    expected = np.asarray(Image.fromarray(tile).convert("RGB").resize((56, 56), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(image, expected[:, :, ::-1])
    assert not np.shares_memory(image, frame), "a camera may use its memory again"


def test_a_child_resizes_with_threads_of_its_own() -> None:
    """After a fork the parent's threads are not there, and to wait for them would be for ever."""
    large = random_frame(1024, 1024, 3)
    expected = preprocess([large], image_size=28)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if np.array_equal(preprocess([large], image_size=28), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_any_frame_can_be_drawn_on_without_changing_it(shape: tuple[int, ...], dtype: str) -> None:
    frame = random_frame(*shape, dtype=dtype)
    before = frame.copy()
    picture = to_bgr(frame)
    assert picture.shape == (6, 8, 3)
    picture[:] = 0
    np.testing.assert_array_equal(frame, before)


ANY_PILLOW = "f8fc9283633c6c5a"  # Pillow 12.0, 12.3 and 13.0 gave the same


def test_frames_of_any_shape_give_the_same_pixels_with_every_pillow() -> None:
    """200 random frames, grey, BGR and BGRA; asked for both axes at once, Pillow 12 and 13 differ."""
    random, digest = np.random.default_rng(0), hashlib.sha256()
    for _ in range(200):
        height, width = random.integers(1, 700, 2)
        channels, side = random.integers(0, 3), int(random.integers(20, 300))
        shape = ((height, width), (height, width, 3), (height, width, 4))[channels]
        frame = random.integers(0, 256, shape).astype(np.uint8)
        digest.update(preprocess([frame], image_size=side).tobytes())
    assert digest.hexdigest()[:16] == ANY_PILLOW


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (2400, 300), (300, 2400), (1000, 999)])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_a_large_frame_in_strips_is_what_pillow_makes_of_the_whole(
    height: int, width: int, channels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    frame = np.random.default_rng(height).integers(0, 256, shape, dtype=np.uint8)
    in_strips = preprocess([frame], image_size=98)
    monkeypatch.setattr(preprocess_module, "LARGE_PIXELS", height * width + 1)
    np.testing.assert_array_equal(in_strips, preprocess([frame], image_size=98))
    picture = Image.fromarray(frame)
    for size in ((98, height), (98, 98)) if height <= 2 * width else ((width, 98), (98, 98)):
        picture = picture.convert("RGBa" if channels == 4 else picture.mode).resize(
            size, Image.Resampling.BICUBIC
        )
    if channels == 4:
        picture = picture.convert("RGBA")
    np.testing.assert_array_equal(in_strips[0], np.asarray(picture.convert("RGB"))[:, :, ::-1])
