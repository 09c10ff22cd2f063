"""The fast resize is nearly Pillow's, is used only where it is asked for, and is told where it matters."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from folders import draw_category
from graphs import drawn_frame, write_tiny_bundle
from parts import draw_parts
from typer.testing import CliRunner, Result

from acl_runtime import Detector
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.mismatch import find_mismatches
from acl_runtime.calibration.record import read_record, record_from_json, record_to_json
from acl_runtime.cli import app
from acl_runtime.images.preprocess import preprocess, resize_by_pillow
from acl_runtime.sources.files import list_sources

pytest.importorskip("cykooz_resizer", reason="cykooz-resizer is not installed: the extra fast-resize")

from cykooz_resizer import CpuExtensions, Resizer

import acl_runtime.images.fast_resize as fast_resize_module
from acl_runtime.images.fast_resize import resize_fast

PICTURES = ("noise", "black and white", "smooth", "ramp")


def picture(kind: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(shape)
    noise = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "black and white":
        noise[:] = np.where(noise < 128, 0, 255)  # overshoot is clipped
    if kind == "smooth":
        noise[:] = cv2.GaussianBlur(noise, (0, 0), 3)
    if kind == "ramp":
        noise[:] = np.linspace(0, 255, shape[1]).astype(np.uint8).reshape(1, -1, *(1,) * (len(shape) - 2))
    return noise


def differences(frame: np.ndarray, side: int) -> np.ndarray:
    """(S, S, 3) in grey levels."""
    pillows, fast = (
        preprocess([frame], image_size=side, resize=resize)[0] for resize in (resize_by_pillow, resize_fast)
    )
    assert fast.dtype == np.uint8
    return np.asarray(np.abs(pillows.astype(int) - fast))


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((1080, 1920, 3), 518),
        ((720, 1280, 3), 224),
        ((1600, 400, 3), 336),  # tall: rows first
        ((400, 1600), 336),  # wide, grey
        ((997, 1003, 3), 333),  # odd
        ((601, 799), 99),
        ((336, 900, 3), 336),  # one pass
        ((200, 300, 3), 518),  # larger
        ((120, 90), 336),
        ((900, 100, 3), 224),  # smaller one way, larger the other
    ],
)
def test_it_is_pillows_but_for_few_places_and_a_grey_level(
    kind: str, shape: tuple[int, ...], side: int
) -> None:
    off = differences(picture(kind, *shape), side)
    assert off.max() <= (1 if min(shape[:2]) >= 2 * side else 2)
    assert np.mean(off > 0) <= 0.01
    assert np.mean(off > 1) <= 1e-4


def test_frames_of_any_shape_are_off_by_two_levels_at_most() -> None:
    rng = np.random.default_rng(0)
    for number in range(120):
        height, width = np.exp(rng.uniform(0, np.log(700), 2)).astype(int)
        shape = (height, width, 3) if number % 2 else (height, width)
        off = differences(picture(PICTURES[number // 2 % 4], *shape), int(rng.integers(20, 300)))
        assert off.max() <= 2
        assert np.mean(off > 0) <= 0.05


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    frame = picture("noise", 98, 98, 3)
    np.testing.assert_array_equal(
        preprocess([frame], image_size=98, resize=resize_fast)[0], frame[:, :, ::-1]
    )


def test_every_processor_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def resizer(extensions: CpuExtensions) -> Resizer:
        made = Resizer()
        made.cpu_extensions = extensions
        return made

    for shape in ((500, 700, 3), (500, 700), (60, 70, 3)):
        found = []
        for extensions in (CpuExtensions.none, CpuExtensions.sse4_1):
            monkeypatch.setattr(
                fast_resize_module, "Resizer", lambda extensions=extensions: resizer(extensions)
            )
            found.append(preprocess([picture("noise", *shape)], image_size=98, resize=resize_fast))
        monkeypatch.undo()
        found.append(preprocess([picture("noise", *shape)], image_size=98, resize=resize_fast))
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


def test_alpha_stays_with_pillow_and_sixteen_bits_are_cut_first() -> None:
    alpha = picture("noise", 150, 170, 4)
    assert not differences(alpha, 98).any()
    deep = picture("noise", 150, 170, 3).astype(np.uint16) << 8
    assert 0 < differences(deep, 98).max() <= 1


def test_threads_resize_at_the_same_time() -> None:
    frames = [picture("noise", 300 + number, 400, 3) for number in range(24)]
    expected = [preprocess([frame], image_size=98, resize=resize_fast)[0] for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda frame: preprocess([frame], image_size=98, resize=resize_fast)[0], frames)
        )
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", head="embeddings")


@pytest.mark.parametrize("tiling", [None, Tiling(80, 20, None)])
def test_verdicts_are_close_and_pillows_unless_asked(bundle: Path, tiling: Tiling | None) -> None:
    frames = [picture("smooth", 200, 300, 3), drawn_frame(1, height=180, width=240)]
    plain, fast = Detector(bundle, tiling=tiling), Detector(bundle, tiling=tiling, fast_resize=True)
    assert (plain.fast_resize, fast.fast_resize) == (False, True)
    for frame, (_, streamed) in zip(frames, fast.stream(frames), strict=True):
        pillows, ours = plain(frame), fast(frame)
        assert streamed is not None
        assert streamed.score == ours.score
        assert ours.score == pytest.approx(pillows.score, abs=2e-3)
        np.testing.assert_allclose(ours.anomaly_map, pillows.anomaly_map, rtol=0, atol=1e-2)
        if frame is frames[0]:
            assert (ours.anomaly_map != pillows.anomaly_map).any()  # it was the other resize


def test_without_the_library_the_remedy_is_named() -> None:
    code = "import sys; sys.modules['cykooz_resizer'] = None; import acl_runtime.images.fast_resize"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install -e ".[fast-resize]", or leave --fast-resize out' in run.stderr.splitlines()[-1]


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = "import acl_runtime.detection.detector, acl_runtime.inspection.run, sys; "
    subprocess.run([sys.executable, "-c", code + "assert 'cykooz_resizer' not in sys.modules"], check=True)


def test_thresholds_measured_with_the_other_resize_are_doubted(bundle: Path, tmp_path: Path) -> None:
    good = list_sources([draw_parts(tmp_path / "parts", good=60, defective=0) / "good"])
    for is_fast, told in ((True, "with --fast-resize"), (False, "without --fast-resize")):
        record = calibrate_bundle(Detector(bundle, fast_resize=is_fast), good, memory=16)
        assert record.fast_resize is is_fast
        assert find_mismatches(Detector(bundle, fast_resize=is_fast)) == []
        (doubt,) = find_mismatches(Detector(bundle, fast_resize=not is_fast))
        assert doubt.startswith(f"the thresholds were measured {told}: calibrate ")
        assert read_record(load_bundle(bundle)) == record


def test_a_record_that_does_not_name_the_resize_was_measured_with_pillow(
    bundle: Path, tmp_path: Path
) -> None:
    good = list_sources([draw_parts(tmp_path / "parts", good=30, defective=0) / "good"])
    record = calibrate_bundle(Detector(bundle), good)
    document = json.loads(record_to_json(record)) | {"format_version": 2}
    del document["fast_resize"]
    assert record_from_json(json.dumps(document)).fast_resize is record.fast_resize is False


def acl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_command_that_judges_has_the_option(bundle: Path, tmp_path: Path) -> None:
    parts = draw_parts(tmp_path / "parts", good=40, defective=1)
    draw_category(tmp_path / "data")
    done = acl("calibrate", bundle, parts / "good", "--fast-resize")
    assert done.exit_code == 0, done.output
    record = read_record(load_bundle(bundle))
    assert record is not None
    assert record.fast_resize
    for options, is_doubted in (((), True), (("--fast-resize",), False)):
        ran = acl("run", bundle, parts / "good", *options)
        assert ran.exit_code == 0, ran.output
        assert ("measured with --fast-resize" in ran.stderr) is is_doubted
        evaluated = acl("eval", bundle, tmp_path / "data", "--json", "-", *options)
        assert json.loads(evaluated.stdout)["settings"]["fast_resize"] is not is_doubted


def test_bench_tells_that_it_was_the_fast_resize(bundle: Path, tmp_path: Path) -> None:
    results = {}
    for name, options in (("pillow", ()), ("fast", ("--fast-resize",))):
        file = tmp_path / f"{name}.json"
        done = acl("bench", bundle, "--backend", "onnxruntime", "--seconds", 0, "--json", file, *options)
        assert done.exit_code == 0, done.output
        results[name] = json.loads(file.read_text())
        assert ("frames were resized with --fast-resize" in done.stdout) is (name == "fast")
    assert [results[name]["fast_resize"] for name in ("pillow", "fast")] == [False, True]
