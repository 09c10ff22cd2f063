"""The detector's verdicts are those of the model, whichever head it was exported with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from graphs import DEFAULT_CALIBRATION, SIDE, drawn_frame, reference, write_tiny_bundle
from sessions import Around

from acl_runtime import Detector
from acl_runtime.bundle.bundle import load_bundle, write_manifest
from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import BackendError, BundleError, FrameError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.images.preprocess import preprocess
from acl_runtime.scoring.heads import defect_directions, read_map_head
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.regions import find_regions

FRAMES = [drawn_frame(0), drawn_frame(1, height=30, width=400), drawn_frame(2)[..., 0], drawn_frame(3)]


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    return Detector(write_tiny_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize("head", ["map", "embeddings"])
def test_a_verdict_is_what_the_model_says(tmp_path: Path, head: str) -> None:
    detector = Detector(write_tiny_bundle(tmp_path / "bundle", head=head))
    expected = reference(preprocess(FRAMES, image_size=SIDE))
    for i, frame in enumerate(FRAMES):
        verdict = detector(frame)
        score = float(sigmoid(expected["image_logits"][i].astype(np.float64)))
        assert verdict.score == pytest.approx(score, abs=1e-4)
        assert verdict.is_anomalous is (score >= 0.5)
        assert verdict.anomaly_map.dtype == np.float32
        np.testing.assert_allclose(verdict.anomaly_map, expected["anomaly_maps"][i], rtol=0, atol=1e-4)
        height, width = frame.shape[:2]
        assert verdict.regions == find_regions(
            verdict.anomaly_map, threshold=0.5, frame_width=width, frame_height=height
        )


def test_both_heads_give_the_same_verdict(tmp_path: Path) -> None:
    by_map = Detector(write_tiny_bundle(tmp_path / "map", head="map")).detect(FRAMES)
    by_embeddings = Detector(write_tiny_bundle(tmp_path / "emb", head="embeddings")).detect(FRAMES)
    for one, other in zip(by_map, by_embeddings, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=0, atol=1e-6)


def test_many_frames_are_each_frame(detector: Detector) -> None:
    frames = [drawn_frame(seed) for seed in range(7)]  # batches of 3, 3 and 1
    for verdict, frame in zip(detector.detect(frames), frames, strict=True):
        alone = detector(frame)
        assert verdict.score == pytest.approx(alone.score, abs=1e-5)
        np.testing.assert_allclose(verdict.anomaly_map, alone.anomaly_map, rtol=0, atol=1e-5)
        assert set(verdict.latency_ms) == {"preprocess", "inference", "postprocess"}
        assert min(verdict.latency_ms.values()) > 0
    assert detector.detect([]) == []


def test_the_threshold_is_the_bundles_unless_told(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    score = Detector(folder)(FRAMES[0]).score
    manifest = replace(
        load_bundle(folder).manifest,
        calibration=replace(DEFAULT_CALIBRATION, score_threshold=1.0, map_threshold=0.0),
    )
    write_manifest(folder, manifest)
    calibrated = Detector(folder)(FRAMES[0])
    assert (calibrated.is_anomalous, calibrated.threshold) == (False, 1.0)
    assert [region.area for region in calibrated.regions] == [FRAMES[0][..., 0].size]
    told = Detector(load_bundle(folder), threshold=score)(FRAMES[0])
    assert (told.is_anomalous, told.threshold) == (True, score)  # at the threshold is anomalous


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(tmp_path: Path, threshold: float) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(ValueError, match=r"threshold must lie in 0\.\.1, got"):
        Detector(folder, threshold=threshold)


def test_a_backend_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(
        ValueError, match="backend must be one of auto, onnxruntime, openvino, .*, got abacus"
    ):
        Detector(folder, backend="abacus")


def test_a_wrong_frame_is_refused_before_any_is_looked_at(detector: Detector) -> None:
    with pytest.raises(ValueError, match=r"frame must be .*, got \(4, 4, 2\) uint8"):
        detector.detect([FRAMES[0], np.zeros((4, 4, 2), np.uint8)])


@pytest.mark.parametrize("head", ["map", "embeddings"])
def test_a_broken_graph_does_not_pass_for_a_good_product(tmp_path: Path, head: str) -> None:
    detector = Detector(write_tiny_bundle(tmp_path / "bundle", head=head, broken=True))
    with pytest.raises(FrameError, match="must be finite, got nan"):
        detector(FRAMES[0])


def test_a_graph_that_returns_something_else_is_named(detector: Detector) -> None:
    manifest = detector.bundle.manifest
    logits = np.zeros(1, np.float32)
    with pytest.raises(RuntimeError, match="graph must return anomaly_maps, got image_logits"):
        read_map_head({"image_logits": logits}, manifest)
    maps = np.zeros((1, 3, 3), np.float32)
    with pytest.raises(RuntimeError, match=r"anomaly_maps must be \(batch, 56, 56\), got \(1, 3, 3\)"):
        read_map_head({"image_logits": logits, "anomaly_maps": maps}, manifest)


def test_one_direction_says_what_two_prompts_say() -> None:
    text = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    embedding = np.random.default_rng(1).normal(size=5).astype(np.float32)
    logits = text.astype(np.float64) @ embedding / 0.07
    softmax = np.exp(logits - logits.max())
    actual = sigmoid(embedding @ defect_directions(text[None], temperature=0.07)[0])
    np.testing.assert_allclose(actual, softmax[1] / softmax.sum(), rtol=1e-4)


def test_one_picture_is_not_taken_for_many(detector: Detector) -> None:
    for picture in (FRAMES[0], FRAMES[0][..., 0], np.zeros((5, 90, 120), np.uint8)):
        with pytest.raises(
            FrameError, match="frames must be several, got one array of .*; call the detector"
        ):
            detector.detect(picture)  # type: ignore[arg-type]
        with pytest.raises(FrameError, match="frames must be several, got one array of"):
            detector.stream(picture)
    stacked = np.stack([drawn_frame(0), drawn_frame(3)])
    assert [each.score for each in detector.detect(stacked)] == [  # type: ignore[arg-type]
        each.score for each in detector.detect([drawn_frame(0), drawn_frame(3)])
    ]


@pytest.mark.parametrize("name", ["part.png", Path("part.png")])
def test_file_names_are_no_frames(detector: Detector, name: Any) -> None:
    with pytest.raises(
        FrameError, match="got the name 'part.png'; read the file first, such as with cv2.imread"
    ):
        detector(name)
    with pytest.raises(FrameError, match="got the name 'part.png'; read the file first"):
        list(detector.stream([name]))
    for take in (detector.detect, detector.stream):
        with pytest.raises(FrameError, match="frames must be arrays, got the name 'part.png'"):
            take(name)


def test_none_is_what_imread_gives(detector: Detector) -> None:
    nothing: Any = None
    for judge in (detector, lambda frame: list(detector.stream([frame]))):
        with pytest.raises(FrameError, match="got None, which is what cv2.imread returns"):
            judge(nothing)


def test_a_verdict_is_printed_without_its_map(detector: Detector) -> None:
    text = repr(detector(FRAMES[0]))
    assert text.startswith("Verdict(score=0.")
    assert "anomaly_map" not in text
    assert "array" not in text


@pytest.mark.parametrize(
    ("threshold", "peak", "decided"), [(0.0, 1.0, "score"), (1.0, 0.0, "peak"), (0.0, 0.0, "both")]
)
def test_every_anomalous_frame_has_a_region(
    tmp_path: Path, threshold: float, peak: float, decided: str
) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    calibration = replace(
        DEFAULT_CALIBRATION, rule="score or peak", score_threshold=threshold, map_threshold=peak
    )
    write_manifest(folder, replace(load_bundle(folder).manifest, calibration=calibration))
    verdict = Detector(folder)(FRAMES[0])
    assert (verdict.is_anomalous, verdict.decided_by) == (True, decided)
    top, left = np.unravel_index(verdict.anomaly_map.argmax(), verdict.anomaly_map.shape)
    height, width = FRAMES[0].shape[:2]
    first, y, x = verdict.regions[0], (top + 0.5) * height / SIDE, (left + 0.5) * width / SIDE
    assert first.x <= x <= first.x + first.width
    assert first.y <= y <= first.y + first.height
    assert first.peak == verdict.peak
    if decided == "score":  # nothing reaches the map's own threshold: the hottest place alone
        assert len(verdict.regions) == 1
        assert first.area < height * width / 4


def test_a_good_frame_has_no_region_below_the_threshold(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    calibration = replace(DEFAULT_CALIBRATION, rule="score or peak", score_threshold=1.0, map_threshold=1.0)
    write_manifest(folder, replace(load_bundle(folder).manifest, calibration=calibration))
    verdict = Detector(folder)(FRAMES[0])
    assert (verdict.is_anomalous, verdict.decided_by, verdict.regions) == (False, None, ())


def spoiled(detector: Detector, name: str, value: float, row: int) -> Detector:
    """The same, but with a value in one row of an output of its graph."""
    session = detector.session

    def spoil(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = dict(session(images))
        outputs[name] = np.array(outputs[name])
        outputs[name].reshape(len(images), -1)[row, -1] = value
        return outputs

    return Detector(detector.bundle, session=Around(session, spoil))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("map", "anomaly_maps"),
        ("map", "image_logits"),
        ("embeddings", "image_embeddings"),
        ("embeddings", "patch_embeddings"),
    ],
)
def test_what_is_not_finite_is_a_bad_frame_and_the_others_have_verdicts(
    tmp_path: Path, head: str, name: str, value: float
) -> None:
    whole = Detector(write_tiny_bundle(tmp_path / "bundle", head=head))
    frames = [Frame(f"{number}.png", 0, PurePath("a"), drawn_frame(number)) for number in range(3)]
    good, bad, last = spoiled(whole, name, value, 1).stages.judge(frames)
    assert isinstance(bad, BadFrame)
    assert (bad.source, bad.problem.startswith(f"1.png: {name} must be finite, got nan or infinity")) == (
        "1.png",
        True,
    )
    for result, frame in ((good, frames[0]), (last, frames[2])):
        assert isinstance(result, Inspected)
        assert result.verdict.score == pytest.approx(whole(frame.frame).score, abs=1e-6)


@pytest.mark.parametrize("temperature", [1e-40, 1e-39, 1e-300])
@pytest.mark.parametrize("head", ["map", "embeddings"])
def test_a_temperature_that_gives_infinite_log_odds_is_refused(
    tmp_path: Path, head: str, temperature: float
) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head=head))
    bundle = replace(bundle, manifest=replace(bundle.manifest, temperature=temperature))
    with pytest.raises(BundleError, match="give log-odds that are not finite; export the bundle again"):
        Detector(bundle)


def test_log_odds_beyond_all_numbers_are_a_bad_frame(tmp_path: Path) -> None:
    """Directions that are finite, and products with them that are not: the map would be 0, and the part OK."""
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head="embeddings"))
    detector = Detector(replace(bundle, manifest=replace(bundle.manifest, temperature=1e-37)))
    session = detector.session

    def long(images: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array * np.float32(1e3) for name, array in session(images).items()}

    with pytest.raises(FrameError, match="log-odds must be finite"):
        Detector(detector.bundle, session=Around(session, long))(FRAMES[0])


def test_a_graph_that_answers_for_more_images_than_it_was_given_is_refused(tmp_path: Path) -> None:
    detector = Detector(write_tiny_bundle(tmp_path / "bundle"))
    session = detector.session

    class Twice:
        backend = provider = "test"

        def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
            return session(np.concatenate([images, images]))

        def close(self) -> None:
            session.close()

    with pytest.raises(
        BackendError, match=r"image_logits must be of 1 images, got \(2,\); export the bundle again"
    ):
        Detector(tmp_path / "bundle", session=Twice())(FRAMES[0])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_it_computes_with_the_threads_that_it_is_given(tmp_path: Path, backend: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    began = {}
    for threads in (1, 4):
        before = len(list(Path("/proc/self/task").iterdir()))
        with Detector(bundle, backend=backend, threads=threads) as detector:
            began[threads] = len(list(Path("/proc/self/task").iterdir())) - before
            assert detector.stages.workers == threads
    assert began[4] - began[1] == 3  # beside the caller's own
