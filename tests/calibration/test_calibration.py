"""A bundle is calibrated on good parts: the evidence is written first, the thresholds last, and both can be undone."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from folders import draw
from graphs import write_tiny_bundle
from parts import draw_parts, promised
from sessions import Around

from acl_runtime.bundle.bundle import load_bundle, write_manifest
from acl_runtime.bundle.manifest import Tiling, manifest_from_json
from acl_runtime.calibration import change
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.change import restore_previous
from acl_runtime.calibration.images import check_only_good
from acl_runtime.calibration.mismatch import find_mismatches
from acl_runtime.calibration.record import check_calibration, read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.images.decode import ReadSettings, load_frame
from acl_runtime.sources.files import Source, list_sources

GOOD, DEFECTIVE = 40, 6


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=GOOD, defective=DEFECTIVE)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def good(images: Path) -> list[Source]:
    return list_sources([images / "good"])


def test_what_was_measured_is_written_and_decides_from_then_on(bundle: Path, images: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    defective = list_sources([images / "defective"])
    record = calibrate_bundle(
        Detector(bundle), good(images), defective=defective, progress=lambda *at: seen.append(at)
    )
    assert seen[0] == ("judging good parts", 1, GOOD)
    assert seen[-1] == ("judging defective parts", DEFECTIVE, DEFECTIVE)
    written = load_bundle(bundle)
    assert read_record(written) == record
    assert written.manifest.calibration.record == "calibrations/0001.json"
    assert written.manifest.calibration.source == record.statement
    detector = Detector(written)
    assert detector.rule.score_threshold == record.score_threshold
    assert detector.rule.peak_threshold == record.map_threshold
    verdicts = [detector(load_frame(source.path)) for source in good(images)]
    assert record.good.source == tuple(source.path for source in good(images))
    assert record.good.score == tuple(verdict.score for verdict in verdicts)
    assert record.good.peak == tuple(verdict.peak for verdict in verdicts)
    assert record.rejected == sum(verdict.is_anomalous for verdict in verdicts)
    assert not any(v.is_anomalous for v, sets in zip(verdicts, record.sets_scales, strict=True) if not sets)
    looks = measure_appearance(load_frame(good(images)[0].path))
    assert (record.good.brightness[0], record.good.sharpness[0]) == (looks.brightness, looks.sharpness)
    assert (record.images, record.scale_images, sum(record.sets_scales)) == (GOOD, 8, 8)
    assert (record.backend, record.provider) == ("onnxruntime", "CPUExecutionProvider")


def test_escapes_are_counted_and_named(bundle: Path, images: Path) -> None:
    sources = list_sources([images / "defective"])
    record = calibrate_bundle(Detector(bundle), good(images), defective=sources)
    detector = Detector(bundle)
    missed = [source.path for source in sources if not detector(load_frame(source.path)).is_anomalous]
    assert record.escapes is not None
    assert (record.escapes.images, record.escapes.missed) == (DEFECTIVE, len(missed))
    assert record.escapes.sources == tuple(missed)
    assert len(missed) < DEFECTIVE


def test_the_demand_reaches_the_thresholds(bundle: Path, images: Path) -> None:
    strict = calibrate_bundle(Detector(bundle), good(images))
    lax = calibrate_bundle(Detector(bundle), good(images), max_overkill=0.5, confidence=0.6)
    assert lax.score_threshold < strict.score_threshold
    assert promised(strict) > strict.max_overkill
    assert promised(lax) <= lax.max_overkill
    hidden = calibrate_bundle(Detector(bundle), good(images), hidden_defects=2)
    assert hidden.hidden_defects == 2
    assert promised(hidden) > promised(strict)
    again = calibrate_bundle(Detector(bundle), good(images), seed=1)
    assert again.sets_scales != strict.sets_scales


def test_calibrations_follow_each_other_and_are_undone_one_by_one(bundle: Path, images: Path) -> None:
    default = load_bundle(bundle).manifest.calibration
    first = calibrate_bundle(Detector(bundle), good(images))
    between = load_bundle(bundle).manifest.calibration
    second = calibrate_bundle(Detector(bundle), good(images), seed=3)
    assert (first.previous, first.previous_calibration) == (None, default)
    assert (second.previous, second.previous_calibration) == ("calibrations/0001.json", between)
    assert restore_previous(bundle) == between == load_bundle(bundle).manifest.calibration
    assert read_record(load_bundle(bundle)) == first
    assert restore_previous(bundle) == default
    assert read_record(load_bundle(bundle)) is None
    with pytest.raises(ValueError, match="has its default thresholds, nothing was before them"):
        restore_previous(bundle)
    calibrate_bundle(Detector(bundle), good(images))
    assert load_bundle(bundle).manifest.calibration.record == "calibrations/0003.json"


def test_the_tiling_of_the_detector_is_that_of_the_thresholds(bundle: Path, images: Path) -> None:
    tiling = Tiling(64, None, None)
    record = calibrate_bundle(Detector(bundle, tiling=tiling), good(images))
    assert record.tiling == tiling == load_bundle(bundle).manifest.calibration.tiling
    assert Detector(bundle).tiling == tiling


@pytest.mark.parametrize("step", ["write_record", "replace_manifest"])
def test_an_end_in_between_leaves_the_old_thresholds_in_force(
    bundle: Path, images: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (bundle / "manifest.json").read_bytes()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(change, step, stop)
    with pytest.raises(KeyboardInterrupt):
        calibrate_bundle(Detector(bundle), good(images))
    monkeypatch.undo()
    assert (bundle / "manifest.json").read_bytes() == before
    assert load_bundle(bundle).manifest.calibration.source == "default"
    calibrate_bundle(Detector(bundle), good(images))  # a stray record is no harm, and is not written over
    expected = "calibrations/0001.json" if step == "write_record" else "calibrations/0002.json"
    assert load_bundle(bundle).manifest.calibration.record == expected


def test_unreadable_images_are_all_named_and_nothing_is_written(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images / "good", tmp_path / "good")
    for stem in ("3", "17"):
        (tmp_path / "good" / f"{stem}.png").write_bytes(b"broken")
    with pytest.raises(
        ValueError, match=r"3\.png, .*17\.png: cannot be judged \(2 of 40 images; .*3\.png: .*\); .* nothing"
    ):
        calibrate_bundle(Detector(bundle), good(tmp_path))
    assert not (bundle / "calibrations").exists()


def test_a_copy_counts_once(bundle: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images / "good", tmp_path / "good")
    for stem in range(5):  # the same pixels in another file format
        picture = cv2.imread(str(tmp_path / "good" / f"{stem}.png"))
        assert picture is not None
        cv2.imwrite(str(tmp_path / "good" / f"{stem}.bmp"), picture)
    record = calibrate_bundle(Detector(bundle), good(tmp_path))
    assert (record.images, record.copies) == (GOOD, 5)
    assert record.statement.endswith("5 images with the very pixels of another were left out.")
    few = [source for source in good(tmp_path) if Path(source.path).stem in {"0", "1"}] * 10
    with pytest.raises(ValueError, match="good images must be at least 20, all different, got 2;"):
        calibrate_bundle(Detector(bundle), few)


def test_an_image_is_good_or_defective(bundle: Path, images: Path) -> None:
    with pytest.raises(ValueError, match=r"7\.png: given as good and as defective"):
        calibrate_bundle(Detector(bundle), good(images), defective=[good(images)[7]])


def test_what_shows_a_part_many_times_is_refused(bundle: Path, images: Path, tmp_path: Path) -> None:
    video = tmp_path / "line.mp4"
    video.touch()
    sources = [*good(images), *list_sources([video])]
    with pytest.raises(
        ValueError, match=r"line\.mp4: shows each part many times, .* save one image per part"
    ):
        calibrate_bundle(Detector(bundle), sources)


def test_a_bundle_that_changes_meanwhile_is_not_calibrated(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    detector = Detector(bundle)
    shutil.rmtree(bundle)
    write_tiny_bundle(bundle, head="embeddings")
    with pytest.raises(ValueError, match="was changed while the images were judged; calibrate again"):
        calibrate_bundle(detector, good(images))


def test_an_altered_record_is_refused_with_the_bundle(bundle: Path, images: Path) -> None:
    calibrate_bundle(Detector(bundle), good(images))
    path = bundle / "calibrations" / "0001.json"
    path.write_text(path.read_text().replace("0.95", "0.99"))
    with pytest.raises(ValueError, match=r"0001\.json: was altered"):
        load_bundle(bundle)


def test_a_record_outside_the_listed_files_is_not_read(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    calibration = replace(loaded.manifest.calibration, record="calibrations/0009.json")
    with pytest.raises(ValueError, match="is not among the bundle's files"):
        read_record(replace(loaded, manifest=replace(loaded.manifest, calibration=calibration)))


def test_a_folder_that_holds_defective_parts_too_is_refused(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "test/good/0.png", "test/broken/0.png"):
        draw(tmp_path / "bottle" / name)
    check_only_good([str(tmp_path / "bottle" / "train"), str(tmp_path / "bottle" / "test" / "good")])
    for suffix in (".pgm", ".GIF", ".jp2"):  # all that is read, not only what data sets have
        draw(tmp_path / suffix / "good" / "0.png")
        other = tmp_path / suffix / "scratch" / f"0{suffix}"
        other.parent.mkdir()
        other.touch()
        with pytest.raises(ValueError, match="holds scratch beside good parts"):
            check_only_good([str(tmp_path / suffix)])
    with pytest.raises(
        ValueError, match="bottle: holds test/broken beside good parts; name the folder of good"
    ):
        check_only_good([str(tmp_path / "bottle")])
    with pytest.raises(ValueError, match="test: holds broken beside good parts"):
        check_only_good([str(tmp_path / "bottle" / "test")])


def test_a_frame_that_cannot_be_judged_is_named(bundle: Path, images: Path) -> None:
    session, calls = Detector(bundle).session, itertools.count()

    def overflowing(batch: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = dict(session(batch))
        if next(calls) == 5:
            outputs["image_logits"] = np.full_like(outputs["image_logits"], np.nan)
        return outputs

    detector = Detector(bundle, session=Around(session, overflowing))
    with pytest.raises(
        ValueError, match=r"good/5\.png: cannot be judged \(1 of 40 images; .*nothing was written"
    ):
        calibrate_bundle(detector, good(images))
    assert not (bundle / "calibrations").exists()


def test_a_bundle_that_another_process_holds_is_not_calibrated(bundle: Path, images: Path) -> None:
    hold = "import sys; from acl_runtime.files.locks import locked_folder\nwith locked_folder(sys.argv[1]):"
    hold += " print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(bundle)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        message = rf"bundle: is in use by process {holder.pid} \("
        with pytest.raises(InputError, match=message):
            calibrate_bundle(Detector(bundle), good(images))
        with pytest.raises(InputError, match=message):
            restore_previous(bundle)
        holder.stdin.close()
    assert not (bundle / "calibrations").exists()
    calibrate_bundle(Detector(bundle), good(images))
    load_bundle(bundle)


def test_two_processes_that_calibrate_one_bundle_leave_one_that_loads(bundle: Path, images: Path) -> None:
    """Each may be refused because of the other, in one line; what both wrote is there and consistent."""
    command = [sys.executable, "-m", "acl_runtime.cli", "calibrate", str(bundle), str(images / "good")]
    done = 0
    for _ in range(2):
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=120)
            done += process.returncode == 0
            if process.returncode:
                assert re.fullmatch(r"error: .*bundle: is in use by .*", errors.splitlines()[-1])
                assert "Traceback" not in errors
    assert done >= 2
    assert len(list((bundle / "calibrations").glob("*.json"))) == done
    for _ in range(done):
        check_calibration(load_bundle(bundle))
        restore_previous(bundle)
    assert load_bundle(bundle).manifest.calibration.source == "default"


def test_only_the_record_joins_the_files_of_the_bundle(bundle: Path, images: Path) -> None:
    before = set(load_bundle(bundle).manifest.files)
    (bundle / "stray.txt").write_text("left by somebody")
    calibrate_bundle(Detector(bundle), good(images))
    assert set(load_bundle(bundle).manifest.files) == before | {"calibrations/0001.json"}
    restore_previous(bundle)
    (bundle / "stray.txt").unlink()
    assert load_bundle(bundle).manifest.calibration.source == "default"


def test_images_that_are_read_otherwise_than_those_of_the_thresholds_are_told(
    bundle: Path, images: Path
) -> None:
    calibrate_bundle(Detector(bundle), list_sources([images / "good"], ReadSettings(bits=12)))
    detector = Detector(bundle)
    assert find_mismatches(detector, ReadSettings(bits=12)) == find_mismatches(detector) == []
    for reading, words in (
        (ReadSettings(), "without --bits and without --exif"),
        (ReadSettings(bits=12, exif=True), "with --bits 12 and with --exif"),
    ):
        (mismatch,) = find_mismatches(detector, reading)
        assert mismatch == (
            "the thresholds were measured on images read with --bits 12 and without --exif, these are read "
            f"{words}: calibrate {words}"
        )


def test_thresholds_measured_elsewhere_are_doubted(bundle: Path, images: Path) -> None:
    calibrate_bundle(Detector(bundle), good(images))
    assert find_mismatches(Detector(bundle)) == []
    path = bundle / "calibrations" / "0001.json"
    path.write_text(path.read_text().replace('"CPUExecutionProvider"', '"CUDAExecutionProvider"'))
    write_manifest(bundle, manifest_from_json((bundle / "manifest.json").read_bytes()))
    (doubt,) = find_mismatches(Detector(bundle))
    assert (
        "measured with onnxruntime CUDAExecutionProvider, this is onnxruntime CPUExecutionProvider" in doubt
    )
    assert find_mismatches(Detector(bundle, threshold=0.5)) == []  # the user's own
