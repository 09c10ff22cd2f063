"""`acl build` from the command line, with the real TensorRT-RTX where nothing else is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import typer
from engines import StandinMachine
from graphs import write_tiny_bundle
from standin_trt import Fault
from typer.testing import CliRunner

from acl_export.config import Head
from acl_export.mixed import LADDER
from acl_runtime.backends.tensorrt import cuda, ladder, library
from acl_runtime.backends.tensorrt.engine_file import list_engines
from acl_runtime.bundle.bundle import ENGINES, load_bundle
from acl_runtime.cli import app
from acl_runtime.commands import build as build_command
from acl_runtime.commands.build import parse_batch

HAS_GPU = Path("/proc/driver/nvidia/version").exists()


def acl(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandinMachine:
    """A machine with stand-ins of GPU and TensorRT, and a bundle at `tmp_path / "bundle"`."""
    machine = StandinMachine(load_bundle(write_tiny_bundle(tmp_path / "bundle", ladder=LADDER)))
    monkeypatch.setattr(ladder, "build_engine", machine.build)
    monkeypatch.setattr(cuda, "Cuda", lambda device=0: machine.cuda)
    monkeypatch.setattr(library, "find_library", lambda: machine.library)
    return machine


def test_it_says_what_holds_and_what_it_costs(machine: StandinMachine, tmp_path: Path) -> None:
    machine.faults = {"model.onnx": Fault("rows", amount=0.5)}
    code, out, errors = acl("build", tmp_path / "bundle", "--batch", "1..3")
    assert code == 0, errors
    lines = out.splitlines()
    assert lines[0] == (
        "fp16: refused: image_logits off by 0.5 at batch 2, at most 0.001 is accepted; "
        "anomaly_map off by 0.5 at batch 2, at most 0.0001 is accepted"
    )
    assert lines[1].startswith("fp16-accumulate-fp32: holds at batch 1..3: log-odds within ")
    assert lines[2].startswith("what it costs: fp16-accumulate-fp32 takes ")
    assert lines[3].endswith("MB, built in 0 s")
    (engine,) = list_engines(load_bundle(tmp_path / "bundle")).whole
    assert lines[3].startswith(f"{engine.path}: ")
    assert f"{engine.path.name} (proven on Stand-in GPU)" in acl("info", tmp_path / "bundle")[1]


def test_what_tensorrt_warns_of_is_shown_once(machine: StandinMachine, tmp_path: Path) -> None:
    machine.warnings = ("the timing cache is of another GPU",)
    machine.faults = {"model.onnx": Fault("rows", amount=0.5)}
    errors = acl("build", tmp_path / "bundle", "--batch", "1..3")[2]
    assert errors.count("the timing cache is of another GPU") == 1


def test_where_nothing_holds_it_is_exit_code_1(machine: StandinMachine, tmp_path: Path) -> None:
    graphs = ["model.onnx", *(f"model.{step}.onnx" for step in LADDER[1:])]
    machine.faults = dict.fromkeys(graphs, Fault("nan"))
    code, out, errors = acl("build", tmp_path / "bundle")
    assert (code, out) == (1, "")
    assert (
        "error: no engine was made, older ones are as they were (fp16: image_logits nan or infinity" in errors
    )


def test_here_it_builds_without_a_gpu_and_says_that_the_proof_waits(
    fp16_bundles: dict[Head, Path], tmp_path: Path
) -> None:
    if HAS_GPU:
        pytest.skip("there is a GPU")
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: the extra rtx")
    shutil.copytree(fp16_bundles[Head.map], tmp_path / "bundle")
    code, out, errors = acl("build", tmp_path / "bundle", "--backend", "tensorrt-rtx", "--batch", "1..2")
    assert code == 0, errors
    assert "no GPU can be used" in errors
    assert out.startswith("fp16: built, not proven: no GPU here that it is for")
    (engine,) = list_engines(load_bundle(tmp_path / "bundle")).whole
    assert engine.path.name.startswith("any_sm86-sm89-sm120_tensorrt-rtx-")
    assert engine.record.fused_attention
    assert engine.record.activation_bytes
    log = engine.path.with_suffix(".log").read_text()
    assert "Total Activation Memory" in log
    code, out, errors = acl(
        "run", tmp_path / "bundle", Path(__file__).parents[1] / "golden/fixtures/images/synth0.png"
    )
    assert code == 0
    assert "ONNX Runtime computes, not TensorRT" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--batch", "8..1"),
            r"batch must be a size or range within 1\.\.3 .the bundle's max_batch., got 8\.\.1",
        ),
        (("--batch", "99"), "export with a larger --max-batch for more"),
        (("--arithmetic", "fp32"), None),
        (("--compute-capability", "8.6"), "is for --backend tensorrt-rtx"),
        (
            ("--backend", "openvino-int8", "--batch", "1..3"),
            "'openvino-int8' is not one of 'tensorrt', 'tensorrt-",
        ),
    ],
)
def test_wrong_options_are_one_sentence(
    machine: StandinMachine, tmp_path: Path, options: tuple[str, ...], message: str | None
) -> None:
    code, _, errors = acl("build", tmp_path / "bundle", *options)
    if message is None:
        assert code == 0
        assert machine.built == ["model.fp32.onnx"]
        return
    assert code in (1, 2)
    assert re.search(message, " ".join(errors.replace("│", " ").split()))
    assert machine.built == []


@pytest.mark.parametrize("text", ["", "a", "1..", "..8", "1.8", "-1", "1..8..9"])
def test_a_batch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be numbers or ranges such as 8, 1..8 or 1,2,4,8"):
        parse_batch(text)


def test_several_batch_sizes_are_an_engine_each_the_largest_first(
    machine: StandinMachine, tmp_path: Path
) -> None:
    machine.faults = {"model.onnx": Fault("rows", amount=0.5)}  # wrong above one image at once
    code, out, errors = acl("build", tmp_path / "bundle", "--batch", "1,2,3,1..3")
    assert code == 0, errors
    built = [(request.graph.name, request.min_batch, request.max_batch) for request in machine.requests]
    (lower,) = {name for name, *_ in built} - {"model.onnx"}
    assert built == [
        ("model.onnx", 1, 3),
        (lower, 1, 3),
        (lower, 3, 3),  # of the arithmetic that the first came to
        (lower, 2, 2),
        (lower, 1, 1),
    ]
    engines = list_engines(load_bundle(tmp_path / "bundle")).whole
    assert {engine.record.arithmetic for engine in engines} == {"fp16-accumulate-fp32"}
    assert all(engine.certificate_path.is_file() for engine in engines)
    assert out.count("holds at batch 1..") == 4


def test_that_engines_of_two_arithmetics_do_not_serve_together_is_said(
    machine: StandinMachine, tmp_path: Path
) -> None:
    machine.faults = {"model.onnx": Fault("offset", batches=(1,), amount=0.5)}
    code, _, errors = acl("build", tmp_path / "bundle", "--batch", "1,3")
    assert code == 0
    told = "engines of fp16, fp16-accumulate-fp32 do not serve together; build them again with --arithmetic fp16-acc"
    assert told in " ".join(errors.split())


def test_a_batch_is_a_number_or_a_range() -> None:
    assert [parse_batch(text) for text in ("4", "1..8")] == [(4, 4), (1, 8)]


def test_a_bundle_in_fp32_has_one_step(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    code, _, errors = acl("build", tmp_path / "bundle", "--backend", "tensorrt-rtx", "--arithmetic", "fp16")
    assert code == 1
    assert "arithmetic must be one of fp32 (what the bundle was exported with), got fp16" in errors
    assert not list((tmp_path / "bundle" / ENGINES).glob("*.engine"))


def test_a_library_that_is_not_there_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    monkeypatch.setattr(library, "_MODULES", dict.fromkeys(library._MODULES, ("no_such_module",)))
    code, _, errors = acl("build", tmp_path / "bundle")
    assert code == 1
    assert "tensorrt is not installed for this Python; on a Jetson it comes with JetPack" in errors
    assert 'pip install -e ".[rtx]"' in errors


def test_the_record_says_what_was_asked(machine: StandinMachine, tmp_path: Path) -> None:
    acl("build", tmp_path / "bundle", "--workspace", "256", "--optimization-level", "2", "--batch", "2")
    (path,) = (tmp_path / "bundle" / ENGINES).glob("*_b2.json")
    record = json.loads(path.read_text())
    assert (record["workspace_bytes"], record["optimization_level"]) == (256 << 20, 2)
    assert (record["min_batch"], record["max_batch"]) == (2, 2)
    assert build_command.BuildBackend.tensorrt.value == record["library"]


def test_without_a_gpu_tensorrt_says_so_before_anything_is_installed(tmp_path: Path) -> None:
    if HAS_GPU:
        pytest.skip("there is a GPU")
    write_tiny_bundle(tmp_path / "bundle")
    code, _, errors = acl("build", tmp_path / "bundle", "--backend", "tensorrt")
    assert code == 1
    assert "TensorRT builds on the GPU that will run the engine: " in errors
    assert "pip install" not in errors
    code, _, errors = acl("run", tmp_path / "bundle", tmp_path / "bundle", "--backend", "tensorrt")
    assert code == 1
    assert "acl build" not in errors


def test_a_gpu_that_was_named_must_be_there(tmp_path: Path) -> None:
    if HAS_GPU:
        pytest.skip("there is a GPU")
    write_tiny_bundle(tmp_path / "bundle")
    code, _, errors = acl("build", tmp_path / "bundle", "--backend", "tensorrt-rtx", "--device", "3")
    assert code == 1
    assert "the engine is built" not in errors


def test_a_backend_that_is_none_is_told_in_plain_words(tmp_path: Path) -> None:
    code, _, errors = acl("run", tmp_path, tmp_path, "--backend", "cuda")
    assert code == 2
    told = " ".join(errors.replace("│", " ").split())
    assert "Invalid value for '--backend': 'cuda' is not one of 'auto', 'onnxruntime', 'openvino'" in told
