"""An engine computes what its graph says, gives back what it took, and says in one sentence why it cannot be used.

What any machine must do runs on the stand-ins of GPU and TensorRT, and with `-m gpu` on the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import standin_trt
from graphs import SIDE, reference, write_tiny_bundle
from standin_cuda import Faults, StandinCuda
from standin_trt import CACHED, Fault, RuntimeConfig, __version__, make_standin_engine, standin_library

from acl_runtime.backends.tensorrt import execution
from acl_runtime.backends.tensorrt import library as library_module
from acl_runtime.backends.tensorrt import session as session_module
from acl_runtime.backends.tensorrt.cuda import Cuda, DeviceLostError, OutOfMemoryError
from acl_runtime.backends.tensorrt.engine_file import Engine, why_unfit
from acl_runtime.backends.tensorrt.library import Library, find_library, load_library
from acl_runtime.backends.tensorrt.session import TrtSession, place_of
from acl_runtime.bundle.bundle import Bundle, load_bundle, write_manifest

REMEDY = "build it again with acl build "


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([count, seed]).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def assert_computed(outputs: dict[str, np.ndarray], images: np.ndarray) -> None:
    expected = reference(images)
    for name, array in outputs.items():
        assert len(array) == len(images)
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-3 if "logits" in name else 1e-4)


@dataclass(frozen=True)
class Machine:
    """Where engines run: a GPU with TensorRT, or the stand-ins."""

    cuda: Cuda
    library: Library

    def engine(self, bundle: Bundle, batch: tuple[int, int] = (1, 3)) -> Engine:
        """An engine of the bundle for this machine."""
        if isinstance(self.cuda, StandinCuda):
            return make_standin_engine(bundle, batch=batch, library=self.library.name)
        from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine

        options = EngineOptions(min_batch=batch[0], max_batch=batch[1])
        attempt = make_engine(bundle, self.library, self.cuda, options, progress=lambda *_: None)[-1]
        assert attempt.engine is not None
        return attempt.engine

    def open(self, bundle: Bundle, batch: tuple[int, int] = (1, 3)) -> TrtSession:
        """The engine, loaded."""
        return TrtSession(bundle, self.engine(bundle, batch), library=self.library, cuda=self.cuda)


@pytest.fixture(params=["tensorrt", "tensorrt-rtx", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if request.param != "gpu":
        yield Machine(StandinCuda(), standin_library(request.param))
        return
    with Cuda() as cuda:
        yield Machine(cuda, find_library())


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize("head", ["map", "embeddings"])
def test_it_computes_the_graph_at_any_batch_size_and_each_time(
    tmp_path: Path, machine: Machine, head: str
) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head=head))
    with machine.open(bundle) as session:
        for turn in range(3):  # plainly, recorded, replayed
            for count in (1, 3, 2, 7):
                images = random_images(count, turn)
                outputs = session(images)
                assert set(outputs) == {tensor.name for tensor in bundle.manifest.graph.outputs}
                assert_computed(outputs, images)
        assert session.notes == ()


def test_an_engine_of_one_batch_size_serves_any(machine: Machine, bundle: Bundle) -> None:
    with machine.open(bundle, batch=(2, 2)) as session:
        assert (session.min_batch, session.max_batch) == (2, 2)
        for count in (1, 2, 3, 1, 1):
            images = random_images(count)
            assert_computed(session(images), images)


def test_what_it_returned_is_not_overwritten(machine: Machine, bundle: Bundle) -> None:
    with machine.open(bundle) as session:
        calls = [(random_images(2, seed), session(random_images(2, seed))) for seed in range(4)]
    for images, outputs in calls:
        assert_computed(outputs, images)


@pytest.mark.parametrize(
    "images",
    [random_images(1)[:, 1:], random_images(1).astype(np.float32), random_images(1)[0], random_images(1)[:0]],
)
def test_images_of_another_kind_are_an_error_of_one_line(
    machine: Machine, bundle: Bundle, images: np.ndarray
) -> None:
    with (
        machine.open(bundle) as session,
        pytest.raises(ValueError, match=r"must be \(batch, 56, 56, 3\) uint8, got"),
    ):
        session(images)


def test_a_closed_session_says_so(machine: Machine, bundle: Bundle) -> None:
    session = machine.open(bundle)
    session(random_images(1))
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="the session was closed; open another"):
        session(random_images(1))


def test_two_sessions_serve_several_threads(machine: Machine, bundle: Bundle) -> None:
    problems: list[BaseException] = []

    def serve(session: TrtSession, seed: int) -> None:
        try:
            for turn in range(6):
                images = random_images(1 + (seed + turn) % 4, seed * 10 + turn)
                assert_computed(session(images), images)
        except BaseException as problem:  # an assertion that fails in a thread is otherwise lost
            problems.append(problem)

    with machine.open(bundle) as first, machine.open(bundle) as second:
        threads = [Thread(target=serve, args=((first, second)[seed % 2], seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_it_says_where_it_computes(machine: Machine, bundle: Bundle) -> None:
    with machine.open(bundle) as session:
        library = machine.library
        assert session.provider == f"{machine.cuda.name}, {library.name} {library.version}, fp32"
        assert session.cuda is machine.cuda


def open_standin(
    bundle: Bundle,
    *,
    cuda: StandinCuda | None = None,
    fault: Fault | None = None,
    batch: tuple[int, int] = (1, 3),
    **changes: Any,
) -> TrtSession:
    """An engine of the stand-in, loaded."""
    engine = make_standin_engine(bundle, batch=batch, fault=fault, **changes)
    library = standin_library(engine.record.library)
    return TrtSession(bundle, engine, library=library, cuda=cuda or StandinCuda())


def test_closing_gives_everything_back(bundle: Bundle) -> None:
    cuda = StandinCuda()
    with open_standin(bundle, cuda=cuda) as session:
        for _ in range(3):
            session(random_images(4))
        assert cuda.counts.held == {"device memory": 12, "host memory": 10, "stream": 2, "graph": 2}
    assert not any(cuda.counts.held.values())
    assert not cuda.is_closed, "the caller's GPU is the caller's to close"


@pytest.mark.parametrize(
    "faults",
    [
        *(Faults(allocation=number) for number in range(1, 7)),
        *(Faults(host_allocation=n) for n in range(1, 6)),
    ],
    ids=str,
)
def test_where_memory_runs_out_the_figures_are_told_and_all_is_given_back(
    bundle: Bundle, faults: Faults
) -> None:
    cuda = StandinCuda(faults=faults)
    with pytest.raises(
        OutOfMemoryError, match="does not fit into the GPU's memory: it needs 0 MB of weights"
    ) as caught:
        open_standin(bundle, cuda=cuda)
    assert "and 0 MB of activations, 4295 MB were free; " in str(caught.value)
    assert f"acl build {bundle.path} --batch 1" in str(caught.value)
    assert not any(cuda.counts.held.values())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "load",
            "tensorrt cannot load it ([engine.cpp::load::1] the plan is of another version (stand-in)); ",
        ),
        ("context", "tensorrt makes no execution context (no context (stand-in)); "),
        ("names", "has anomaly_maps_1 (batch, 56, 56) float32, "),
        ("dtype", "has anomaly_maps (batch, 56, 56) DataType.HALF, "),
        ("range", "takes 1..4 images at once, its record says 1..3; "),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused_and_all_is_given_back(
    bundle: Bundle, fault: Any, said: str
) -> None:
    cuda = StandinCuda()
    with pytest.raises(RuntimeError) as caught:
        open_standin(bundle, cuda=cuda, fault=Fault(fault))
    assert said in str(caught.value)
    assert str(caught.value).endswith(f"; {REMEDY}{bundle.path}")
    assert "\n" not in str(caught.value)
    assert not any(cuda.counts.held.values())


def test_tensorrt_out_of_memory_is_told_with_the_figures(bundle: Bundle) -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit into the GPU's memory"):
        open_standin(bundle, fault=Fault("out of memory"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"library_version": "10.3.0"}, "was built with tensorrt 10.3.0, this is tensorrt 10.13.3.9"),
        (
            {"compute_capabilities": ("8.6", "12.0")},
            "is for compute capability 8.6, 12.0, Stand-in GPU has 8.9",
        ),
        ({"gpu": "NVIDIA L4"}, "was built on NVIDIA L4 with 58 multiprocessors and 9 GB, "),
        (
            {"platform": "win32-amd64"},
            "was built on Stand-in GPU with 58 multiprocessors and 9 GB, win32-amd64; this is Stand-in GPU with 58 ",
        ),
        ({"sources": {"model.onnx": "0" * 64}}, "was built from another graph than "),
        ({"sources": {"other.onnx": "0" * 64}}, "was built from another graph than "),
    ],
)
def test_an_engine_for_another_machine_or_graph_is_refused(
    bundle: Bundle, changes: dict[str, Any], said: str
) -> None:
    engine, cuda = make_standin_engine(bundle, **changes), StandinCuda()
    reason = why_unfit(engine, bundle, place_of(standin_library(), cuda))
    assert reason.startswith(said)
    assert reason.endswith(f"; {REMEDY}{bundle.path}")
    with pytest.raises(RuntimeError) as caught:
        TrtSession(bundle, engine, library=standin_library(), cuda=cuda)
    assert str(caught.value) == f"{engine.path.name}: {reason}"


ORIN: dict[str, Any] = {"name": "Orin", "compute_capability": "8.7"}  # all of them call themselves so
AGX: dict[str, Any] = {
    "gpu": "Orin",
    "compute_capabilities": ("8.7",),
    "multiprocessors": 16,
    "memory_bytes": 64_300_000_000,
}


def test_an_engine_of_an_agx_orin_is_refused_by_an_orin_nano(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle, **AGX)
    nano = StandinCuda(**ORIN, multiprocessors=8, total_bytes=7_990_000_000)
    reason = why_unfit(engine, bundle, place_of(standin_library(), nano))
    assert reason.startswith("was built on Orin with 16 multiprocessors and 64 GB, ")
    assert "; this is Orin with 8 multiprocessors and 8 GB, " in reason
    fewer = StandinCuda(**ORIN, multiprocessors=14, total_bytes=64_300_000_000)
    assert "this is Orin with 14 multiprocessors and 64 GB" in why_unfit(
        engine, bundle, place_of(standin_library(), fewer)
    )
    less = StandinCuda(**ORIN, multiprocessors=16, total_bytes=32_900_000_000)
    assert "this is Orin with 16 multiprocessors and 33 GB" in why_unfit(
        engine, bundle, place_of(standin_library(), less)
    )


def test_a_driver_that_keeps_some_memory_makes_no_other_gpu(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle, **AGX)
    agx = StandinCuda(**ORIN, multiprocessors=16, total_bytes=62_800_000_000)
    assert why_unfit(engine, bundle, place_of(standin_library(), agx)) == ""


def test_what_tensorrt_warns_of_at_load_is_told_once(bundle: Bundle) -> None:
    warning = "Using an engine plan file across different models of devices is not recommended\nand more"
    with open_standin(bundle, warning=warning) as session:
        session(random_images(1))
        assert session.notes == (
            "tensorrt warns: Using an engine plan file across different models of devices is not recommended",
        )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tensorrt", "pip install tensorrt-cu12 instead"),
        ("tensorrt-rtx", "pip install tensorrt-rtx-cu12-bindings tensorrt-rtx-cu12-libs instead"),
    ],
)
def test_a_driver_that_is_too_old_is_named_and_not_the_engine(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: Any, remedy: str
) -> None:
    installed = {"tensorrt-cu13": __version__, "tensorrt-rtx-cu13-bindings": __version__}

    def version(distribution: str) -> str:
        if distribution not in installed:
            raise PackageNotFoundError(distribution)
        return installed[distribution]

    monkeypatch.setattr(library_module, "version", version)
    monkeypatch.setattr(standin_trt, "MADE_FOR_CUDA", 13)
    with pytest.raises(RuntimeError) as caught:
        open_standin(bundle, cuda=StandinCuda(driver="550.54.14, CUDA 12.4"), library=name)
    assert str(caught.value) == (
        f"{name} {__version__} is made for CUDA 13, which needs driver 580 or newer; this driver runs CUDA 12.4: "
        f"update it, or {remedy}"
    )
    open_standin(bundle, cuda=StandinCuda(driver="580.65.06, CUDA 13.0"), library=name).close()


def test_a_session_works_on_its_own_gpu_whichever_is_current(bundle: Bundle) -> None:
    first, second = (StandinCuda(number, count=2) for number in (0, 1))
    images = random_images(2)
    with first.current(), open_standin(bundle, cuda=second) as session:
        for _ in range(3):
            assert_computed(session(images), images)
    assert not +first.counts.calls
    assert second.counts.calls["wait"] == 3


def test_an_engine_of_the_other_library_is_refused(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle)
    reason = why_unfit(engine, bundle, place_of(standin_library("tensorrt-rtx"), StandinCuda()))
    assert reason.startswith("was built with tensorrt 10.13.3.9, this is tensorrt-rtx 10.13.3.9; ")


def test_an_engine_of_tensorrt_rtx_fits_any_card_of_its_compute_capabilities(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle, library="tensorrt-rtx", gpu=None, platform="win32-amd64")
    assert (
        why_unfit(engine, bundle, place_of(standin_library("tensorrt-rtx"), StandinCuda(name="another")))
        == ""
    )
    old = StandinCuda(compute_capability="8.6")
    assert "compute capability 8.9" in why_unfit(
        engine, bundle, place_of(standin_library("tensorrt-rtx"), old)
    )


def test_an_engine_of_a_bundle_that_was_exported_anew_is_refused(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle)
    with open(bundle.graph_path, "ab") as file:
        file.write(b"\x0a\x00")  # another byte or two of an ONNX file
    write_manifest(bundle.path, bundle.manifest)
    anew = load_bundle(bundle.path)
    assert "was built from another graph" in why_unfit(
        engine, anew, place_of(standin_library(), StandinCuda())
    )


@pytest.mark.parametrize(
    ("damage", "said"), [("cut", "must be "), ("altered", "was altered (sha256 differs); ")]
)
def test_a_damaged_engine_is_not_given_to_tensorrt(bundle: Bundle, damage: str, said: str) -> None:
    engine = make_standin_engine(bundle)
    content = engine.path.read_bytes()
    engine.path.write_bytes(content[:-1] if damage == "cut" else content.replace(b"model", b"modem"))
    with pytest.raises(RuntimeError) as caught:
        TrtSession(bundle, engine, library=standin_library(), cuda=StandinCuda())
    assert said in str(caught.value)
    assert REMEDY in str(caught.value)


def test_a_weightless_engine_is_given_the_weights_of_its_graph(bundle: Bundle) -> None:
    images = random_images(2)
    with open_standin(bundle, weightless=True) as session:
        assert_computed(session(images), images)


def test_a_weightless_engine_that_takes_no_weights_is_refused(bundle: Bundle) -> None:
    said = r"tensorrt cannot give it the weights of model.onnx \(.*weights are missing \(stand-in\)\); build it again"
    with pytest.raises(RuntimeError, match=said):
        open_standin(bundle, weightless=True, fault=Fault("refit"))


def test_it_opens_and_closes_gpu_and_library_itself(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[StandinCuda] = []

    def open_gpu(ordinal: int) -> StandinCuda:
        opened.append(StandinCuda(ordinal))
        return opened[-1]

    monkeypatch.setattr(session_module, "Cuda", open_gpu)
    monkeypatch.setattr(session_module, "load_library", standin_library)
    engine, images = make_standin_engine(bundle), random_images(1)
    with TrtSession(bundle, engine) as session:
        assert_computed(session(images), images)
    engine.path.write_bytes(b"")
    with pytest.raises(RuntimeError, match="bytes, got 0; build it again"):
        TrtSession(bundle, engine)
    assert [gpu.is_closed for gpu in opened] == [True, True]
    assert not any(any(gpu.counts.held.values()) for gpu in opened)


def test_calls_are_recorded_the_second_time_and_replayed_from_then_on(bundle: Bundle) -> None:
    cuda = StandinCuda()
    with open_standin(bundle, cuda=cuda) as session:
        for _ in range(4):
            session(random_images(2))
    calls = cuda.counts.calls
    assert (calls["capture"], calls["launch"], calls["wait"]) == (1, 3, 4)
    assert (calls["copy in"], calls["copy out"]) == (2, 4), "once plainly, once into the recording"


def test_nothing_is_copied_where_the_gpu_shares_its_memory(bundle: Bundle) -> None:
    cuda = StandinCuda(is_integrated=True)
    with open_standin(bundle, cuda=cuda) as session:
        for turn in range(3):
            images = random_images(4, turn)
            assert_computed(session(images), images)
        assert cuda.counts.held["device memory"] == 2, "the scratch memory of each slot"
    assert cuda.counts.calls["copy in"] == cuda.counts.calls["copy out"] == 0


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("source", ["CUDA", "TensorRT"])
def test_what_cannot_be_recorded_is_computed_plainly_and_told_once(
    bundle: Bundle, source: str, library: Any
) -> None:
    cuda = StandinCuda(faults=Faults(no_capture=source == "CUDA"))
    fault = Fault("capture") if source == "TensorRT" else None
    with open_standin(bundle, cuda=cuda, fault=fault, library=library) as session:
        for turn in range(4):
            images = random_images(2, turn)
            assert_computed(session(images), images)
        (note,) = session.notes
        assert note.startswith("batch 2 is not recorded as a CUDA graph, which costs speed: ")
    is_asked_before = (source, library) == ("TensorRT", "tensorrt-rtx")
    assert (cuda.counts.calls["capture"], cuda.counts.calls["launch"]) == (0 if is_asked_before else 1, 0)
    assert not any(cuda.counts.held.values())


def test_batch_sizes_beyond_the_most_graphs_share_a_context(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "MOST_CONTEXTS", 1)
    cuda = StandinCuda()
    with open_standin(bundle, cuda=cuda) as session:
        for turn in range(3):
            for count in (1, 3, 2, 2):
                images = random_images(count, turn)
                assert_computed(session(images), images)
    assert cuda.counts.calls["capture"] == 1


def test_a_gpu_that_is_lost_in_mid_run_is_told_in_a_sentence(bundle: Bundle) -> None:
    session = open_standin(bundle, cuda=StandinCuda(faults=Faults(lose=2)))
    session(random_images(1))
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="the GPU stopped working"):
            session(random_images(1))
    session.close()


def test_a_gpu_that_is_lost_while_recording_is_told_and_no_note(bundle: Bundle) -> None:
    cuda = StandinCuda()
    with open_standin(bundle, cuda=cuda) as session:
        session(random_images(1))
        cuda.is_lost = True
        with pytest.raises(DeviceLostError, match="the GPU stopped working"):
            session(random_images(1))
        assert session.notes == ()


def test_where_tensorrt_fails_because_the_gpu_is_lost_that_is_told(bundle: Bundle) -> None:
    cuda = StandinCuda(is_integrated=True)
    with open_standin(bundle, cuda=cuda) as session:
        cuda.is_lost = True
        with pytest.raises(DeviceLostError, match="the GPU stopped working"):
            session(random_images(1))


def test_a_run_that_tensorrt_refuses_is_an_error_of_one_line(bundle: Bundle) -> None:
    with open_standin(bundle, fault=Fault("run", batches=(2,))) as session:
        for _ in range(2):
            with pytest.raises(
                RuntimeError, match="tensorrt fails on 2 images .*it cannot run .*; see acl doctor"
            ) as caught:
                session(random_images(2))
            assert "\n" not in str(caught.value)
        assert_computed(session(random_images(1)), random_images(1))


def test_kernels_are_kept_beside_the_engine_and_compiled_once(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle, library="tensorrt-rtx")
    compiled, files = [], []
    for _ in range(2):
        before = RuntimeConfig.compilations
        with TrtSession(
            bundle, engine, library=standin_library("tensorrt-rtx"), cuda=StandinCuda()
        ) as session:
            session(random_images(3))
        compiled.append(RuntimeConfig.compilations - before)
        kernels = engine.path.with_suffix(".kernels")
        assert kernels.read_bytes() == CACHED
        files.append(kernels.stat().st_ino)
    assert compiled == [1, 0]
    assert files[0] == files[1], "what did not change is not written again"


def test_kernels_that_do_not_fit_are_compiled_anew(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle, library="tensorrt-rtx")
    engine.path.with_suffix(".kernels").write_bytes(b"of another driver")
    with TrtSession(bundle, engine, library=standin_library("tensorrt-rtx"), cuda=StandinCuda()) as session:
        assert_computed(session(random_images(3)), random_images(3))
        assert session.notes == ()
    assert engine.path.with_suffix(".kernels").read_bytes() == CACHED


def test_kernels_that_cannot_be_kept_are_a_note(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with open_standin(bundle, library="tensorrt-rtx") as session:
        for _ in range(3):
            session(random_images(2))
        (note,) = session.notes
        assert note.endswith(
            ".kernels: cannot be written (Permission denied): the kernels are compiled at each load"
        )


def test_the_full_library_keeps_no_kernels(bundle: Bundle) -> None:
    with open_standin(bundle) as session:
        session(random_images(1))
    assert not list(bundle.path.rglob("*.kernels"))


def test_the_real_tensorrt_rtx_says_why_it_cannot_load(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    library = load_library("tensorrt-rtx")
    engine = make_standin_engine(bundle, library="tensorrt-rtx", library_version=library.version)
    with pytest.raises(RuntimeError, match="is made for CUDA 13, .*; this driver runs CUDA 12.8: update it"):
        TrtSession(bundle, engine, library=library, cuda=StandinCuda())
    with pytest.raises(
        RuntimeError, match="tensorrt-rtx cannot load it .*Error Code.*; build it again"
    ) as caught:
        TrtSession(bundle, engine, library=library, cuda=StandinCuda(driver="580.65.06, CUDA 13.0"))
    assert "\n" not in str(caught.value)
