"""Maps of good frames stay on the GPU when nobody asks for them; verdicts are the same to the last bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from graphs import SIDE, drawn_frame, write_tiny_bundle
from standin_cuda import StandinCuda
from standin_trt import Fault, make_standin_engine, standin_library
from typer.testing import CliRunner

from acl_runtime import Detector
from acl_runtime.backends.tensorrt import choose
from acl_runtime.backends.tensorrt import session as session_module
from acl_runtime.backends.tensorrt.certificate import certify
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.backends.tensorrt.worker import summarise
from acl_runtime.bundle.bundle import Bundle, load_bundle, write_manifest
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.cli import app
from acl_runtime.detection.verdict import Inspected, Verdict
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.outputs.page.feed import _picture_of
from acl_runtime.outputs.pictures import MAP, Maps, draw_overlay
from acl_runtime.scoring.regions import find_regions

MAP_BYTES = 4 * SIDE * SIDE
REGION = 0.645  # some of the drawn frames have a region, some have none


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = write_tiny_bundle(tmp_path_factory.mktemp("maps") / "bundle")
    manifest = load_bundle(folder).manifest
    calibration = replace(manifest.calibration, region_threshold=REGION)
    write_manifest(folder, replace(manifest, calibration=calibration))
    return load_bundle(folder)


def open_session(bundle: Bundle, cuda: StandinCuda | None = None, **more: Any) -> TrtSession:
    engine = make_standin_engine(bundle, **more)
    return TrtSession(bundle, engine, library=standin_library(), cuda=cuda or StandinCuda())


def without_times(verdict: Verdict) -> dict[str, Any]:
    return {name: value for name, value in vars(verdict).items() if name not in ("anomaly_map", "latency_ms")}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, None, 1.0])
@pytest.mark.parametrize("is_integrated", [False, True])
def test_verdicts_are_the_same_and_maps_are_fetched_where_they_are_needed(
    bundle: Bundle, threshold: float | None, is_integrated: bool
) -> None:
    frames = [drawn_frame(seed) for seed in range(9)]
    cuda = StandinCuda(is_integrated=is_integrated)
    with (
        Detector(bundle, session=open_session(bundle), threshold=threshold) as full,
        Detector(bundle, session=open_session(bundle, cuda), threshold=threshold, maps="defects") as brief,
    ):
        whole = full.detect(frames)
        pairs = list(brief.stream(frames, batch=3, max_latency_ms=None))
        cuda.moved_bytes = 0
        again = brief.detect(frames)
        for expected, (_, streamed), verdict in zip(whole, pairs, again, strict=True):
            assert without_times(streamed) == without_times(verdict) == without_times(expected)
            if verdict.is_anomalous or verdict.regions:
                np.testing.assert_array_equal(verdict.anomaly_map, expected.anomaly_map)
            else:
                assert verdict.anomaly_map.shape == (0, 0)
        fetched = sum(verdict.anomaly_map.size > 0 for verdict in again)
        moved = 9 * (3 * SIDE * SIDE + 12) + fetched * MAP_BYTES  # images in; log-odds, peak and sum out
        assert cuda.moved_bytes == (0 if is_integrated else moved)
    if threshold in (0.0, 1.0):
        assert (fetched == 9) == (threshold == 0.0)


@pytest.mark.parametrize("threshold", [0.3, 0.645, 0.7, 0.9])
def test_a_peak_is_compared_as_a_region_is(bundle: Bundle, threshold: float) -> None:
    """0.7 in float32 is below 0.7: a map that just reaches it has a region, and so is wanted."""
    calibration = replace(bundle.manifest.calibration, region_threshold=threshold)
    with Detector(bundle, session=open_session(bundle), threshold=1.0, maps="defects") as detector:
        stages = replace(detector.stages, manifest=replace(bundle.manifest, calibration=calibration))
        just = np.float32(threshold)
        peaks = np.array(
            [np.nextafter(just, np.float32(0)), just, np.nextafter(just, np.float32(1)), np.nan], np.float32
        )
        wanted = stages._want_maps(np.zeros(4, np.float32), peaks)
    for peak, is_wanted in zip(peaks[:3], wanted, strict=False):
        found = find_regions(np.full((2, 2), peak), threshold=threshold, frame_width=2, frame_height=2)
        assert bool(found) == is_wanted


def test_some_are_left_and_some_fetched(bundle: Bundle) -> None:
    """Otherwise the test above shows little."""
    with Detector(bundle, provider="cpu") as detector:
        peaks = sorted(detector(drawn_frame(seed)).peak for seed in range(9))
    assert peaks[2] < REGION <= peaks[-3]


@pytest.mark.parametrize("kind", ["nan", "rows"])
def test_nan_in_a_map_that_stays_is_noticed(bundle: Bundle, kind: Any) -> None:
    fault = Fault(kind, amount=float("nan"))  # the largest of numbers passes nan over, the sum does not
    session = open_session(bundle, fault=fault)
    with Detector(bundle, session=session, threshold=0.99, maps="defects") as detector:
        results = list(detector.stages.judge([detector_frame(seed) for seed in range(3)]))
    assert isinstance(results[0], BadFrame if kind == "nan" else Inspected)
    for result in results[1:]:
        assert isinstance(result, BadFrame)
        assert "must be finite, got nan or infinity" in result.problem


def detector_frame(seed: int) -> Any:
    return Frame("", seed, PurePath(str(seed)), drawn_frame(seed))


def test_where_maps_cannot_stay_they_come(bundle: Bundle, tmp_path: Path) -> None:
    frame = drawn_frame(2)
    embeddings = load_bundle(write_tiny_bundle(tmp_path / "b", head="embeddings"))
    for detector in (
        Detector(bundle, provider="cpu", maps="defects"),
        Detector(bundle, session=open_session(bundle, summarises=False), maps="defects"),
        Detector(bundle, session=open_session(bundle), maps="defects", tiling=Tiling(32, None, None)),
        Detector(embeddings, session=open_session(embeddings), maps="defects"),
    ):
        with detector:
            assert detector(frame).anomaly_map.size > 0


def test_the_certificate_covers_peaks_and_sums(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import standin_trt

    right = standin_trt.SUMMARIES["map_peaks"]
    for wrong in (lambda rows: right(rows) + 0.25, lambda rows: rows[:, 0]):
        monkeypatch.setitem(standin_trt.SUMMARIES, "map_peaks", wrong)
        with open_session(bundle) as session:
            certificate = certify(session, bundle, lambda done, total: None)
        assert not certificate.holds
        assert certificate.worst["anomaly_map"] > 0.01
    monkeypatch.undo()
    with open_session(bundle) as session:
        assert certify(session, bundle, lambda done, total: None).holds


def test_outputs_do_without_a_map(bundle: Bundle, tmp_path: Path) -> None:
    with Detector(bundle, session=open_session(bundle), threshold=1.0, maps="defects") as detector:
        results = list(detector.stages.judge([detector_frame(seed) for seed in range(9)]))
    left = [
        result for result in results if isinstance(result, Inspected) and not result.verdict.anomaly_map.size
    ]
    assert left
    save = Maps(tmp_path)
    for result in results:
        save(result)
    assert len(list(tmp_path.glob(f"*{MAP}"))) == len(results) - len(left)
    drawn = draw_overlay(left[0].frame.frame, left[0].verdict)
    np.testing.assert_array_equal(drawn[-90:, :120], left[0].frame.frame)
    assert _picture_of(left[0]).anomaly_map is None


def test_the_builder_adds_them_to_a_network_with_maps_and_to_no_other() -> None:
    added: list[Any] = []

    class Network:
        def __init__(self, *names: str) -> None:
            self.outputs = [SimpleNamespace(name=name) for name in names]

        @property
        def num_outputs(self) -> int:
            return len(self.outputs)

        def get_output(self, index: int) -> Any:
            return self.outputs[index]

        def add_reduce(self, tensor: Any, op: str, axes: int, keep_dims: bool) -> Any:
            added.append((tensor.name, op, axes, keep_dims))
            output = SimpleNamespace(name="")
            return SimpleNamespace(get_output=lambda index: output)

        def mark_output(self, tensor: Any) -> None:
            self.outputs.append(tensor)

    library = SimpleNamespace(ReduceOperation=SimpleNamespace(MAX="max", SUM="sum"))
    network = Network("image_logits", "anomaly_maps")
    summarise(library, network)
    assert [output.name for output in network.outputs][2:] == ["map_peaks", "map_sums"]
    assert added == [("anomaly_maps", "max", 6, False), ("anomaly_maps", "sum", 6, False)]
    other = Network("image_embeddings", "patch_embeddings")
    summarise(library, other)
    assert other.num_outputs == 2


def test_a_command_leaves_them_too(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    for module in (choose, session_module):
        monkeypatch.setattr(module, "Cuda", lambda device=0: StandinCuda())
        monkeypatch.setattr(module, "load_library", standin_library)
    own = load_bundle(shutil.copytree(bundle.path, tmp_path / "bundle"))
    make_standin_engine(own)
    (tmp_path / "in").mkdir()
    for seed in range(9):
        cv2.imwrite(str(tmp_path / "in" / f"{seed}.png"), drawn_frame(seed))
    saved = {}
    for maps in ("all", "defects"):
        folder, lines = tmp_path / maps, tmp_path / f"{maps}.json"
        arguments = ["run", own.path, tmp_path / "in", "--maps", maps, "--save-maps", folder, "--json", lines]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.stderr
        saved[maps] = {path.name for path in folder.rglob("*.npy")}
        rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == 9
    assert len(saved["all"]) == 9 > len(saved["defects"]) > 0
