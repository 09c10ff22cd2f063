"""Some of the good images are remembered, the thresholds rest on the others alone, and both are put back together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import GRID, LAYERS, drawn_frame, write_tiny_bundle
from parts import draw_parts
from sessions import Around

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.manifest import Tiling, manifest_from_json, manifest_to_json
from acl_runtime.calibration import calibrate, change
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.change import restore_previous
from acl_runtime.calibration.memory_images import Recorder, Request, check_memory, fit_memory_to_images
from acl_runtime.calibration.mismatch import find_mismatches
from acl_runtime.calibration.record import read_record
from acl_runtime.commands.describe import describe
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.run import EvalSettings, run_evaluation
from acl_runtime.images.decode import load_frame
from acl_runtime.images.preprocess import preprocess
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_file import load_memory
from acl_runtime.scoring.memory_kinds import NearestPatches
from acl_runtime.sources.files import Source, list_sources

GOOD, DEFECTIVE, REMEMBERED, KIND = 40, 6, 4, "patches"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=GOOD, defective=DEFECTIVE)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", head="embeddings")


def nearest(memory: Memory | None) -> NearestPatches:
    assert memory is not None
    assert memory.nearest is not None
    return memory.nearest


def good(images: Path) -> list[Source]:
    return list_sources([images / "good"])


def test_what_is_remembered_sets_no_threshold_and_the_rest_is_judged_with_it(
    bundle: Path, images: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    record = calibrate_bundle(
        Detector(bundle),
        good(images),
        memory=REMEMBERED,
        memory_kind=KIND,
        progress=lambda *at: seen.append(at),
    )
    assert seen[:REMEMBERED] == [("fitting the memory", n, REMEMBERED) for n in range(1, REMEMBERED + 1)]
    assert record.memory is not None
    assert (record.images, record.copies, len(record.memory.sources)) == (GOOD - REMEMBERED, 0, REMEMBERED)
    given = {source.path for source in good(images)}
    assert set(record.memory.sources) | set(record.good.source) == given
    assert not set(record.memory.sources) & set(record.good.source)
    told = f"({record.scale_images} others only put score and peak on one scale, {REMEMBERED} are the memory)"
    assert told in record.statement
    assert "for the 1 % that you asked give 323 images or more" in record.statement  # 319 without a memory
    loaded = load_bundle(bundle)
    assert read_record(loaded) == record
    assert loaded.manifest.calibration.memory == record.memory.file == "calibrations/0001.npz"
    memory = load_memory(loaded)
    assert memory is not None
    assert nearest(memory).patch_embeddings.shape[:2] == (LAYERS, REMEMBERED * GRID * GRID)
    assert record.memory.patches == REMEMBERED * GRID * GRID
    detector = Detector(loaded)
    verdicts = [detector(load_frame(path)) for path in record.good.source]
    assert record.good.score == tuple(verdict.score for verdict in verdicts)
    assert record.good.peak == tuple(verdict.peak for verdict in verdicts)
    assert record.good.score != tuple(
        detector.with_memory(None)(load_frame(p)).score for p in record.good.source
    )
    assert find_mismatches(detector) == []


def test_the_memory_is_of_the_images_that_the_record_names(bundle: Path, images: Path) -> None:
    record = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND)
    memory, session = load_memory(load_bundle(bundle)), Detector(bundle).session
    assert record.memory is not None
    assert memory is not None
    for path in record.memory.sources:
        patches = session(preprocess([load_frame(path)], image_size=56))["patch_embeddings"][0]  # (L, G·G, D)
        for patch in patches.swapaxes(0, 1):
            assert min(np.abs(nearest(memory).patch_embeddings - patch[:, None]).max(axis=(0, 2))) < 1e-3
    again = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND, seed=1)
    assert again.memory is not None
    assert set(again.memory.sources) != set(record.memory.sources)


def test_a_defect_that_is_unlike_good_parts_stands_out(bundle: Path, images: Path) -> None:
    defective = list_sources([images / "defective"])
    record = calibrate_bundle(
        Detector(bundle), good(images), defective=defective, memory=REMEMBERED, memory_kind=KIND
    )
    assert record.defective is not None
    assert min(record.defective.peak) > max(record.good.peak)
    assert record.escapes is not None
    assert record.escapes.missed == 0


def test_memory_and_thresholds_are_put_back_together(bundle: Path, images: Path) -> None:
    default = load_bundle(bundle).manifest.calibration
    first = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND)
    remembering = load_bundle(bundle)
    frame = load_frame(first.good.source[0])
    second = calibrate_bundle(Detector(bundle), good(images))
    assert (second.memory, load_bundle(bundle).manifest.calibration.memory) == (None, None)
    plain = Detector(write_tiny_bundle(bundle.parent / "plain", head="embeddings"))
    assert second.good.score == tuple(plain(load_frame(path)).score for path in second.good.source)
    assert restore_previous(bundle) == remembering.manifest.calibration
    assert Detector(bundle)(frame).score == Detector(remembering)(frame).score == first.good.score[0]
    assert restore_previous(bundle) == default
    assert Detector(bundle)(frame).score == plain(frame).score
    calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND)
    assert load_bundle(bundle).manifest.calibration.memory == "calibrations/0003.npz"


@pytest.mark.parametrize("step", ["save_memory", "write_record", "replace_manifest"])
def test_an_end_in_between_leaves_the_old_memory_in_force(
    bundle: Path, images: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate if step == "save_memory" else change, step, stop)
    with pytest.raises(KeyboardInterrupt):
        calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND, seed=1)
    monkeypatch.undo()
    assert read_record(load_bundle(bundle)) == first
    assert Detector(bundle)(load_frame(first.good.source[0])).score == first.good.score[0]
    calibrate_bundle(
        Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND, seed=1
    )  # a stray file is no harm
    load_bundle(bundle)


def test_a_bundle_that_gives_no_patches_is_refused(tmp_path: Path, images: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "map")
    with pytest.raises(ValueError, match='map: has head "map", which gives no patches .* --head embeddings'):
        calibrate_bundle(Detector(folder), good(images), memory=REMEMBERED, memory_kind=KIND)
    assert not (folder / "calibrations").exists()


def test_windows_cannot_be_remembered(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    of_windows = replace(loaded, manifest=replace(loaded.manifest, windows=(1,)))
    with pytest.raises(ValueError, match="judges windows, which cannot be remembered; leave --memory out"):
        check_memory(of_windows, Request(4))
    calibration = replace(loaded.manifest.calibration, memory="calibrations/0001.npz")
    broken = manifest_to_json(replace(of_windows.manifest, calibration=calibration))
    with pytest.raises(ValueError, match="memory must be null where windows stand for patches"):
        manifest_from_json(broken)


def test_counts_that_cannot_be_are_refused(bundle: Path, images: Path) -> None:
    with pytest.raises(
        ValueError, match="beside the 30 of the memory, good images must be at least 20, .* got 10"
    ):
        calibrate_bundle(Detector(bundle), good(images), memory=30)
    with pytest.raises(ValueError, match="a mean at each place must be of at least 4 images, got 3"):
        calibrate_bundle(Detector(bundle), good(images), memory=3, memory_kind="place")
    with pytest.raises(ValueError, match="kind of memory must be auto, .* got 'nearest'"):
        calibrate_bundle(Detector(bundle), good(images), memory=3, memory_kind="nearest")
    assert not (bundle / "calibrations").exists()


def test_a_copy_of_a_remembered_image_does_not_calibrate(bundle: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images / "good", tmp_path / "good")
    for number in range(GOOD):  # the same pixels in another file format
        picture = cv2.imread(str(tmp_path / "good" / f"{number}.png"))
        assert picture is not None
        cv2.imwrite(str(tmp_path / "good" / f"{number}.bmp"), picture)
    record = calibrate_bundle(Detector(bundle), good(tmp_path), memory=REMEMBERED, memory_kind=KIND)
    assert record.memory is not None
    assert (record.images, record.copies) == (GOOD - REMEMBERED, GOOD)
    remembered = {Path(path).stem for path in record.memory.sources}
    assert len(remembered) == REMEMBERED
    assert not remembered & {Path(path).stem for path in record.good.source}
    few = [source for source in good(tmp_path) if Path(source.path).stem in {"0", "1", "2"}] * 10
    with pytest.raises(ValueError, match="good images must be more than the 4 to remember, .* got 3"):
        calibrate_bundle(Detector(bundle), few, memory=REMEMBERED, memory_kind=KIND)


def test_a_remembered_image_is_not_defective(bundle: Path, images: Path) -> None:
    record = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND)
    assert record.memory is not None
    twice = list_sources([record.memory.sources[0]])
    with pytest.raises(ValueError, match="given as good and as defective"):
        calibrate_bundle(Detector(bundle), good(images), defective=twice, memory=REMEMBERED, memory_kind=KIND)


def test_unreadable_images_are_all_named(bundle: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images / "good", tmp_path / "good")
    for stem in ("3", "17"):
        (tmp_path / "good" / f"{stem}.png").write_bytes(b"broken")
    for seed in range(3):
        with pytest.raises(ValueError, match=r"3\.png, .*17\.png: cannot be judged \(2 of 40 images;"):
            calibrate_bundle(Detector(bundle), good(tmp_path), memory=REMEMBERED, memory_kind=KIND, seed=seed)
    assert not (bundle / "calibrations").exists()


def test_frames_in_tiles_are_remembered_tile_by_tile(bundle: Path, images: Path) -> None:
    tiling = Tiling(64, None, None)
    detector = Detector(bundle, tiling=tiling)
    tiles = detector(drawn_frame()).tiles
    assert tiles > 1
    record = calibrate_bundle(detector, good(images), memory=REMEMBERED, memory_kind=KIND)
    assert record.memory is not None
    assert record.memory.patches == min(1024, REMEMBERED * tiles * GRID * GRID)
    loaded = Detector(bundle)
    assert loaded.tiling == tiling
    verdicts = [loaded(load_frame(path)) for path in record.good.source]
    assert record.good.score == tuple(verdict.score for verdict in verdicts)


def test_a_recorder_keeps_what_the_session_said_although_it_uses_its_arrays_again(bundle: Path) -> None:
    session, rng = Detector(bundle).session, np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 1, 56, 56, 3), dtype=np.uint8)
    buffers: dict[str, np.ndarray] = {}

    def reusing(images: np.ndarray) -> dict[str, np.ndarray]:
        for name, array in session(images).items():
            buffers.setdefault(name, np.empty_like(array))[...] = array
        return buffers

    recorder = Recorder(Around(session, reusing), load_bundle(bundle))
    for images in frames:
        recorder(images)
    shown, embeddings, logits = recorder.take()
    expected = np.concatenate([session(images)["patch_embeddings"] for images in frames])  # (2, L, G·G, D)
    np.testing.assert_array_equal(embeddings, expected.swapaxes(1, 2))
    np.testing.assert_array_equal(shown, frames[:, 0])
    assert logits.shape == embeddings.shape[:3]


def test_a_large_frame_is_looked_at_in_part(
    bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acl_runtime.calibration.memory_images.MOST_PATCHES", 10)
    detector = Detector(bundle, tiling=Tiling(64, None, None))
    request = Request(3, ("patches",))
    found = fit_memory_to_images(detector, good(images), request, seed=0, progress=lambda *at: None)
    assert nearest(found.memory).patch_embeddings.shape[1] == 3 * GRID * GRID  # a tile of each


def test_info_and_evaluation_say_that_good_parts_are_remembered(bundle: Path, images: Path) -> None:
    assert "none, the text judges alone" in describe(load_bundle(bundle))
    (data := bundle.parent / "data").mkdir()
    shutil.copytree(images / "good", data / "good")
    shutil.copytree(images / "defective", data / "bad")
    alone = run_evaluation(Detector(bundle), [data], EvalSettings())
    assert alone.settings["memory"] is None
    calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind=KIND)
    loaded = load_bundle(bundle)
    assert "good parts (calibrations/0001.npz), which judge with the text" in describe(loaded)
    with_memory = run_evaluation(Detector(loaded), [data], EvalSettings())
    assert with_memory.settings["memory"] == loaded.manifest.files["calibrations/0001.npz"].sha256[:12]
