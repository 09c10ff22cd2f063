"""`make_engine` keeps the first engine that computes what was trained; the faults are planted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engines import StandinMachine
from graphs import write_tiny_bundle
from standin_cuda import StandinCuda
from standin_trt import Fault

from acl_export.mixed import LADDER
from acl_runtime.backends.tensorrt import ladder as ladder_module
from acl_runtime.backends.tensorrt.certificate import read_certificate
from acl_runtime.backends.tensorrt.engine_file import list_engines
from acl_runtime.backends.tensorrt.ladder import Attempt, EngineOptions, make_engine
from acl_runtime.backends.tensorrt.library import Library
from acl_runtime.bundle.bundle import ENGINES, Bundle, load_bundle
from acl_runtime.commands.build import describe
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import LOCK, locked_folder

WRONG = Fault("rows", amount=0.5)
GRAPHS = ["model.onnx", *(f"model.{step}.onnx" for step in LADDER[1:])]
Make = Callable[..., tuple[Attempt, ...]]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle", ladder=LADDER))


@pytest.fixture
def machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> StandinMachine:
    machine = StandinMachine(bundle)
    monkeypatch.setattr(ladder_module, "build_engine", machine.build)
    return machine


@pytest.fixture
def make(bundle: Bundle, machine: StandinMachine) -> Make:
    def run(*, has_gpu: bool = True, **options: object) -> tuple[Attempt, ...]:
        choice = EngineOptions(**{"min_batch": 1, "max_batch": 3, **options})  # type: ignore[arg-type]
        cuda = machine.cuda if has_gpu else None
        return make_engine(bundle, machine.library, cuda, choice, progress=lambda *_: None)

    return run


def files(bundle: Bundle) -> dict[str, bytes]:
    folder = bundle.path / ENGINES
    return {
        path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK
    }


def test_a_right_engine_is_kept_with_its_proof(bundle: Bundle, machine: StandinMachine, make: Make) -> None:
    (attempt,) = make()
    assert machine.built == ["model.onnx"]
    assert attempt.arithmetic == "fp16"
    assert attempt.engine is not None
    assert list_engines(bundle).whole == (attempt.engine,)
    assert read_certificate(attempt.engine) == attempt.certificate
    assert attempt.certificate is not None
    assert attempt.certificate.holds
    assert {path.suffix for path in (bundle.path / ENGINES).glob("[!.]*")} == {".engine", ".json", ".log"}
    record = attempt.engine.record
    assert (record.gpu, record.compute_capabilities) == ("Stand-in GPU", ("8.9",))
    assert (record.library, record.min_batch, record.max_batch) == ("tensorrt", 1, 3)
    assert record.sources["model.onnx"] == bundle.manifest.files["model.onnx"].sha256
    load_bundle(bundle.path)  # engines do not count as files of the bundle


def test_two_builds_do_not_write_the_same_engine(bundle: Bundle, make: Make) -> None:
    (bundle.path / ENGINES).mkdir()
    with ThreadPoolExecutor(1) as pool:  # holds it as another process would
        held = locked_folder(bundle.path / ENGINES)
        pool.submit(held.__enter__).result()
        with pytest.raises(InputError, match="engines: is in use by .*; wait until that build has ended"):
            make()
        pool.submit(held.__exit__, None, None, None).result()
    assert make()[-1].engine is not None


def test_what_a_killed_build_left_is_removed_by_the_next(bundle: Bundle, make: Make) -> None:
    left = bundle.path / ENGINES / ".build-killed" / "a.engine"
    left.parent.mkdir(parents=True)
    left.write_text("hundreds of megabytes")
    make()
    assert not left.parent.exists()


@pytest.mark.parametrize("wrong", [1, 2, 4])
def test_it_goes_down_until_an_engine_holds(
    bundle: Bundle, machine: StandinMachine, make: Make, wrong: int
) -> None:
    machine.faults = dict.fromkeys(GRAPHS[:wrong], WRONG)
    attempts = make()
    assert machine.built == GRAPHS[: wrong + 1]
    assert [attempt.arithmetic for attempt in attempts] == list(LADDER[: wrong + 1])
    assert [attempt.engine is None for attempt in attempts] == [True] * wrong + [False]
    assert all("at batch 2, at most 0.001" in attempt.problem for attempt in attempts[:-1])
    (engine,) = list_engines(bundle).whole
    assert engine.record.arithmetic == LADDER[wrong]
    lines = describe(attempts)
    assert lines[0].startswith("fp16: refused: image_logits off by 0.5 at batch 2")
    assert lines[wrong].startswith(f"{LADDER[wrong]}: holds at batch 1..3: log-odds within ")
    assert lines[wrong + 1].startswith(f"what it costs: {LADDER[wrong]} takes ")
    assert str(engine.path) in lines[-1]


def test_where_the_fault_is_only_above_batch_one_batch_one_still_holds(
    machine: StandinMachine, make: Make
) -> None:
    machine.faults = dict.fromkeys(GRAPHS, WRONG)
    (attempt,) = make(max_batch=1)
    assert attempt.engine is not None


def test_what_cannot_be_built_is_passed_over(machine: StandinMachine, make: Make) -> None:
    machine.faults = {"model.onnx": "it cannot be built (planted)"}
    first, second = make()
    assert first.problem == "it cannot be built (planted)"
    assert second.engine is not None
    assert describe((first, second))[0] == "fp16: refused: it cannot be built (planted)"


@pytest.mark.parametrize("kind", ["load", "out of memory", "run"])
def test_what_cannot_be_run_is_passed_over(machine: StandinMachine, make: Make, kind: Any) -> None:
    machine.faults = {"model.onnx": Fault(kind)}
    first, second = make()
    assert "stand-in" in first.problem or "out of memory" in first.problem
    assert second.engine is not None
    assert not +machine.cuda.counts.held


def test_where_none_holds_the_older_engine_is_as_it_was(
    bundle: Bundle, machine: StandinMachine, make: Make
) -> None:
    make()
    before = files(bundle)
    machine.faults = dict.fromkeys(GRAPHS, WRONG) | {"model.fp32.onnx": "no memory (planted)"}
    with pytest.raises(
        RuntimeError, match=r"no engine was made, older ones are as they were \(fp16: image_logits"
    ) as caught:
        make()
    assert "fp32: no memory (planted)" in str(caught.value)
    after = files(bundle)
    assert {name: after[name] for name in before} == before
    assert {Path(name).suffix for name in after.keys() - before.keys()} <= {".log"}


def test_an_interruption_leaves_the_older_engine(
    bundle: Bundle, machine: StandinMachine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    before = files(bundle)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ladder_module, "certify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert files(bundle) == before


def test_a_better_engine_replaces_the_older_one_whole(bundle: Bundle, make: Make) -> None:
    (first,) = make()
    (second,) = make()
    assert first.engine is not None
    assert second.engine is not None
    assert first.engine.path == second.engine.path
    assert read_certificate(second.engine) == second.certificate
    assert len(files(bundle)) == 4


def test_it_can_begin_further_down(machine: StandinMachine, make: Make) -> None:
    (attempt,) = make(first="fp16-attention-split")
    assert attempt.arithmetic == "fp16-attention-split"
    assert machine.built == ["model.fp16-attention-split.onnx"]


def test_without_a_gpu_the_proof_waits(bundle: Bundle, machine: StandinMachine, make: Make) -> None:
    machine.library = type(machine.library)("tensorrt-rtx", machine.library.module, "1.7.1.116")
    (attempt,) = make(has_gpu=False, compute_capabilities=("8.6", "12.0"))
    assert attempt.certificate is None
    assert attempt.engine is not None
    assert attempt.engine.record.gpu is None
    assert attempt.engine.path.name == "any_sm86-sm120_tensorrt-rtx-1.7.1.116_fp16_b1-3.engine"
    assert "not proven" in describe((attempt,))[0]


def test_an_engine_for_other_gpus_than_the_one_here_is_not_proven_here(
    machine: StandinMachine, make: Make
) -> None:
    machine.library = type(machine.library)("tensorrt-rtx", machine.library.module, "1.7.1.116")
    (attempt,) = make(compute_capabilities=("12.0",))
    assert attempt.certificate is None
    assert attempt.engine is not None


def test_without_a_gpu_there_must_be_a_list_of_them(machine: StandinMachine, make: Make) -> None:
    with pytest.raises(RuntimeError, match="name those that will run it with --compute-capability"):
        make(has_gpu=False)


@pytest.mark.parametrize("sizes", [(0, 1), (2, 1), (1, 4)])
def test_a_batch_that_the_bundle_does_not_take_is_refused(
    machine: StandinMachine, make: Make, sizes: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"batch must be a size or range within 1\.\.3"):
        make(min_batch=sizes[0], max_batch=sizes[1])
    assert machine.built == []


def test_an_engine_with_other_outputs_than_the_manifests_is_refused(
    bundle: Bundle, machine: StandinMachine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed(request: object, **options: object) -> object:
        report = machine.build(request, **options)  # type: ignore[arg-type]
        return replace(report, outputs=report.outputs[:1])

    monkeypatch.setattr(ladder_module, "build_engine", renamed)
    with pytest.raises(RuntimeError, match="the manifest says"):
        make()
    assert list_engines(bundle).whole == ()


def test_the_builder_is_told_which_of_several_gpus(machine: StandinMachine, make: Make) -> None:
    make()
    machine.cuda = StandinCuda(1, count=2)
    make()
    assert [request.gpu_uuid for request in machine.requests] == [
        None,
        "GPU-00000000-0000-0000-0000-000000000001",
    ]


def test_what_tensorrt_warns_of_is_kept(machine: StandinMachine, make: Make) -> None:
    machine.faults, machine.warnings = {"model.onnx": WRONG}, ("the timing cache is of another GPU",)
    assert [attempt.warnings for attempt in make()] == [machine.warnings] * 2


def test_engines_of_two_boards_whose_gpus_have_one_name_lie_side_by_side(
    bundle: Bundle, machine: StandinMachine, make: Make
) -> None:
    for multiprocessors in (8, 16):
        machine.cuda = StandinCuda(name="Orin", multiprocessors=multiprocessors)
        make()
    names = [engine.path.name for engine in list_engines(bundle).whole]
    assert [name.partition("_")[0] for name in names] == ["orin-16", "orin-8"]


def test_with_a_driver_that_is_too_old_nothing_is_built(
    machine: StandinMachine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "cuda_major", 13)
    with pytest.raises(
        RuntimeError, match="needs driver 580 or newer; this driver runs CUDA 12.8: update it"
    ):
        make()
    assert machine.built == []
    machine.library = replace(machine.library, name="tensorrt-rtx")
    (attempt,) = make(compute_capabilities=("8.9",))  # for other machines
    assert attempt.engine is not None
    assert attempt.certificate is None


def test_the_memory_of_the_gpu_is_given_back(machine: StandinMachine, make: Make) -> None:
    machine.faults = {"model.onnx": WRONG}
    make()
    assert not +machine.cuda.counts.held
