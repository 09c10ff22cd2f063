"""The flat field takes lens, lamp and sensor out of the lines, and names the pixels that it cannot."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from acl_runtime.files.errors import InputError
from acl_runtime.web.flat_field import FlatField, load_flat_field
from acl_runtime.web.reference import Kind, Reference, ReferenceTaker, load_reference, save_reference

W = 300
DTYPES = [np.uint8, np.uint16]
SETTINGS = [("ExposureTime", "20"), ("Gain", "2")]


class Camera:
    """Pixels with offset, shading and noise, of one type."""

    def __init__(self, dtype: type, channels: int = 1) -> None:
        self.rng, self.dtype = np.random.default_rng(0), dtype
        self.full = int(np.iinfo(dtype).max)
        shape = (W,) if channels == 1 else (W, channels)
        self.offset = self.rng.uniform(0.0, 0.04, shape) * self.full
        shade = 1 - 0.6 * np.linspace(-1, 1, W).reshape(-1, *[1] * (len(shape) - 1)) ** 2
        self.response = shade * self.rng.uniform(0.9, 1.1, shape)

    def look(self, light: float, lines: int = 500) -> np.ndarray:
        """Lines of an even surface; light 0 to 1."""
        clean = self.offset + light * 0.8 * self.full * self.response
        noisy = clean + self.rng.normal(0, 0.004 * self.full, (lines, *clean.shape))
        return np.clip(np.rint(noisy), 0, self.full).astype(self.dtype)

    def reference(self, kind: Kind, light: float) -> Reference:
        """What `acl camera reference` takes."""
        taker = ReferenceTaker(kind, source="drawn:1", settings=SETTINGS)
        for _ in range(4):
            taker.add(self.look(light))
        return taker.reference(datetime(2026, 11, 27, tzinfo=timezone.utc))


def references(dtype: type = np.uint8, channels: int = 1) -> tuple[Camera, Reference, Reference]:
    camera = Camera(dtype, channels)
    return camera, camera.reference("dark", 0.0), camera.reference("bright", 0.9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_even_surface_is_even_afterwards(dtype: type, channels: int) -> None:
    camera, dark, bright = references(dtype, channels)
    correct = FlatField(dark, bright, target=0.6 * camera.full)
    for light in (0.0, 0.45, 0.9):
        lines = camera.look(light)
        flat = correct(lines)
        assert flat.dtype == dtype
        assert flat.shape == lines.shape
        want = 0.6 * camera.full * light / 0.9
        clipped = 0.004 * camera.full if light == 0 else 0  # half the noise is below black
        np.testing.assert_allclose(flat.mean(axis=0), want, atol=0.004 * camera.full + clipped)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("height", [1, 64, 65, 500])
def test_it_is_the_formula_whatever_the_block_s_height(dtype: type, height: int) -> None:
    camera, dark, bright = references(dtype)
    lines = camera.look(0.7, height)
    target = np.median(bright.mean - dark.mean)
    above = lines.astype(np.float64) - dark.mean
    want = np.clip(above * target / (bright.mean - dark.mean), 0, camera.full)
    correct = FlatField(dark, bright)
    np.testing.assert_allclose(correct(lines), want, atol=0.51)
    out = lines.copy()
    assert correct(out, out=out) is out
    np.testing.assert_array_equal(out, correct(lines))


def test_too_bright_is_white_and_not_black() -> None:
    _, dark, bright = references()
    flat = FlatField(dark, bright, target=250.0)(np.full((1, W), 255, np.uint8))
    assert flat.min() == 255


def test_a_reference_is_a_file_that_says_how_it_was_taken(tmp_path: Path) -> None:
    camera, dark, bright = references(np.uint16, 3)
    for reference in (dark, bright):
        path = save_reference(tmp_path / "flat", reference)
    assert json.loads(path.read_text()) == {
        "format": "acl-flat-field",
        "format_version": 1,
        "kind": "bright",
        "created": "2026-11-27T00:00:00+00:00",
        "source": "drawn:1",
        "settings": ["ExposureTime=20", "Gain=2"],
        "lines": 2000,
        "full_scale": 65535,
    }
    again = load_reference(tmp_path / "flat", "bright")
    np.testing.assert_array_equal(again.mean, bright.mean)
    assert again.facts == bright.facts
    lines = camera.look(0.5)
    np.testing.assert_array_equal(load_flat_field(tmp_path / "flat")(lines), FlatField(dark, bright)(lines))


def changed(reference: Reference, pixels: list[int], value: float) -> Reference:
    mean = reference.mean.copy()
    mean[pixels] = value
    return Reference(mean, reference.facts)


def test_pixels_that_cannot_be_corrected_are_named() -> None:
    _, dark, bright = references()
    dead = changed(bright, [3, 17, 18, 19, 250], 5.0)
    with pytest.raises(InputError, match=r"^5 pixels see no light \(3, 17-19, 250\); clean lens and glass"):
        FlatField(dark, dead)
    with pytest.raises(InputError, match=r"^1 pixels are bright in the dark \(9\); cover the lens"):
        FlatField(changed(dark, [9], 90.0), changed(bright, [9], 200.0))
    with pytest.raises(
        InputError, match=r"^7 pixels need a gain above 4 \(0, 20, 40, 60, 80 and 2 more places\)"
    ):
        FlatField(dark, changed(bright, list(range(0, 121, 20)), 25.0))
    FlatField(dark, changed(bright, [0, 1, 299], 1.0), columns=range(2, 299))


def test_beside_the_web_pixels_stay_as_they_are() -> None:
    camera, dark, bright = references()
    lines = camera.look(0.5)
    flat = FlatField(dark, changed(bright, [0], 0.0), columns=range(1, W))(lines)
    np.testing.assert_array_equal(flat[:, 0], lines[:, 0])
    assert not np.array_equal(flat[:, 1], lines[:, 1])


def test_a_reference_in_the_wrong_light_is_refused_at_once() -> None:
    camera = Camera(np.uint8)
    with pytest.raises(InputError, match="half the pixels are above .* of 255 in the dark; cover the lens"):
        camera.reference("dark", 0.9)
    with pytest.raises(InputError, match="half the pixels are below .* of 255; switch the lamp on"):
        camera.reference("bright", 0.0)
    with pytest.raises(InputError, match="pixels are saturated .*; expose shorter, or dim the lamp, until"):
        camera.reference("bright", 1.5)
    with pytest.raises(InputError, match="drawn:1: gave no complete line"):
        ReferenceTaker("dark", source="drawn:1").reference()


def test_references_that_do_not_belong_together_are_refused() -> None:
    _, dark, bright = references()
    with pytest.raises(InputError, match="are of other lines"):
        FlatField(references(np.uint16)[1], bright)
    other = ReferenceTaker("bright", source="drawn:1", settings=[("Gain", "3")])
    other.add(Camera(np.uint8).look(0.9))
    with pytest.raises(
        InputError, match="other settings .ExposureTime=20, Gain=2; Gain=3.; take both with the same"
    ):
        FlatField(dark, other.reference())
    with pytest.raises(
        InputError, match=r"lines are \(299,\) uint8, the flat field \(300,\) uint8; take it again"
    ):
        FlatField(dark, bright)(np.zeros((4, 299), np.uint8))


def test_a_damaged_or_missing_reference_is_said(tmp_path: Path) -> None:
    _, dark, _ = references()
    path = save_reference(tmp_path, dark)
    with pytest.raises(
        FileNotFoundError, match="bright.json: no such file; take it with acl camera reference SOURCE"
    ):
        load_flat_field(tmp_path)
    (tmp_path / "bright.json").write_text(path.read_text())
    (tmp_path / "bright.npz").write_bytes((tmp_path / "dark.npz").read_bytes())
    with pytest.raises(
        InputError, match="bright.json: is not the bright reference of a camera; take it again"
    ):
        load_reference(tmp_path, "bright")
    path.write_text(path.read_text().replace('"lines": 2000', '"lines": "many"'))
    with pytest.raises(InputError, match="dark.json: .*lines.*; take it again"):
        load_reference(tmp_path, "dark")


def test_it_is_faster_than_cameras_run() -> None:
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    means = {"dark": rng.uniform(0, 5, 4096), "bright": rng.uniform(150, 200, 4096)}
    facts = references()[1].facts
    correct = FlatField(*(Reference(mean, facts) for mean in means.values()))
    lines, out = rng.integers(0, 256, (64, 4096), np.uint8), np.empty((64, 4096), np.uint8)
    best = 0.0
    for _ in range(10):
        began = time.process_time()
        for _ in range(20):
            correct(lines, out=out)
        best = max(best, 20 * 64 / (time.process_time() - began))
    cv2.setNumThreads(cv2_threads)
    assert best > 150_000
