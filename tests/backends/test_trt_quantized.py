"""Engines of eight bits are built where the GPU has them, and run where `acl qualify` has passed on that very GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MINI
from engines import StandinMachine
from graphs import write_tiny_bundle
from standin_cuda import StandinCuda
from standin_trt import Fault, make_standin_engine, standin_library
from typer.testing import CliRunner

from acl_runtime import Detector
from acl_runtime.backends.choose import open_session
from acl_runtime.backends.qualification import qualification_path
from acl_runtime.backends.tensorrt import choose, session
from acl_runtime.backends.tensorrt import ladder as ladder_module
from acl_runtime.backends.tensorrt.choose import NoEngineError
from acl_runtime.backends.tensorrt.engine_file import list_engines
from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine
from acl_runtime.bench import qualify as bench
from acl_runtime.bench.measure import Laps
from acl_runtime.bench.qualify import qualify
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.manifest import Drift
from acl_runtime.cli import app
from acl_runtime.commands import build as build_command
from acl_runtime.files.errors import BackendError, BundleError

DEVICE = "Stand-in GPU with 58 multiprocessors and 9 GB"
Found = Callable[[float, float], None]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle", ladder=("fp16", "fp32", "int8", "fp8")))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandinCuda:
    """A machine with a GPU and TensorRT, both stand-ins; its driver may change."""
    cuda = StandinCuda()
    for module in (choose, session):
        monkeypatch.setattr(module, "Cuda", lambda device=0: StandinCuda(driver=cuda.driver))
        monkeypatch.setattr(module, "load_library", standin_library)
    return cuda


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Have the qualification find a drift of AUROC and a ratio, instead of measuring."""

    def pretend(drift: float, ratio: float) -> None:
        def measured(candidates: Any, *_: Any, **__: Any) -> list[Laps]:
            assert [each.precision for each in candidates] == ["fp16", "int8"]
            assert [each.batch for each in candidates] == [3, 3], "both as the engine was optimised"
            times = (1.0, 1 / ratio)
            return [
                Laps(each, np.full((5, 3), time), None) for each, time in zip(candidates, times, strict=True)
            ]

        metrics = {"image_auroc": drift, "pixel_auroc": 0.0}
        monkeypatch.setattr(bench, "measure", measured)
        monkeypatch.setattr(bench, "measure_change", lambda *_: Drift(("parts",), 9, metrics))

    return pretend


def run_qualify(bundle: Bundle) -> list[str]:
    return qualify(bundle, "tensorrt-int8", [MINI], progress=lambda *_: None).failures()


def test_an_engine_of_eight_bits_is_not_taken_by_itself(bundle: Bundle, gpu: StandinCuda) -> None:
    make_standin_engine(bundle, arithmetic="int8")
    assert open_session(bundle).backend == "onnxruntime"
    with pytest.raises(NoEngineError, match="has no engines; build one here with acl build"):
        open_session(bundle, backend="tensorrt")
    make_standin_engine(bundle, batch=(1, 2))
    assert open_session(bundle).provider.endswith("fp16")


def test_it_runs_once_it_is_qualified_here(bundle: Bundle, gpu: StandinCuda, found: Found) -> None:
    for arithmetic in ("fp16", "int8"):
        make_standin_engine(bundle, arithmetic=arithmetic)
    with pytest.raises(
        BackendError, match=rf"tensorrt-int8 is not qualified on {DEVICE}; run acl qualify .* --data"
    ):
        Detector(bundle, backend="tensorrt-int8")
    found(0.0019, 1.2)
    assert run_qualify(bundle) == []
    record = json.loads(qualification_path(bundle, "tensorrt-int8", DEVICE).read_text())
    assert record["device"] == DEVICE
    assert record["library_version"] == "tensorrt 10.13.3.9, driver 570.00.00, CUDA 12.8"
    with Detector(bundle, backend="tensorrt-int8") as detector:
        assert (detector.backend, detector.provider.rpartition(", ")[2]) == ("tensorrt-int8", "int8")
    gpu.driver = "580.00.00, CUDA 13.0"
    with pytest.raises(BackendError, match="was qualified on another device, version, graph or engine"):
        open_session(bundle, backend="tensorrt-int8")


@pytest.mark.parametrize(
    ("drift", "ratio", "reason"),
    [
        (-0.0021, 1.5, r"Image AUROC of parts moved by -0\.210 points, at most 0\.2 is accepted"),
        (0.0, 0.98, r"it is no faster here: 0\.98 times the bundle's own engine"),
    ],
)
def test_what_is_off_or_slow_is_refused_with_the_reason(
    bundle: Bundle, gpu: StandinCuda, found: Found, drift: float, ratio: float, reason: str
) -> None:
    for arithmetic in ("fp16", "int8"):
        make_standin_engine(bundle, arithmetic=arithmetic)
    found(drift, ratio)
    result = CliRunner().invoke(
        app, ["qualify", str(bundle.path), "--backend", "tensorrt-int8", "--data", str(MINI)]
    )
    assert result.exit_code == 1
    with pytest.raises(BackendError, match=rf"tensorrt-int8 failed on {DEVICE} \({reason}"):
        open_session(bundle, backend="tensorrt-int8")


def test_without_such_an_engine_the_command_is_told(bundle: Bundle, gpu: StandinCuda) -> None:
    make_standin_engine(bundle)
    with pytest.raises(
        NoEngineError, match="has no engine in fp8; build one here with acl build .* --arithmetic fp8"
    ):
        open_session(bundle, backend="tensorrt-fp8")


@pytest.fixture
def make(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, bool]]]:
    machine = StandinMachine(bundle)
    monkeypatch.setattr(ladder_module, "build_engine", machine.build)

    def run(first: str, capability: str = "8.9", fault: Fault | None = None) -> list[tuple[str, bool]]:
        machine.cuda = StandinCuda(compute_capability=capability)
        machine.faults = {} if fault is None else {f"model.{first}.onnx": fault}
        options = EngineOptions(max_batch=2, first=first)  # type: ignore[arg-type]
        attempts = make_engine(bundle, machine.library, machine.cuda, options, progress=lambda *_: None)
        return [(attempt.arithmetic, attempt.engine is not None) for attempt in attempts]

    return run


def test_it_is_built_where_the_gpu_multiplies_it(make: Callable[..., Any], bundle: Bundle) -> None:
    assert make("int8", "8.7") == [("int8", True)]  # Orin
    assert make("fp8", "8.9") == [("fp8", True)]
    with pytest.raises(
        BackendError, match=r"fp8 needs compute capability 8\.9 or newer, got 8\.7; take int8"
    ):
        make("fp8", "8.7")
    with pytest.raises(
        BackendError, match=r"int8 needs compute capability 7\.5 or newer, got 7\.0; take fp16"
    ):
        make("int8", "7.0")
    assert {engine.record.arithmetic for engine in list_engines(bundle).whole} == {"int8", "fp8"}


def test_one_that_is_wrong_gives_way_to_the_bundles_own(make: Callable[..., Any], bundle: Bundle) -> None:
    assert make("int8", fault=Fault("rows", amount=0.5)) == [("int8", False), ("fp16", True)]
    assert [engine.record.arithmetic for engine in list_engines(bundle).whole] == ["fp16"]


def test_a_bundle_without_the_graph_says_how_to_get_it(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, ladder=bundle.manifest.ladder[:1])
    with pytest.raises(BundleError, match="has no graph in fp8; export it with acl export .* --quantize fp8"):
        manifest.arithmetics("fp8")


def test_cards_without_fp8_are_left_out_where_none_are_named() -> None:
    class Rtx:
        is_rtx = True

    library: Any = Rtx()
    named = build_command._capabilities(None, library, None, build_command.First.fp8)
    assert named == ("8.9", "12.0")
    assert build_command._capabilities(None, library, None, None) == ("8.6", "8.9", "12.0")
