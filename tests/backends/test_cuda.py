"""The GPU is used and given back through the real binding, here on a stand-in of the driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acl_runtime.backends.tensorrt import cuda

SOURCE = Path(__file__).parents[1] / "libcuda_standin.c"
START = """
import ctypes
import numpy as np
from acl_runtime.backends.tensorrt.cuda import Cuda
held = lambda: [ctypes.CDLL("libcuda.so.1").standin_held(kind) for kind in range(6)]
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in of the driver's library."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler to make the stand-in of the driver with")
    folder = tmp_path_factory.mktemp("driver")
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", str(folder / "libcuda.so.1"), str(SOURCE)], check=True)
    return folder


def run(code: str, driver: Path, *, fault: str = "", integrated: bool = False, **more: str) -> list[str]:
    """What a program prints on the stand-in, with STANDIN_FAULT as in the C file; or the last line of its error."""
    settings = {"STANDIN_FAULT": fault, "STANDIN_INTEGRATED": str(int(integrated)), **more}
    environment = os.environ | settings | {"LD_LIBRARY_PATH": str(driver)}
    command = [sys.executable, "-W", "error", "-c", START + code]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return process.stdout.splitlines() + process.stderr.splitlines()[-1:]


def test_it_says_what_the_gpu_is(driver: Path) -> None:
    code = """
with Cuda() as gpu:
    print(gpu.name, gpu.compute_capability, gpu.is_integrated, gpu.total_bytes >> 30, gpu.free_bytes() >> 30, sep="|")
    print(gpu.driver.endswith("CUDA 12.8"), gpu.cuda_version, gpu.multiprocessors, gpu.uuid, gpu.count)
print(held())
"""
    assert run(code, driver) == [
        "Stand-in GPU|8.9|False|8|4",
        "True (12, 8) 4 GPU-00010203-0405-0607-0809-0a0b0c0d0e0f 1",
        "[0, 0, 0, 0, 0, 0]",
    ]


def test_a_second_gpu_is_another(driver: Path) -> None:
    code = """
with Cuda(1) as gpu:
    print(gpu.name, gpu.multiprocessors, gpu.uuid, gpu.count, gpu.free_bytes() >> 30)
Cuda(2)
"""
    said, refused = run(code, driver, STANDIN_GPUS="2")
    assert said == "Second stand-in GPU 8 GPU-10111213-1415-1617-1819-1a1b1c1d1e1f 2 4"
    assert refused.endswith("device must be 0..1 on this machine, got 2")


def test_other_threads_go_on_while_one_waits_for_the_gpu(driver: Path) -> None:
    """The bindings 12.8.0 and 12.9.0 hold Python's lock meanwhile: nothing overlaps."""
    code = """
from threading import Thread
driver = ctypes.CDLL("libcuda.so.1")
def let_go():
    while not driver.standin_waiting(): pass
    driver.standin_go()
Thread(target=let_go).start()
with Cuda() as gpu, gpu.current():
    stream = gpu.stream()
    stream.synchronize()
    stream.destroy()
print("done")
"""
    assert run(code, driver, STANDIN_SLOW="1") == ["done"]


COPY = """
with Cuda() as gpu, gpu.current():
    stream, there = gpu.stream(), gpu.allocate(100)
    source, target = gpu.allocate_host(100), gpu.allocate_host(100)
    source.array[:] = np.arange(100)
    def work():
        stream.copy_in(there, source.array)
        stream.copy_out(target.array[50:], there)
"""
GIVE_BACK = """
    stream.destroy(); gpu.free(there); gpu.free_host(source); gpu.free_host(target)
print(held())
"""


def test_bytes_go_to_the_gpu_and_back_when_waited_for(driver: Path) -> None:
    code = f"""{COPY}
    work()
    print(target.array[50:53].tolist(), there % 256, source.address)
    stream.synchronize()
    print(target.array[50:53].tolist(), target.array[:50].tolist() == [0xA5] * 50)
{GIVE_BACK}"""
    expected = ["[165, 165, 165] 0 None", "[0, 1, 2] True", "[0, 0, 0, 0, 0, 0]"]
    assert run(code, driver) == expected


def test_recorded_work_is_done_at_each_launch(driver: Path) -> None:
    code = f"""{COPY}
    graph = stream.capture(work)
    stream.synchronize()
    print(target.array[50:53].tolist())
    for value in (7, 8):
        source.array[:] = value
        graph.launch(stream)
        stream.synchronize()
        print(target.array[50:53].tolist())
    graph.destroy()
{GIVE_BACK}"""
    assert run(code, driver) == ["[165, 165, 165]", "[7, 7, 7]", "[8, 8, 8]", "[0, 0, 0, 0, 0, 0]"]


def test_work_that_fails_while_it_is_recorded_leaves_a_stream_that_works(driver: Path) -> None:
    code = f"""{COPY}
    def broken():
        work()
        raise KeyError("planted")
    try:
        stream.capture(broken)
    except KeyError as error:
        print(error)
    work()
    stream.synchronize()
    print(target.array[50:53].tolist())
{GIVE_BACK}"""
    assert run(code, driver) == ["'planted'", "[0, 1, 2]", "[0, 0, 0, 0, 0, 0]"]


def test_what_cannot_be_recorded_is_an_error_and_nothing_stays_behind(driver: Path) -> None:
    for function in ("cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
        code = f"""{COPY}
    try:
        stream.capture(work)
    except RuntimeError as error:
        print(error)
{GIVE_BACK}"""
        said, left = run(code, driver, fault=f"{function}:1:901")
        assert said.startswith("CUDA failed while recording (CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"), function
        assert left == "[0, 0, 0, 0, 0, 0]", function


def test_rows_are_copied_on_the_gpu_after_the_stream_that_makes_them(driver: Path) -> None:
    code = """
from acl_runtime.backends.tensorrt.stream import Place2D
from acl_runtime.backends.tensorrt.gpu_frames import bring, check_pixels
from acl_runtime.backends.gpu_pixels import GpuPixels
with Cuda() as gpu, gpu.current():
    ours, producer, frame, there = gpu.stream(), gpu.stream(), gpu.allocate(2 * 16), gpu.allocate(12)
    source, target = gpu.allocate_host(32), gpu.allocate_host(12)
    source.array[:] = np.arange(32)
    producer.copy_in(frame, source.array)
    ours.wait_for(producer.handle)
    ours.copy_rows(Place2D(there, 6), Place2D(frame, 16), width=6, height=2)
    ours.copy_out(target.array, there)
    ours.synchronize()
    print(target.array.tolist())
    ours.wait_for(1)
    found = gpu.allocation_at(frame + 5)
    print(found.device, found.is_on_gpu, found.start == frame, found.size, found.is_of_other_context)
    print(gpu.allocation_at(source.array.ctypes.data).is_on_gpu, gpu.allocation_at(12345))
    pixels = GpuPixels(None, frame, 2, 2, 16, 0, 1)
    check_pixels(pixels, gpu)
    bring(ours, [(pixels, source.array.ctypes.data)])
    ours.synchronize()
    print(source.array[:12].reshape(2, 2, 3).tolist())
    for stream in (ours, producer): stream.destroy()
    for address in (frame, there): gpu.free(address)
    for memory in (source, target): gpu.free_host(memory)
print(held(), ctypes.CDLL("libcuda.so.1").standin_held(6))
"""
    assert run(code, driver) == [
        "[0, 1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21]",
        "0 True True 32 False",
        "False None",
        "[[[0, 1, 2], [3, 4, 5]], [[16, 17, 18], [19, 20, 21]]]",
        "[0, 0, 0, 0, 0, 0] 0",
    ]


def test_memory_is_shared_where_the_gpu_is_integrated(driver: Path) -> None:
    code = """
with Cuda() as gpu:
    memory = gpu.allocate_host(100)
    print(gpu.is_integrated, memory.address == memory.array.ctypes.data)
    gpu.free_host(memory)
"""
    assert run(code, driver, integrated=True) == ["True True"]


def test_page_locked_memory_that_the_gpu_cannot_address_is_given_back(driver: Path) -> None:
    code = """
with Cuda() as gpu:
    try:
        gpu.allocate_host(100)
    except RuntimeError as error:
        print(error)
print(held())
"""
    said, left = run(code, driver, integrated=True, fault="cuMemHostGetDevicePointer:1:1")
    assert said.startswith("CUDA failed in cuMemHostGetDevicePointer (CUDA_ERROR_INVALID_VALUE")
    assert left == "[0, 0, 0, 0, 0, 0]"


def test_another_thread_makes_the_context_current_for_itself(driver: Path) -> None:
    code = """
from threading import Thread
with Cuda() as gpu, gpu.current():
    thread = Thread(target=lambda: gpu.free(gpu.allocate(100)))
    thread.start(); thread.join()
print(held())
"""
    assert run(code, driver) == ["[0, 0, 0, 0, 0, 0]"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("cuInit:1:100", "no NVIDIA GPU is visible; see nvidia-smi"),
        ("cuInit:1:803", "the driver was updated while it was loaded; restart the machine"),
        ("cuInit:1:999", "CUDA does not start; see that nvidia-smi works"),
        ("cuDevicePrimaryCtxRetain:1:46", "the GPU is reserved for another process"),
        ("cuMemAlloc:1:2", "OutOfMemoryError: out of memory while allocating 3 MB on the GPU"),
        ("cuMemHostAlloc:1:2", "OutOfMemoryError: out of memory while allocating 5 MB of page-locked"),
        ("cuMemcpyHtoDAsync:1:1", "CUDA failed in cuMemcpyHtoDAsync (CUDA_ERROR_INVALID_VALUE"),
        ("cuStreamSynchronize:1:719", "DeviceLostError: the GPU stopped working while computing"),
    ],
)
def test_an_error_is_one_sentence_with_the_remedy(driver: Path, fault: str, said: str) -> None:
    code = """
with Cuda() as gpu, gpu.current():
    stream, there, memory = gpu.stream(), gpu.allocate(3_000_000), gpu.allocate_host(5_000_000)
    stream.copy_in(there, memory.array[:3_000_000])
    stream.synchronize()
"""
    (line,) = run(code, driver, fault=fault)
    assert said in line
    assert "Error: " in line


def test_the_context_is_current_only_where_it_was_asked_for(driver: Path) -> None:
    code = """
gpu = Cuda()
with gpu.current():
    gpu.call("cuMemGetInfo")
gpu.call("cuMemGetInfo")
"""
    (line,) = run(code, driver)
    assert "CUDA failed in cuMemGetInfo (CUDA_ERROR_INVALID_CONTEXT" in line


def test_a_number_that_no_gpu_has_is_an_error(driver: Path) -> None:
    (line,) = run("Cuda(1)", driver)
    assert line == "acl_runtime.files.errors.BackendError: device must be 0..0 on this machine, got 1"


def test_a_lost_gpu_is_told_again_and_has_nothing_to_give_back(driver: Path) -> None:
    code = f"""{COPY}
    for attempt in (work, stream.synchronize, gpu.free_bytes):
        try:
            attempt()
        except RuntimeError as error:
            print(error)
    with gpu.current():
        print("may still be asked for")
{GIVE_BACK}
gpu.close()
"""
    *said, asked, left = run(code, driver, fault="cuMemcpyHtoDAsync:1:700")
    assert len(said) == 3
    assert len(set(said)) == 1
    assert said[0].startswith("the GPU stopped working in cuMemcpyHtoDAsync (CUDA_ERROR_ILLEGAL_ADDRESS")
    assert (asked, left) == ("may still be asked for", "[1, 2, 1, 0, 0, 1]")


def test_a_gpu_that_was_given_back_says_so(driver: Path) -> None:
    (line,) = run("gpu = Cuda(); gpu.close(); gpu.close(); gpu.free_bytes()", driver)
    assert line == "acl_runtime.files.errors.BackendError: the GPU was given back; open it again"


def test_without_a_driver_the_remedy_is_named(driver: Path, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("not a library")
    (line,) = run("Cuda()", tmp_path)
    assert line.startswith("acl_runtime.files.errors.BackendError: the NVIDIA driver cannot be loaded (")
    assert line.endswith("; install it, then nvidia-smi must list the GPU")


def test_without_the_binding_the_remedy_is_named(driver: Path) -> None:
    (line,) = run("import sys; sys.modules['cuda'] = None; Cuda()", driver)
    assert line.endswith('in the checkout: pip install "cuda-bindings>=12.9.1,<14"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue Jan 1\nGCC 12.3.0",
            "570.86.15, CUDA 12.8",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.00  Release Build",
            "580.00, CUDA 12.8",
        ),
        (None, "CUDA 12.8"),
    ],
)
def test_the_driver_is_known_by_kernel_module_and_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: str
) -> None:
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(cuda, "KERNEL_MODULE", path)
    assert cuda._describe_driver((12, 8)) == expected


@pytest.mark.gpu
def test_a_real_gpu_copies_and_replays() -> None:
    with cuda.Cuda() as gpu, gpu.current():
        stream, there = gpu.stream(), gpu.allocate(1000)
        source, target = gpu.allocate_host(1000), gpu.allocate_host(1000)

        def work() -> None:
            stream.copy_in(there, source.array)
            stream.copy_out(target.array, there)

        graph = stream.capture(work)
        for value in (3, 4):
            source.array[:] = value
            graph.launch(stream)
            stream.synchronize()
            assert (target.array == value).all()
        graph.destroy()
        stream.destroy()
        gpu.free(there)
        gpu.free_host(source)
        gpu.free_host(target)


def test_without_a_driver_nobody_is_told_to_install_the_binding(tmp_path: Path) -> None:
    if cuda.KERNEL_MODULE.exists():
        pytest.skip("there is a driver")
    (line,) = run("import sys; sys.modules['cuda'] = None; Cuda()", tmp_path)
    assert "there is no NVIDIA driver here; on a machine without a GPU choose --backend onnxruntime" in line
