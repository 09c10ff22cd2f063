"""One ONNX file holds the memory of good parts: the graph answers as the runtime does with the memory beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import BUNDLE_SIZE
from graphs import drawn_frame

from acl_export.config import MEMORY_FP32_TOLERANCE, ExportConfig, Head
from acl_export.export import export_bundle
from acl_export.torch_session import TorchSession
from acl_runtime.backends.openvino_session import OpenVinoSession
from acl_runtime.backends.tensorrt.build import BuildRequest, build_engine
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.words import memory_words
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.record import read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.sources.files import list_sources
from acl_train.weights import Weights

GOOD, REMEMBERED = 32, 6


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for seed in range(GOOD):
        cv2.imwrite(str(folder / f"{seed}.png"), drawn_frame(100 + seed))
    return folder


@pytest.fixture(scope="module")
def remembering(bundles: dict[Head, Path], good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with head embeddings, and every kind of memory at once."""
    bundle = Path(shutil.copytree(bundles[Head.embeddings], tmp_path_factory.mktemp("bundle") / "bundle"))
    kind = "patches+place+subspace"
    calibrate_bundle(Detector(bundle), list_sources([good]), memory=REMEMBERED, memory_kind=kind)
    return bundle


@pytest.fixture(scope="module")
def one_file(
    remembering: Path, prompts_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("graph") / "bundle"
    record = remembering / "calibrations" / "0001.json"
    export_bundle(prompts_path, output, weights, ExportConfig(memory=record))
    return output


def test_the_graph_answers_as_the_runtime_does(remembering: Path, one_file: Path, clip_path: Path) -> None:
    bundle = load_bundle(one_file)
    assert (bundle.manifest.head, bundle.manifest.graph_memory) == ("map", "memory.npz")
    assert "memory.npz, in the graph too" in memory_words(bundle.manifest)
    graph, runtime = Detector(one_file), Detector(remembering)
    torch = Detector(bundle, session=TorchSession.of_bundle(bundle, str(clip_path)))
    for seed in (101, 7, 8):  # a remembered one may be among them, the others are strange
        frame = drawn_frame(seed)
        ours, theirs, exact = (detector(frame) for detector in (graph, runtime, torch))
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=1e-4)
        np.testing.assert_allclose(exact.anomaly_map, theirs.anomaly_map, atol=1e-4)
        assert ours.anomaly_map.shape == (BUNDLE_SIZE, BUNDLE_SIZE)
        alone = runtime.with_memory(None)(frame)
        assert np.abs(ours.anomaly_map - alone.anomaly_map).max() > 0.01


def test_the_proof_is_of_the_graph_with_its_memory(one_file: Path) -> None:
    parity = load_bundle(one_file).manifest.parity
    assert parity.tolerance == MEMORY_FP32_TOLERANCE
    assert 0 < parity.image_logits < MEMORY_FP32_TOLERANCE["image_logits"]
    assert 0 < parity.anomaly_map < MEMORY_FP32_TOLERANCE["anomaly_map"]


def test_what_the_graph_remembers_does_not_calibrate(
    one_file: Path, remembering: Path, good: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(one_file, tmp_path / "bundle")
    record, before = (
        calibrate_bundle(Detector(bundle), list_sources([good])),
        read_record(load_bundle(remembering)),
    )
    assert before is not None
    assert before.memory is not None
    assert set(record.good.source) == {str(path) for path in good.glob("*.png")} - set(before.memory.sources)
    assert record.good.score == pytest.approx(before.good.score, abs=1e-4)
    with pytest.raises(ValueError, match="its graph holds a memory, which sees the whole frame"):
        calibrate_bundle(Detector(bundle), list_sources([good]), ignored=["0,0 20,0 20,20"])


def test_openvino_runs_it(one_file: Path) -> None:
    bundle = load_bundle(one_file)
    frame = drawn_frame(9)
    ours = Detector(bundle, session=OpenVinoSession(bundle.cpu_graph_path))(frame)
    np.testing.assert_allclose(ours.anomaly_map, Detector(bundle)(frame).anomaly_map, atol=1e-3)


def test_tensorrt_rtx_builds_it(one_file: Path, tmp_path: Path) -> None:
    """Whether the engine is right only a GPU can say, by its certificate."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: the extra rtx")
    manifest = load_bundle(one_file).manifest
    request = BuildRequest(
        library="tensorrt-rtx",
        graph=one_file / "model.onnx",
        plan=tmp_path / "a.engine",
        compute_capabilities=("8.9",),
        max_batch=2,
    )
    report = build_engine(request, log=tmp_path / "a.log", progress=lambda *_: None)
    assert {tensor.name for tensor in report.outputs} >= {tensor.name for tensor in manifest.graph.outputs}
    assert request.plan.stat().st_size > 0


def test_a_memory_that_does_not_fit_is_refused(
    remembering: Path, bundles: dict[Head, Path], prompts_path: Path, weights: Weights, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    with pytest.raises(ValueError, match="a memory goes into a graph with head map"):
        export_bundle(prompts_path, output, weights, ExportConfig(head=Head.embeddings, memory=remembering))
    with pytest.raises(ValueError, match="has no memory of good parts; name one calibrated with --memory"):
        export_bundle(prompts_path, output, weights, ExportConfig(memory=bundles[Head.map]))
    with pytest.raises(ValueError, match="no such record; name calibrations/NUMBER.json"):
        export_bundle(prompts_path, output, weights, ExportConfig(memory=tmp_path / "none.json"))
    assert not output.exists()
