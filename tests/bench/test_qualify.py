"""Fewer bits run only where accuracy holds and speed improves, on this very CPU."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import MINI
from typer.testing import CliRunner

from acl_export.config import ExportConfig, Head
from acl_export.export import export_bundle
from acl_runtime import Detector
from acl_runtime.backends.choose import BACKENDS, open_backend, open_session
from acl_runtime.backends.host import cpu_model
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.qualification import Qualification, qualification_path, read_qualification
from acl_runtime.bench import qualify as bench
from acl_runtime.bench.measure import Laps
from acl_runtime.bench.qualify import qualify
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.manifest import Drift
from acl_runtime.cli import app
from acl_runtime.files.errors import BackendError
from acl_train.weights import Weights

BLOCKS, SECOND_PATH = 12, 10
INT8 = "onnxruntime-int8"


def record_path(bundle: Bundle) -> Path:
    return qualification_path(bundle, INT8, cpu_model())


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def original(prompts_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the kit's small CLIP with a graph in int8; not to be written to."""
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    export_bundle(prompts_path, folder, weights, ExportConfig(head=Head.map, max_batch=2, int8=True))
    return folder


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Bundle:
    return load_bundle(shutil.copytree(original, tmp_path / "bundle"))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Have the qualification find a drift of AUROC and a ratio, instead of measuring."""

    def pretend(drift: float, ratio: float) -> None:
        def measured(candidates: Any, *_: Any, **__: Any) -> list[Laps]:
            times = [1.0] * (len(candidates) - 1) + [1 / ratio]
            return [
                Laps(each, np.full((5, 3), time), None) for each, time in zip(candidates, times, strict=True)
            ]

        metrics = {"image_auroc": 0.0, "pixel_auroc": drift}
        monkeypatch.setattr(bench, "measure", measured)
        monkeypatch.setattr(bench, "measure_change", lambda *_: Drift(("parts",), 9, metrics))

    return pretend


def test_all_linear_layers_are_in_int8_and_nothing_else(bundle: Bundle) -> None:
    assert bundle.manifest.int8 == "model.int8.onnx"
    model = onnx.load(bundle.path / "model.int8.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert (
        kinds.count("MatMulInteger") == 4 * BLOCKS + SECOND_PATH
    )  # the second path has its output projections
    assert kinds.count("Softmax") == BLOCKS + SECOND_PATH
    assert "visual.proj" in {tensor.name for tensor in model.graph.initializer}
    assert (bundle.path / "model.int8.onnx").stat().st_size < 0.6 * bundle.graph_path.stat().st_size


@pytest.mark.parametrize("backend", [INT8, "openvino-bf16", "openvino-int8"])
def test_fewer_bits_are_near_and_not_the_same(bundle: Bundle, backend: str) -> None:
    if backend.startswith("openvino"):
        pytest.importorskip("openvino")
    try:
        session = open_backend(bundle, backend)[0]
    except RuntimeError as error:
        pytest.skip(str(error))  # a CPU without bf16
    off = GoldenImages(bundle).compare(session, batch=2)
    assert 1e-4 < off.anomaly_map < 0.2


def test_a_bundle_without_an_int8_graph_says_so(bundles: dict[Head, Path]) -> None:
    with pytest.raises(RuntimeError, match="has no graph in int8; export it with acl export --int8"):
        open_backend(load_bundle(bundles[Head.map]), INT8)


def test_a_missing_int8_graph_is_refused_at_load(bundle: Bundle) -> None:
    (bundle.path / "model.int8.onnx").unlink()
    with pytest.raises(ValueError, match=r"model\.int8\.onnx: is missing"):
        load_bundle(bundle.path)


def test_a_qualification_judges_real_images_and_the_clock(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "TIMED_S", 0.0)
    made = qualify(bundle, INT8, [MINI], progress=silent)
    (drift,) = made.drift
    assert drift.images == 18
    assert {"image_auroc", "pixel_auroc", "aupro"} <= set(drift.metrics)
    assert made.ratio > 0
    assert made.fastest in ("onnxruntime", "openvino")
    assert json.loads(record_path(bundle).read_text())["backend"] == INT8
    assert load_bundle(bundle.path).manifest == bundle.manifest  # the record is no file of the bundle


def test_what_is_qualified_is_opened(bundle: Bundle, found: Callable[[float, float], None]) -> None:
    found(0.0019, 1.01)
    assert qualify(bundle, INT8, [MINI], progress=silent).failures() == []
    detector = Detector(bundle, backend=INT8)
    assert detector(np.zeros((40, 40), np.uint8)).score >= 0


@pytest.mark.parametrize(
    ("drift", "ratio", "reasons"),
    [
        (0.0021, 2.0, [r"Pixel AUROC of parts moved by \+0.210 points, at most 0.2 is accepted"]),
        (-0.01, 2.0, [r"moved by -1.000 points"]),
        (0.0, 0.97, [r"it is no faster here: 0.97 times \w+ in float32"]),
        (0.5, 1.0, ["moved by", "no faster"]),
    ],
)
def test_what_is_off_or_slow_is_refused_with_the_reason(
    bundle: Bundle, found: Callable[[float, float], None], drift: float, ratio: float, reasons: list[str]
) -> None:
    found(drift, ratio)
    failures = qualify(bundle, INT8, [MINI], progress=silent).failures()
    assert len(failures) == len(reasons)
    for failure, reason in zip(failures, reasons, strict=True):
        assert re.search(reason, failure)
    with pytest.raises(RuntimeError, match=r"onnxruntime-int8 failed on .*; use --backend auto"):
        open_session(bundle, backend=INT8)


@pytest.mark.parametrize("change", [{"device": "another"}, {"library_version": "0.1"}, {"sha256": "0"}])
def test_a_record_of_something_else_does_not_count(
    bundle: Bundle, found: Callable[[float, float], None], change: dict[str, str]
) -> None:
    found(0.0, 2.0)
    qualify(bundle, INT8, [MINI], progress=silent)
    path = record_path(bundle)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(
        RuntimeError, match="was qualified on another device, version, graph or engine; run acl qualify"
    ):
        open_session(bundle, backend=INT8)


def test_what_was_not_qualified_is_an_error_with_the_command(bundle: Bundle) -> None:
    remedy = "is not qualified on .*; run acl qualify .* --backend onnxruntime-int8 --data"
    with pytest.raises(RuntimeError, match=remedy):
        Detector(bundle, backend=INT8)


def test_a_damaged_record_is_an_error(bundle: Bundle) -> None:
    record_path(bundle).parent.mkdir()
    record_path(bundle).write_text("{}")
    with pytest.raises(ValueError, match="is no qualification record"):
        open_session(bundle, backend=INT8)


def test_images_of_one_kind_have_no_auroc_to_move(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "parts" / "bad").mkdir(parents=True)
    (tmp_path / "parts" / "good").mkdir()
    for name in ("000.png", "001.png"):
        shutil.copy(MINI / "01" / "test" / "bad" / name, tmp_path / "parts" / "bad")
    with pytest.raises(ValueError, match="parts"):
        qualify(bundle, INT8, [tmp_path / "parts"], progress=silent)


def test_the_command_tells_what_was_found(bundle: Bundle, found: Callable[[float, float], None]) -> None:
    def acl(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["qualify", *map(str, arguments)])

    found(0.001, 1.5)
    accepted = acl(bundle.path, "--backend", INT8, "--data", MINI)
    assert accepted.exit_code == 0, accepted.output
    assert accepted.stdout.splitlines()[0] == "parts, 9 images: Image AUROC +0.000, Pixel AUROC +0.100 points"
    assert f"qualified: acl run {bundle.path} IMAGES --backend {INT8}" in accepted.stdout
    found(0.01, 1.5)
    refused = acl(bundle.path, "--backend", INT8, "--data", MINI)
    assert refused.exit_code == 1
    assert "onnxruntime-int8 fails: Pixel AUROC of parts moved by +1.000 points" in refused.stderr
    assert acl(bundle.path, "--backend", INT8).exit_code == 2
    other = acl(bundle.path, "--backend", "tensorrt", "--data", MINI)
    assert "Invalid value for '--backend': 'tensorrt' is not one of" in " ".join(other.stderr.split())


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda d: d.update(drift=[]), "no labelled images were compared"),
        (lambda d: d["drift"][0]["metrics"].pop("image_auroc"), "Image AUROC of parts was not compared"),
    ],
)
def test_a_record_that_compared_nothing_qualifies_nothing(
    bundle: Bundle, found: Callable[[float, float], None], edit: Callable[[dict[str, Any]], object], why: str
) -> None:
    found(0.0, 1.5)
    qualify(bundle, INT8, [MINI], progress=lambda *_: None)
    document = json.loads(record_path(bundle).read_text())
    edit(document)
    record_path(bundle).write_text(json.dumps(document))
    with pytest.raises(BackendError, match=rf"failed on .*{why}"):
        open_session(bundle, backend=INT8)


SAMPLE = Path(__file__).parents[1] / "samples" / "qualifications" / "onnxruntime-int8.gate.json"


def test_records_of_gates_are_read(bundle: Bundle) -> None:
    path = record_path(bundle)
    old = path.with_name(path.name.replace(".qualification.json", ".gate.json"))
    old.parent.mkdir()
    shutil.copy(SAMPLE, old)
    found = read_qualification(bundle, INT8, cpu_model(), "remedy")
    assert found is not None
    assert found == Qualification(
        format="anomalyclip-gate",
        format_version=2,
        backend=INT8,
        device="Intel(R) Xeon(R) Processor",
        library_version="1.32.0",
        sha256="0e10f8ca1251be3ed015cf020c76bfedd216a4ee7b138cb573197fd1549a20bd",
        drift=found.drift,
        largest_drift=0.002,
        ratio=1.0618485523691918,
        fastest="onnxruntime",
        created="2026-11-27T12:28:39+00:00",
    )
    assert found.drift[0].metrics["pixel_auroc"] == 0.0001664929884142019
    here = {
        "cpu": cpu_model(),
        "library_version": BACKENDS[INT8].version,
        "graph_sha256": bundle.manifest.files["model.int8.onnx"].sha256,
    }
    old.write_text(json.dumps(json.loads(SAMPLE.read_text()) | here))
    assert open_session(bundle, backend=INT8).backend == INT8
