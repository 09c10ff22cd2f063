"""Parts of a frame that do not count move nothing: neither score nor map, with a memory or without."""

from __future__ import annotations

from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from graphs import GRID, SIDE, drawn_frame, write_tiny_bundle
from parts import draw_parts
from typer.testing import CliRunner

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.change import restore_previous
from acl_runtime.cli import app
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stream import Stream
from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.decode import load_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.images.ignore import load_ignore, make_ignore, on_patches, read_ignore
from acl_runtime.images.overlay import overlay
from acl_runtime.inspection.web_plan import plan_settings
from acl_runtime.outputs.pictures import draw_overlay
from acl_runtime.sources.files import list_sources

HEIGHT, WIDTH = 90, 120  # of the drawn frames
POLYGON = "60,0 119,0 119,44 60,44"  # the upper right quarter


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=30, defective=2) / "good"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", head="embeddings")


def with_other_corner(frame: np.ndarray) -> np.ndarray:
    changed = np.array(frame)
    changed[:45, 60:] = drawn_frame(77)[:45, 60:]
    return changed


@pytest.mark.parametrize("tiling", [None, Tiling(48, 8, None)], ids=["whole", "tiles"])
@pytest.mark.parametrize("kind", ["text", "subspace", "patches+place"])
def test_what_lies_there_moves_nothing(bundle: Path, good: Path, kind: str, tiling: Tiling | None) -> None:
    memory = {} if kind == "text" else {"memory": 6, "memory_kind": kind}
    calibrate_bundle(
        Detector(bundle, tiling=tiling),
        list_sources([good]),
        ignored=[POLYGON],
        **memory,  # type: ignore[arg-type]
    )
    detector, plain = Detector(bundle), Detector(bundle).with_ignore(None)
    frame = load_frame(next(good.glob("*.png")))
    changed = with_other_corner(frame)
    ours, theirs = detector(frame), detector(changed)
    assert (ours.score, ours.peak) == (theirs.score, theirs.peak)
    np.testing.assert_array_equal(ours.anomaly_map, theirs.anomaly_map)
    height, width = ours.anomaly_map.shape
    assert not ours.anomaly_map[: height // 2, width // 2 + 1 :].any()
    assert ours.anomaly_map[: height // 2, : width // 2 - 1].any()
    assert np.abs(plain(frame).anomaly_map - plain(changed).anomaly_map).max() > 1e-3
    changed[50:, :50] = drawn_frame(78)[50:, :50]  # what counts still does
    assert np.abs(detector(changed).anomaly_map - ours.anomaly_map).max() > 1e-3


def test_ignored_patches_are_neither_remembered_nor_usual(bundle: Path, good: Path) -> None:
    record = calibrate_bundle(
        Detector(bundle), list_sources([good]), memory=6, memory_kind="patches", ignored=[POLYGON]
    )
    ignore = load_ignore(load_bundle(bundle))
    assert ignore is not None
    left = GRID * GRID - int(on_patches(ignore.mask, GRID).sum())
    assert record.memory is not None
    assert record.memory.patches == 6 * left < 6 * GRID * GRID


def test_the_mask_belongs_to_its_calibration(bundle: Path, good: Path) -> None:
    record = calibrate_bundle(Detector(bundle), list_sources([good]), ignored=[POLYGON])
    assert record.ignore == load_bundle(bundle).manifest.calibration.ignore == "calibrations/0001.ignore.png"
    calibrate_bundle(Detector(bundle), list_sources([good]))
    running = Detector(bundle)
    assert running.stages.ignore is None
    restore_previous(bundle)
    assert running.with_calibration(load_bundle(bundle), None).stages.ignore is not None
    assert Detector(bundle).stages.ignore is not None


def test_frames_of_another_size_are_refused(bundle: Path, good: Path) -> None:
    calibrate_bundle(Detector(bundle), list_sources([good]), ignored=[POLYGON])
    with pytest.raises(
        ValueError, match="frame must be 120×90 pixels, as the mask of what is ignored, got 60×90"
    ):
        Detector(bundle)(drawn_frame(0)[:, :60])


def test_a_batch_of_no_frame_that_can_be_judged_ends_no_stream_with_a_memory(
    bundle: Path, good: Path
) -> None:
    calibrate_bundle(
        Detector(bundle), list_sources([good]), memory=6, memory_kind="subspace", ignored=[POLYGON]
    )
    with Detector(bundle) as detector:
        with pytest.raises(FrameError, match="frame must be 120×90 pixels"):
            detector(drawn_frame(0)[:, :60])
        frames = [
            Frame("", number, PurePath("x"), drawn_frame(0)[:, : 60 * (number + 1)]) for number in (0, 1)
        ]
        wrong, right = Stream(detector.stages, frames)
        assert isinstance(wrong, BadFrame)
        assert isinstance(right, Inspected)


def test_a_web_takes_no_thresholds_that_were_measured_with_a_mask(bundle: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[:45] = True
    detector = Detector(bundle)
    masked = detector.with_ignore(make_ignore(mask, detector.bundle.manifest, "mask"))
    with pytest.raises(InputError, match=r"measured with --ignore on frames, and a web has none"):
        plan_settings(masked, 400, mm_per_pixel=0.5, mm_per_line=None)
    plan_settings(detector, 400, mm_per_pixel=0.5, mm_per_line=None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("0,0 119,0 119,89 0,89", "ignores the whole frame, nothing is left to judge"),
        ("200,0 300,0 300,50", "lies outside of frames of 120×90 pixels"),
        ("0,0 10,10", "must be the file of a mask or the corners of a polygon"),
        ("mask.png", "must be the file of a mask or the corners of a polygon"),
        ("0,0 10,x 5,5", "must be the file of a mask or the corners of a polygon"),
    ],
)
def test_masks_that_are_none_are_refused(bundle: Path, good: Path, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate_bundle(Detector(bundle), list_sources([good]), ignored=[option])
    assert not (bundle / "calibrations").exists()


@pytest.mark.parametrize("images", [1, 6])
def test_a_mask_that_leaves_no_patch_to_remember_is_refused(bundle: Path, good: Path, images: int) -> None:
    option = "0,0 119,0 119,88 0,88"  # all but the last row of pixels
    with pytest.raises(InputError, match=r"patches of each image to remember must count, got 0; ignore less"):
        calibrate_bundle(Detector(bundle), list_sources([good]), memory=images, ignored=[option])
    assert not (bundle / "calibrations").exists()


def test_a_picture_is_a_mask_of_the_frames_size(bundle: Path, good: Path, tmp_path: Path) -> None:
    manifest = load_bundle(bundle).manifest
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:45, 60:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    found = read_ignore([str(tmp_path / "mask.png"), "0,80 10,80 10,89 0,89"], manifest, HEIGHT, WIDTH)
    assert found.mask.sum() == 45 * 60 + 11 * 10
    with pytest.raises(ValueError, match=r"mask.png: must be 240×180 pixels, as the frames are, got 120×90"):
        read_ignore([str(tmp_path / "mask.png")], manifest, 180, 240)
    cv2.imwrite(str(tmp_path / "black.png"), 0 * mask)
    with pytest.raises(ValueError, match=r"black.png: ignores nothing"):
        read_ignore([str(tmp_path / "black.png")], manifest, HEIGHT, WIDTH)


@pytest.mark.parametrize(("shape", "dtype"), [((), np.uint8), ((3,), np.uint16), ((4,), np.uint8)])
def test_every_kind_of_frame_is_painted(bundle: Path, shape: tuple[int, ...], dtype: type) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[:45] = True
    ignore = make_ignore(mask, load_bundle(bundle).manifest, "mask")
    frame: np.ndarray = np.full((HEIGHT, WIDTH, *shape), 77, dtype)
    painted = ignore.paint(frame)
    assert (painted.shape, painted.dtype) == (frame.shape, frame.dtype)
    assert (painted[45:] == 77).all()
    assert not (painted[:45] == 77).any()
    assert (frame == 77).all()


def test_it_is_hatched_on_overlays(bundle: Path, good: Path) -> None:
    calibrate_bundle(Detector(bundle), list_sources([good]), ignored=[POLYGON])
    frame = load_frame(next(good.glob("*.png")))
    verdict = Detector(bundle)(frame)
    assert verdict.ignored is not None
    assert verdict.ignored.shape == verdict.anomaly_map.shape == (SIDE, SIDE)
    plain = overlay(frame, verdict.anomaly_map, map_threshold=verdict.region_threshold)
    marked = overlay(
        frame, verdict.anomaly_map, map_threshold=verdict.region_threshold, ignored=verdict.ignored
    )
    changed = (plain != marked).any(axis=2)
    assert 0.1 < changed[:45, 61:].mean() < 0.5
    assert not changed[46:].any()
    assert draw_overlay(frame, verdict).shape[1] >= WIDTH


def test_the_command_takes_mask_kind_and_share(bundle: Path, good: Path) -> None:
    arguments = [
        "calibrate",
        bundle,
        good,
        "--ignore",
        POLYGON,
        "--unlabelled",
        "5%",
        "--memory",
        6,
    ]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "holds only if at most 5 % of them (2) are defective, as you assumed" in " ".join(
        done.output.split()
    )
    wrong = CliRunner().invoke(
        app, ["calibrate", str(bundle), str(good), "--memory-kind", "x", "--memory", "4"]
    )
    assert wrong.exit_code == 1
    assert "kind of memory must be auto, patches, subspace, place" in " ".join(wrong.output.split())
