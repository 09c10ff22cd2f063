"""Black pictures, white ones, and one part that was taken many times are told from good images of many parts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from graphs import drawn_frame

from acl_runtime.calibration.pictures import find_near_copies, look_at


def texture(seed: int, *, part: int = 0) -> np.ndarray:
    """(240, 320, 3) uint8: a product with a texture of its own; `part` moves it a little."""
    noise = np.random.default_rng(seed).normal(size=(15, 20)).astype(np.float32)
    large = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    moved = np.roll(large, part, axis=1)
    return np.repeat(np.clip(128 + 40 * moved, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def shoot_again(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same part, with the noise of a sensor and a lamp that flickers."""
    noisy = frame * rng.normal(1, 0.02) + rng.normal(0, 3, frame.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_shots_of_one_part_are_copies_of_the_first() -> None:
    rng = np.random.default_rng(0)
    frames = [shoot_again(texture(seed), rng) for seed in (1, 2, 1, 1, 3, 2)]
    assert find_near_copies([look_at(frame) for frame in frames]) == {2: 0, 3: 0, 5: 1}


def test_different_parts_are_no_copies() -> None:
    drawn = [look_at(drawn_frame(seed)) for seed in range(100)]
    textures = [look_at(texture(seed)) for seed in range(100)]
    assert find_near_copies(drawn + textures) == {}
    assert find_near_copies([look_at(texture(0, part=pixels)) for pixels in (0, 3, 6)]) == {}
    assert find_near_copies([]) == {}


@pytest.mark.parametrize("level", [0, 128, 255])
def test_pictures_of_nothing_but_noise_are_copies_of_each_other(level: int) -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(level + rng.normal(0, 2, (180, 240)), 0, 255).astype(np.uint8) for _ in range(5)]
    assert find_near_copies([look_at(frame) for frame in frames]) == dict.fromkeys(range(1, 5), 0)


def test_black_and_white_pictures_are_told_from_dark_and_bright_ones() -> None:
    def tell(frame: np.ndarray) -> tuple[bool, bool]:
        picture = look_at(frame)
        return picture.is_black, picture.is_white

    rng = np.random.default_rng(0)
    noise = np.abs(rng.normal(0, 1.5, (300, 400))).astype(np.uint8)
    assert tell(noise) == (True, False)
    assert tell(255 - noise) == (False, True)
    assert tell(np.full((60, 80), 4000, np.uint16)) == (False, False)  # 6 % of white
    assert tell(np.full((60, 80), 1023, np.uint16)) == (True, False)  # 10 bits in 16
    assert tell((texture(0) * 0.2).astype(np.uint8)) == (False, False)  # a dark part
    scratched = noise.copy()
    scratched[::20] = 90  # dark field: bright lines on black
    assert tell(scratched) == (False, False)
    backlit = np.full((300, 400, 4), 255, np.uint8)
    backlit[100:200, 100:200, :3] = 10  # a part before a lamp
    assert tell(backlit) == (False, False)
