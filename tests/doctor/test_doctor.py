"""The doctor on machines as their files and commands describe them, and on this one."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from graphs import write_tiny_bundle
from standin_trt import make_standin_engine
from typer.testing import CliRunner

from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.words import network_words
from acl_runtime.cli import app
from acl_runtime.commands.describe import engine_words
from acl_runtime.doctor.bundle_check import check_bundle
from acl_runtime.doctor.findings import Finding, Severity, find
from acl_runtime.doctor.gpu_memory import predict_memory
from acl_runtime.doctor.machine import Gpu, Machine, OpenCv, read_machine, run_command
from acl_runtime.doctor.report import to_document, to_text, what_works

RTX = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
CPU, CUDA = ("CPUExecutionProvider",), ("CUDAExecutionProvider", "CPUExecutionProvider")
MEMINFO = "MemTotal: {total} kB\nMemFree: 1 kB\nMemAvailable: {free} kB\nSwapTotal: {swap} kB\n"
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Sep  2 10:00:00 UTC 2025\nGCC version: 12\n"


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def answering(**outputs: str | Exception) -> Callable[[Sequence[str]], str]:
    """Commands by their name, `_` for `-`; the others are not installed."""

    def run(command: Sequence[str]) -> str:
        output = outputs.get(command[0].replace("-", "_"), FileNotFoundError(command[0]))
        if isinstance(output, Exception):
            raise output
        return output

    return run


def nothing_known(name: str) -> Gpu:
    return Gpu(
        name=name,
        compute_capability=None,
        memory_bytes=None,
        free_bytes=None,
        power_limit_w=None,
        default_power_limit_w=None,
    )


def memory(total_gb: float, free_gb: float, swap_gb: float) -> dict[str, str]:
    sizes = {"total": total_gb, "free": free_gb, "swap": swap_gb}
    return {"proc/meminfo": MEMINFO.format(**{name: int(size * 1e6) for name, size in sizes.items()})}


def with_python(machine: Machine, **installed: Any) -> Machine:
    """The machine with what its Python would have, instead of what this one has."""
    bare: dict[str, Any] = {
        "system": "Linux 6 x86_64",
        "packages": {},
        "libraries": {},
        "rtx_capabilities": (),
        "providers": (),
        "has_aravis": False,
    }
    return replace(machine, python="3.10.12", **bare | installed)


def orin_nano(root: Path, **installed: Any) -> Machine:
    """Orin Nano 8 GB, JetPack 6.2, 15 W, clocks free, as it comes."""
    write_tree(root, memory(7.6, 5.1, 3.8))
    write_tree(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"
            "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
            "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
            "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
            "sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
            "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
            "usr/lib/python3.10/dist-packages/tensorrt-10.3.0.dist-info/METADATA": "",
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0\n",
        },
    )
    smi = "Orin (nvgpu), [N/A], [N/A], [N/A], [N/A], [N/A], 540.4.0\n"
    run = answering(nvidia_smi=smi, nvpmodel="NV Power Mode: 15W\n0\n", dpkg_query="6.2+b77")
    return with_python(read_machine(root, run), **installed)


def thor(root: Path) -> Machine:
    """Thor, JetPack 7.1, full power, fixed clocks."""
    write_tree(root, memory(128, 120, 0))
    write_tree(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
            "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 1, BOARD: generic\n",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n",
            "sys/class/devfreq/gpu-gpc-0/min_freq": "1575000000",
            "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000",
            "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000",
        },
    )
    run = answering(
        nvidia_smi="NVIDIA Thor, 11.0, [N/A], [N/A], [N/A], [N/A], 580.00\n",
        nvpmodel="NV Power Mode: MAXN\n0\n",
        dpkg_query=RuntimeError("no packages found matching nvidia-jetpack"),
    )
    return with_python(
        read_machine(root, run),
        packages={"cuda-bindings": "13.0.1", "onnxruntime": "1.23.0"},
        libraries={"tensorrt": "10.13.3.9"},
        providers=CPU,
    )


def box(root: Path, smi: str, **installed: Any) -> Machine:
    """A PC with a card; `smi` is what nvidia-smi prints of it."""
    write_tree(root, memory(33.5, 28, 2))
    write_tree(root, {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n"})
    write_tree(root, {"sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n"})
    return with_python(read_machine(root, answering(nvidia_smi=smi)), **installed)


RTX_4090 = "NVIDIA GeForce RTX 4090, 8.9, 24564, 23900, 450.00, 450.00, 580.95.05\n"
RTX_5090 = "NVIDIA GeForce RTX 5090, 12.0, 32607, 31000, 400.00, 575.00, 575.64\n"
H100 = "NVIDIA H100 80GB HBM3, 9.0, 81559, 81000, 700.00, 700.00, 580.95.05\n"


def by_code(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def test_an_orin_nano_as_it_comes(tmp_path: Path) -> None:
    machine = orin_nano(tmp_path, packages={"onnxruntime": "1.22.0"}, providers=CPU)
    assert machine.jetson is not None
    assert (machine.jetson.l4t, machine.jetson.jetpack, machine.jetson.power_mode) == ("36.4.3", "6.2", "15W")
    assert machine.jetson.gpu_mhz == (306, 306, 612)
    assert machine.gpus[0].compute_capability == "8.7"
    assert machine.gpus[0].memory_bytes == machine.memory_bytes
    assert machine.driver == "540.4.0"
    assert machine.problems == ()
    found = by_code(find(machine))
    assert {code: finding.fix for code, finding in found.items()} == {
        "tensorrt-not-visible": "python3.10 -m venv --system-site-packages .venv",
        "power-mode": "sudo nvpmodel -m 2",
        "clocks": "sudo jetson_clocks",
        "little-swap": found["little-swap"].fix,
    }
    assert "TensorRT 10.3.0 is installed for the system's Python 3.10" in found["tensorrt-not-visible"].text
    assert found["tensorrt-not-visible"].severity is Severity.error
    assert "swapon" in found["little-swap"].fix
    assert what_works(machine) == ["acl run: on the CPU, by ONNX Runtime"]


def test_another_python_than_jetpacks_is_told(tmp_path: Path) -> None:
    machine = replace(orin_nano(tmp_path), python="3.12.3")
    assert by_code(find(machine))["tensorrt-not-visible"].text.endswith("this environment is Python 3.12.3")


def test_an_orin_nano_with_tensorrt_is_warned_of_fp16(tmp_path: Path) -> None:
    machine = orin_nano(tmp_path, libraries={"tensorrt": "10.3.0.30"}, packages={"cuda-bindings": "12.9.0"})
    known = [finding for finding in find(machine) if finding.code == "known-bad"]
    assert ["vision transformers wrongly in fp16" in finding.text for finding in known] == [True, False]
    lock = by_code(find(machine))["binding-holds-lock"]
    assert lock.text.startswith("cuda-bindings 12.9.0 holds Python's lock")
    assert lock.fix == 'pip install "cuda-bindings>=12.9.1,<14"'
    assert "acl build and run --backend tensorrt: on the GPU, by TensorRT" in what_works(machine)


def test_a_thor(tmp_path: Path) -> None:
    machine = thor(tmp_path)
    assert machine.jetson is not None
    assert machine.jetson.jetpack == "7.1"  # by L4T, no package says it
    findings = find(machine)
    assert [finding.code for finding in findings] == ["known-bad"] * 2
    assert "R38.4" in findings[0].text
    assert "corrupts attention at batch 1" in findings[1].text
    assert "build with --batch 2" in findings[1].fix


def test_an_rtx_4090_with_all_it_needs(tmp_path: Path) -> None:
    machine = box(
        tmp_path,
        RTX_4090,
        packages={
            "cuda-bindings": "13.0.1",
            "onnxruntime-gpu": "1.23.0",
            "tensorrt-rtx-cu13-bindings": "1.7.1",
        },
        libraries={"tensorrt-rtx": "1.7.1.116"},
        rtx_capabilities=RTX,
        providers=CUDA,
    )
    assert machine.gpus == (
        Gpu(
            name="NVIDIA GeForce RTX 4090",
            compute_capability="8.9",
            memory_bytes=24564 << 20,
            free_bytes=23900 << 20,
            power_limit_w=450,
            default_power_limit_w=450,
        ),
    )
    assert find(machine) == []
    assert what_works(machine) == [
        "acl run --provider cuda: on the GPU, by ONNX Runtime",
        "acl build --backend tensorrt-rtx: on the GPU, by TensorRT-RTX",
    ]


def test_an_rtx_5090_with_an_old_driver_and_a_bad_tensorrt(tmp_path: Path) -> None:
    machine = box(
        tmp_path,
        RTX_5090,
        packages={"onnxruntime": "1.23.0", "onnxruntime-gpu": "1.23.0", "tensorrt-cu13": "10.13.3.9"},
        libraries={"tensorrt": "10.13.3.9"},
        providers=CPU,
    )
    findings = find(machine)
    assert [(finding.severity.value, finding.code) for finding in findings] == [
        ("error", "driver-too-old"),
        ("error", "no-cuda-bindings"),
        ("warning", "known-bad"),
        ("warning", "two-onnxruntimes"),
        ("hint", "power-limited"),
    ]
    found = by_code(findings)
    assert "CUDA 13, which needs driver 580 or newer; this is 575.64" in found["driver-too-old"].text
    assert "fused attention wrongly" in found["known-bad"].text
    assert found["two-onnxruntimes"].fix.endswith("pip install onnxruntime-gpu")
    assert found["power-limited"].fix == "sudo nvidia-smi -pl 575"


OLD_DRIVER = "NVIDIA GeForce RTX 4090, 8.9, 24564, 23900, 450.00, 450.00, 550.54.14\n"


@pytest.mark.parametrize(("version", "works"), [("1.26.0", True), ("1.27.0", False), ("1.31.0", False)])
def test_onnx_runtime_for_cuda_13_does_not_work_with_an_old_driver(
    tmp_path: Path, version: str, works: bool
) -> None:
    machine = box(tmp_path, OLD_DRIVER, packages={"onnxruntime-gpu": version}, providers=CUDA)
    findings = by_code(find(machine))
    assert ("driver-too-old" not in findings) is works
    assert ("on the GPU, by ONNX Runtime" in what_works(machine)[0]) is works
    if not works:
        told = findings["driver-too-old"]
        assert told.text.startswith(f"onnxruntime-gpu {version} is made for CUDA 13, which needs driver 580")
        assert told.fix.endswith(', or pip install "onnxruntime-gpu[cuda,cudnn]<1.27"')


def test_an_old_driver_is_told_to_take_tensorrt_rtx_for_cuda_12(tmp_path: Path) -> None:
    instead = 'pip install tensorrt-rtx-cu12-bindings tensorrt-rtx-cu12-libs "cuda-bindings>=12.9.1,<13"'
    without = box(tmp_path / "without", OLD_DRIVER, providers=CPU)
    assert by_code(find(without))["no-tensorrt"].fix == instead
    machine = box(
        tmp_path / "with",
        OLD_DRIVER,
        packages={"cuda-bindings": "12.9.4", "tensorrt-rtx-cu13-bindings": "1.7.1.116"},
        libraries={"tensorrt-rtx": "1.7.1.116"},
        rtx_capabilities=RTX,
        providers=CPU,
    )
    assert by_code(find(machine))["driver-too-old"].fix.endswith(f", or {instead}")
    assert not any("on the GPU" in line for line in what_works(machine))


def test_an_h100_with_the_rtx_edition_is_told_to_take_the_full_one(tmp_path: Path) -> None:
    machine = box(
        tmp_path,
        H100,
        packages={"cuda-bindings": "13.0.1"},
        libraries={"tensorrt-rtx": "1.7.1"},
        rtx_capabilities=RTX,
        providers=CPU,
    )
    found = by_code(find(machine))
    assert "not this GPU's 9.0" in found["rtx-not-offered"].text
    assert found["rtx-not-offered"].fix == 'pip install -e ".[tensorrt]"'
    assert found["no-cuda-provider"].severity is Severity.hint
    assert not any("on the GPU" in line for line in what_works(machine))
    twice = find(replace(machine, gpus=machine.gpus * 2))
    assert [finding.code for finding in twice].count("rtx-not-offered") == 1


def test_where_there_is_no_onnxruntime_none_is_said_to_compute_on_the_cpu(tmp_path: Path) -> None:
    machine = box(tmp_path, H100, libraries={"tensorrt": "10.13.3"}, providers=())
    assert "no-cuda-provider" not in by_code(find(machine))


@pytest.mark.parametrize(("smi", "extra"), [(RTX_4090, "rtx"), (H100, "tensorrt")])
def test_a_gpu_without_tensorrt_is_told_which_to_install(tmp_path: Path, smi: str, extra: str) -> None:
    finding = by_code(find(box(tmp_path, smi, providers=CUDA)))["no-tensorrt"]
    assert finding.fix == f'pip install -e ".[{extra}]"'


@pytest.mark.parametrize("has_cameras", [True, False])
def test_the_libraries_of_cameras_are_told_with_the_command_that_gets_them(
    tmp_path: Path, has_cameras: bool
) -> None:
    packages = {"pypylon": "26.9"} if has_cameras else {}
    machine = with_python(read_machine(tmp_path, answering()), has_aravis=has_cameras, packages=packages)
    text, works = to_text(machine, None, [], what_works(machine)), what_works(machine)
    assert ("apt-get install --no-install-recommends libaravis-0.8-0" not in text) == has_cameras
    assert ('pip install -e ".[basler]"' not in text) == ("26.9" in text) == has_cameras
    assert (
        any("aravis:NAME" in line for line in works)
        == any("basler:" in line for line in works)
        == has_cameras
    )


def test_a_laptop_without_a_gpu_is_told_what_works(tmp_path: Path) -> None:
    write_tree(tmp_path, memory(16, 9, 0))
    machine = with_python(
        read_machine(tmp_path, answering()),
        packages={"onnxruntime": "1.23.0"},
        libraries={"tensorrt-rtx": "1.7.1"},
        rtx_capabilities=RTX,
        providers=CPU,
    )
    assert {(finding.severity.value, finding.code) for finding in find(machine)} == {
        ("hint", "no-gpu"),
        ("hint", "faster-backend"),
    }
    assert [line.partition(":")[0] for line in what_works(machine)] == [
        "acl run",
        "acl build --backend tensorrt-rtx --compute-capability 8.6,8.9,12.0",
    ]


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    machine = with_python(read_machine(tmp_path, answering()))
    assert machine.memory_bytes is None
    findings = find(machine)
    assert [finding.code for finding in findings] == ["nothing-computes", "no-gpu"]
    lines = to_text(machine, None, findings, what_works(machine)).splitlines()
    assert "memory        ?, ? free, ? swap" in lines
    assert lines[-1] == "  nothing that computes; acl info, acl --help"


def test_a_card_without_a_driver_and_a_container_without_a_card_are_told(tmp_path: Path) -> None:
    assert by_code(find(box(tmp_path / "pc", "")))["no-driver"].fix == "sudo apt install nvidia-driver-580"
    write_tree(tmp_path / "container", {"proc/driver/nvidia/version": DRIVER.format("580.95.05")})
    machine = with_python(read_machine(tmp_path / "container", answering()))
    assert machine.driver == "580.95.05"
    assert "--gpus all" in by_code(find(machine))["gpu-hidden"].fix


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (
            RuntimeError("NVIDIA-SMI has failed because it couldn't communicate with\nthe NVIDIA driver."),
            "nvidia-smi fails: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        ),
        (PermissionError(13, "Permission denied"), "nvidia-smi fails: [Errno 13] Permission denied"),
        ("No devices were found\n", "nvidia-smi prints something unexpected: No devices were found"),
        ("a, b, c\n", "nvidia-smi prints something unexpected: a, b, c"),
    ],
)
def test_what_cannot_be_read_is_a_finding(tmp_path: Path, output: str | Exception, problem: str) -> None:
    machine = read_machine(tmp_path, answering(nvidia_smi=output))
    assert machine.gpus == ()
    assert machine.problems == (problem,)
    finding = by_code(find(machine))["unreadable"]
    assert finding.text == problem
    assert finding.fix == "run nvidia-smi by hand to see more"


def test_fields_without_an_answer_are_not_known(tmp_path: Path) -> None:
    smi = "NVIDIA Something, [N/A], [Not Supported], [N/A], [N/A], [Unknown Error], [N/A]\n"
    machine = read_machine(tmp_path, answering(nvidia_smi=smi))
    assert machine.gpus == (
        Gpu(
            name="NVIDIA Something",
            compute_capability=None,
            memory_bytes=None,
            free_bytes=None,
            power_limit_w=None,
            default_power_limit_w=None,
        ),
    )
    assert machine.driver is None
    assert machine.problems == ()


def test_the_newest_cuda_that_the_driver_runs_is_told(tmp_path: Path) -> None:
    banner = "| NVIDIA-SMI 580.95.05    Driver Version: 580.95.05    CUDA Version: 13.0     |\n"

    def run(command: Sequence[str]) -> str:
        return answering(nvidia_smi=banner if len(command) == 1 else RTX_4090)(command)

    machine = read_machine(tmp_path, run)
    assert (machine.cuda, machine.problems) == ("13.0", ())
    assert "580.95.05, runs CUDA up to 13.0" in to_text(machine, None, [], [])


def test_empty_files_are_not_known(tmp_path: Path) -> None:
    names = ("proc/meminfo", "etc/nv_tegra_release", "etc/nvpmodel.conf", "proc/driver/nvidia/version")
    write_tree(tmp_path, dict.fromkeys(names, ""))
    write_tree(
        tmp_path, {"proc/device-tree/model": "NVIDIA Jetson\0", "sys/class/devfreq/x.gpu/min_freq": "?"}
    )
    machine = read_machine(tmp_path, answering(nvpmodel=""))
    assert machine.jetson is not None
    assert (machine.jetson.l4t, machine.jetson.jetpack, machine.jetson.gpu_mhz) == (None, None, None)
    assert machine.gpus == (
        Gpu(
            name="NVIDIA Jetson",
            compute_capability=None,
            memory_bytes=None,
            free_bytes=None,
            power_limit_w=None,
            default_power_limit_w=None,
        ),
    )
    assert machine.problems == ()


@pytest.mark.parametrize(
    "line",
    [
        "NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep  2 10:00:00 UTC 2025",
        "NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)",
        "NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build",
    ],
)
def test_the_kernel_tells_the_driver_where_nvidia_smi_is_missing(tmp_path: Path, line: str) -> None:
    write_tree(tmp_path, {"proc/driver/nvidia/version": f"NVRM version: {line}\nGCC version: 12\n"})
    assert read_machine(tmp_path, answering()).driver == "580.95.05"


def test_a_file_that_is_a_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "proc/meminfo").mkdir(parents=True)
    assert read_machine(tmp_path, answering()).problems == ("/proc/meminfo cannot be read: Is a directory",)


def test_a_command_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_command(["no-such-command-here"])
    with pytest.raises(RuntimeError, match="No such file"):
        run_command(["ls", str(tmp_path / "none")])
    with pytest.raises(RuntimeError, match="exit code 1"):
        run_command(["false"])
    assert run_command(["echo", "yes"]) == "yes\n"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def with_tensorrt(tmp_path: Path) -> Machine:
    """A machine on which the stand-in's engines fit."""
    return box(
        tmp_path / "box",
        "Stand-in GPU, 8.9, 8192, 8000, 100, 100, 13000\n",
        packages={"cuda-bindings": "13.0.1"},
        libraries={"tensorrt": "10.13.3.9"},
        providers=CPU,
    )


def test_a_bundle_without_an_engine_is_told_to_build_one(bundle: Bundle, with_tensorrt: Machine) -> None:
    facts, findings = check_bundle(bundle.path, with_tensorrt)
    assert facts is not None
    assert by_code(findings)["no-engine"].fix == f"acl build {bundle.path}"
    assert not {code for code in by_code(findings) if code.startswith("engine")}


def test_an_engine_that_fits_is_unproven_until_it_is_proven(bundle: Bundle, with_tensorrt: Machine) -> None:
    make_standin_engine(bundle)
    facts, findings = check_bundle(bundle.path, with_tensorrt)
    assert facts is not None
    assert [(engine.unfit, engine.proof) for engine in facts.engines] == [("", "none")]
    assert set(by_code(findings)) == {"demonstration", "engine-unproven"}
    assert "fits, not proven yet" in to_text(with_tensorrt, facts, findings, [])


def test_a_certificate_that_was_edited_does_not_hide_the_bundle(
    bundle: Bundle, with_tensorrt: Machine
) -> None:
    engine = make_standin_engine(bundle)
    engine.certificate_path.write_text("{}")
    facts, findings = check_bundle(bundle.path, with_tensorrt)
    assert facts is not None
    assert [(engine.unfit, engine.proof) for engine in facts.engines] == [("", "damaged")]
    assert by_code(findings)["certificate-damaged"].fix == f"rm {engine.certificate_path}"
    assert "fits, with a certificate that is damaged" in to_text(with_tensorrt, facts, findings, [])
    assert f"{engine.path.name} (broken: " in engine_words(bundle)


def test_an_engine_of_eight_bits_is_none_that_a_run_takes(tmp_path: Path, with_tensorrt: Machine) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "eight", ladder=("fp16", "fp32", "int8")))
    make_standin_engine(bundle, arithmetic="int8")
    found = by_code(check_bundle(bundle.path, with_tensorrt)[1])
    assert found["no-engine"].fix == f"acl build {bundle.path}"
    assert found["engine-unproven"].fix.startswith(
        f"acl qualify {bundle.path} --backend tensorrt-int8 --data"
    )
    make_standin_engine(bundle)
    assert "no-engine" not in by_code(check_bundle(bundle.path, with_tensorrt)[1])


def test_an_engine_for_another_machine_is_told(bundle: Bundle, with_tensorrt: Machine) -> None:
    make_standin_engine(bundle)
    newer = replace(with_tensorrt, libraries={"tensorrt": "11.0.0.1"})
    facts, findings = check_bundle(bundle.path, newer)
    assert facts is not None
    assert facts.engines[0].unfit == "was built with tensorrt 10.13.3.9, this is tensorrt 11.0.0.1"
    assert set(by_code(findings)) == {"demonstration", "no-engine"}
    without = replace(with_tensorrt, libraries={"tensorrt-rtx": "1.7"})
    facts, _ = check_bundle(bundle.path, without)
    assert facts is not None
    assert facts.engines[0].unfit == "needs tensorrt, which cannot be imported here"


def test_a_damaged_bundle_is_an_error(bundle: Bundle, with_tensorrt: Machine) -> None:
    with bundle.graph_path.open("ab") as file:
        file.write(b"x")
    facts, findings = check_bundle(bundle.path, with_tensorrt)
    assert facts is None
    assert [(finding.severity, finding.code) for finding in findings] == [(Severity.error, "bundle")]
    assert "model.onnx" in findings[0].text


def test_a_build_that_does_not_fit_is_told(bundle: Bundle, tmp_path: Path) -> None:
    machine = orin_nano(tmp_path / "orin", libraries={"tensorrt": "10.3.0"})
    small = replace(machine, available_bytes=100 << 20, swap_bytes=0)
    found = by_code(check_bundle(bundle.path, small)[1])
    assert "swapon" in found["build-memory"].fix
    assert "build-memory" not in by_code(check_bundle(bundle.path, machine)[1])
    swapping = replace(small, available_bytes=0, swap_bytes=0, memory_bytes=1)
    assert "GB are free with swap" in by_code(check_bundle(bundle.path, swapping)[1])["build-memory"].text


@pytest.mark.parametrize(
    ("shape", "arithmetic", "batch", "measured"),
    [  # parameters, image grid, layers; MB of activations and of the builder, from benchmarks/README.md
        ((86.6e6, 14, (6, 12)), "fp16", 8, (81.5, 910)),
        ((86.6e6, 14, (6, 12)), "fp16-attention-fp32", 8, (82.3, 911)),
        ((86.6e6, 14, (6, 12)), "fp16-attention-split", 8, (60.5, 919)),
        ((86.6e6, 14, (6, 12)), "fp32", 8, (118, 1318)),
        ((86.6e6, 32, (12,)), "fp16", 1, (54.4, 876)),
        ((86.6e6, 32, (12,)), "fp32", 8, (1185, 1324)),
        ((304e6, 24, (24,)), "fp16", 1, (88.5, 2296)),
        ((304e6, 24, (24,)), "fp32", 8, (965, 3628)),
        ((304e6, 37, (24,)), "fp16", 8, (1594, 2408)),
        ((304e6, 37, (24,)), "fp32", 8, (3403, 3736)),
    ],
)
def test_the_predicted_memory_is_near_the_measured(
    bundle: Bundle,
    shape: tuple[float, int, tuple[int, ...]],
    arithmetic: Any,
    batch: int,
    measured: tuple[float, float],
) -> None:
    parameters, grid, layers = shape
    manifest = bundle.manifest
    files = {"model.onnx": replace(manifest.files["model.onnx"], bytes=int(4 * parameters))}
    unknown = replace(manifest.backbone, width=None)
    manifest = replace(
        manifest, precision="fp32", files=files, grid=grid, layers=layers, vv_from=6, backbone=unknown
    )
    need = predict_memory(Bundle(bundle.path, manifest), arithmetic, batch)
    assert need.activations / 1e6 == pytest.approx(measured[0], rel=0.25)
    assert need.builder / 1e6 == pytest.approx(measured[1], rel=0.2)


def test_a_graph_for_cpus_takes_none_of_the_gpus_memory(bundle: Bundle) -> None:
    files = bundle.manifest.files | {
        "model.int8.onnx": replace(bundle.manifest.files["model.onnx"], bytes=10**9)
    }
    beside = Bundle(bundle.path, replace(bundle.manifest, int8="model.int8.onnx", files=files))
    assert predict_memory(beside, "fp32", 1) == predict_memory(bundle, "fp32", 1)


def test_the_command_on_this_machine(bundle: Bundle, tmp_path: Path) -> None:
    ticket = tmp_path / "ticket.json"
    result = CliRunner().invoke(app, ["doctor", str(bundle.path), "--json", str(ticket)])
    assert result.exit_code == 0, result.output
    assert "what works here:\n  acl run" in result.stdout
    assert "for engines fp32" in result.stdout
    document = json.loads(ticket.read_text())
    assert (document["format"], document["format_version"]) == ("anomalyclip-doctor", 1)
    assert document["machine"]["python"] == platform.python_version()
    assert document["bundle"]["name"] == "bundle"
    printed = CliRunner().invoke(app, ["doctor", "--json", "-"])
    assert json.loads(printed.stdout)["bundle"] is None


def test_the_exit_code_tells_of_errors(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "error: " in result.stdout


def test_the_ticket_names_nobody(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "somebody"
    shutil.copytree(bundle.path, home / "bundle")
    monkeypatch.setattr(Path, "home", lambda: home)
    failing = answering(nvidia_smi=RuntimeError(f"cannot open {home}/libnvidia-ml.so"))
    machine = read_machine(tmp_path, failing)
    (home / "bundle/model.onnx").write_bytes(b"")
    facts, findings = check_bundle(home / "bundle", machine)
    told = [*find(machine), *findings]
    text = json.dumps(to_document(machine, facts, told, what_works(machine), path=home / "bundle"))
    assert "~/libnvidia-ml.so" in text
    assert "somebody" not in text


@pytest.mark.parametrize(("parent", "name"), [("customer", "bundle"), ("of line 3", "left side")])
def test_commands_quote_the_bundles_folder_and_in_the_ticket_call_it_by_its_name(
    bundle: Bundle, tmp_path: Path, with_tensorrt: Machine, parent: str, name: str
) -> None:
    folder = tmp_path / parent / name
    shutil.copytree(bundle.path, folder)
    facts, findings = check_bundle(folder, with_tensorrt)
    assert (
        by_code(findings)["no-engine"].fix == f"acl build {quote(str(folder))}"
    )  # on the screen, to be copied
    document = to_document(with_tensorrt, facts, findings, [], path=folder)
    assert f"acl build {quote(name)}" in [finding["fix"] for finding in document["findings"]]
    assert parent not in json.dumps(document)


def test_a_broken_engine_is_told_from_inside_the_bundle(
    bundle: Bundle, tmp_path: Path, with_tensorrt: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here" / "bundle"
    shutil.copytree(bundle.path, folder)
    (folder / "engines/d.engine").mkdir(parents=True)
    monkeypatch.chdir(folder)
    _, findings = check_bundle(Path(), with_tensorrt)
    assert by_code(findings)["engine-broken"].text.startswith("engines/d.engine: is no file")


@pytest.mark.parametrize(
    ("packages", "code", "fix"),
    [
        (("opencv-python-headless",), None, ""),
        (("opencv-python",), None, ""),
        (
            ("opencv-python", "opencv-python-headless"),
            "two-opencvs",
            "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python",
        ),
    ],
)
def test_two_opencvs_are_a_fault_and_one_is_none(
    tmp_path: Path, packages: tuple[str, ...], code: str | None, fix: str
) -> None:
    machine = with_python(
        read_machine(tmp_path, answering()), packages=dict.fromkeys(packages, "4.12"), providers=CPU
    )
    found = {name: finding for name, finding in by_code(find(machine)).items() if "opencv" in name}
    assert set(found) == ({code} if code else set())
    if code:
        assert (found[code].severity, found[code].fix) == (Severity.error, fix)


def test_which_opencv_is_imported_is_told(tmp_path: Path) -> None:
    machine = read_machine(tmp_path, answering())
    assert machine.opencv is not None
    jetpack = replace(machine, opencv=OpenCv(version="4.10.0", is_system=True, windows="gtk", gstreamer=True))
    assert "4.10.0, the system's, windows gtk, with GStreamer" in to_text(jetpack, None, [], [])
    without = replace(machine, opencv=None)
    assert by_code(find(without))["no-opencv"].severity is Severity.error


def test_a_bundle_says_its_network_and_that_it_is_a_demonstration(
    bundle: Bundle, with_tensorrt: Machine
) -> None:
    facts, findings = check_bundle(bundle.path, with_tensorrt)
    assert facts is not None
    assert network_words(bundle.manifest) in to_text(with_tensorrt, facts, findings, [])
    assert by_code(findings)["demonstration"].text == "bundle is a demonstration, not for inspection"


def test_a_broken_engine_is_told_and_the_others_are_shown(bundle: Bundle, with_tensorrt: Machine) -> None:
    make_standin_engine(bundle)
    (bundle.path / "engines" / "d.engine").mkdir()
    facts, findings = check_bundle(bundle.path, with_tensorrt)
    assert facts is not None
    assert len(facts.engines) == 1
    assert by_code(findings)["engine-broken"].text.startswith("bundle/engines/d.engine: is no file")


def test_pythons_are_compared_as_versions(tmp_path: Path) -> None:
    tensorrt = {"3.9": "10.1", "3.10": "10.3"}
    machine = replace(with_python(read_machine(tmp_path, answering())), system_tensorrt=tensorrt)
    assert by_code(find(machine))["tensorrt-not-visible"].fix.startswith("python3.10 ")
