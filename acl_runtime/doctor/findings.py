"""What is wrong with a machine, or could be better, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from packaging.version import Version

from acl_runtime.backends.tensorrt.cuda import INSTALL_BINDING
from acl_runtime.backends.tensorrt.library import DRIVERS
from acl_runtime.doctor.known_bad import known_faults
from acl_runtime.doctor.machine import Machine

SWAP_BYTES = 8 << 30  # that a small board should have
SMALL_BYTES = 12 << 30  # a board with less is small
SWAP = "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
ONNXRUNTIME_CUDA_13 = "1.27"  # the first onnxruntime-gpu of the package index that is made for it
LOCKING_BINDINGS = ("12.8.0", "12.9.0")
_RTX_CUDA_12 = 'pip install tensorrt-rtx-cu12-bindings tensorrt-rtx-cu12-libs "cuda-bindings>=12.9.1,<13"'


class Severity(str, Enum):
    """How bad it is."""

    error = "error"  # something that was asked for or installed cannot work
    warning = "warning"  # it may work, and differently than one would expect
    hint = "hint"  # it works; it could be better


@dataclass(frozen=True)
class Finding:
    """Something to know about a machine."""

    severity: Severity
    code: str  # for scripts, such as "driver-too-old"
    text: str  # a sentence
    fix: str  # one command, or what to do


def find(machine: Machine) -> list[Finding]:
    """What there is to know about a machine, the worst first."""
    checks = (
        _problems,
        _no_gpu,
        _driver,
        _tensorrt,
        _known_bad,
        _onnxruntime,
        _opencv,
        _faster,
        _power,
        _memory,
    )
    findings = [finding for check in checks for finding in check(machine)]
    return sort_findings(findings)


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda finding: list(Severity).index(finding.severity))


def _problems(machine: Machine) -> Iterator[Finding]:
    for problem in machine.problems:
        command = problem.split()[0]
        by_hand = problem.partition(" ")[2].startswith(("fails", "prints"))
        fix = f"run {command} by hand to see more" if by_hand else "see the sentence"
        yield Finding(Severity.warning, "unreadable", problem, fix)


def _no_gpu(machine: Machine) -> Iterator[Finding]:
    if machine.gpus:
        return
    if machine.driver:
        yield Finding(
            Severity.warning,
            "gpu-hidden",
            f"the NVIDIA driver {machine.driver} is loaded, but no GPU can be seen; a container must be given it",
            "docker run --gpus all (on a Jetson --runtime nvidia)",
        )
    elif machine.has_nvidia_card:
        yield Finding(
            Severity.warning,
            "no-driver",
            "there is an NVIDIA graphics card, but no driver",
            "sudo apt install nvidia-driver-580",
        )
    else:
        yield Finding(
            Severity.hint, "no-gpu", "there is no NVIDIA GPU: acl run computes on the CPU", "nothing to do"
        )


def _driver(machine: Machine) -> Iterator[Finding]:
    for name in needs_cuda_13(machine):
        rtx = name.startswith("tensorrt-rtx")
        instead = _RTX_CUDA_12 if rtx else 'pip install "onnxruntime-gpu[cuda,cudnn]<1.27"'
        yield Finding(
            Severity.error,
            "driver-too-old",
            f"{name} {machine.packages[name]} is made for CUDA 13, which needs driver {DRIVERS[13]} or newer; this "
            f"is {machine.driver}",
            "sudo apt install nvidia-driver-580"
            + ("" if name.startswith("tensorrt-cu") else f", or {instead}"),
        )


def needs_cuda_13(machine: Machine) -> list[str]:
    """What is installed, made for CUDA 13, and cannot work with this machine's driver."""
    if not is_driver_old(machine):
        return []
    packages = machine.packages
    found = [name for name in packages if "cu13" in name]
    runtime = packages.get("onnxruntime-gpu")
    if runtime is not None and Version(runtime) >= Version(ONNXRUNTIME_CUDA_13):
        found.append("onnxruntime-gpu")
    return found


def is_driver_old(machine: Machine) -> bool:
    """Whether the driver runs nothing that is made for CUDA 13; a Jetson's comes with its system and is not asked."""
    return bool(machine.driver) and not machine.jetson and Version(machine.driver or "0").major < DRIVERS[13]


def _tensorrt(machine: Machine) -> Iterator[Finding]:
    capabilities = dict.fromkeys(gpu.compute_capability for gpu in machine.gpus)
    if "tensorrt" not in machine.libraries and machine.system_tensorrt:
        python, version = max(machine.system_tensorrt.items(), key=lambda found: Version(found[0]))
        sees = "cannot see it" if machine.python.startswith(f"{python}.") else f"is Python {machine.python}"
        yield Finding(
            Severity.warning if machine.libraries else Severity.error,
            "tensorrt-not-visible",
            f"TensorRT {version} is installed for the system's Python {python}, and this environment {sees}",
            f"python{python} -m venv --system-site-packages .venv",
        )
    elif machine.gpus and not machine.libraries:
        name = "rtx" if any(gpu.name.startswith("NVIDIA GeForce RTX") for gpu in machine.gpus) else "tensorrt"
        fix = "sudo apt install nvidia-jetpack" if machine.jetson else f'pip install -e ".[{name}]"'
        if name == "rtx" and is_driver_old(machine):
            fix = _RTX_CUDA_12
        yield Finding(Severity.warning, "no-tensorrt", "there is a GPU, but no TensorRT", fix)
    for capability in capabilities:
        served = machine.rtx_capabilities
        if set(machine.libraries) == {"tensorrt-rtx"} and capability and capability not in served:
            yield Finding(
                Severity.error,
                "rtx-not-offered",
                f"TensorRT-RTX serves the compute capabilities {', '.join(served)}, not this GPU's {capability}",
                'pip install -e ".[tensorrt]"',
            )
    if not (machine.gpus and machine.libraries):
        return
    binding = machine.packages.get("cuda-bindings")
    if binding is None:
        text = "TensorRT is here, but not CUDA's Python binding"
        yield Finding(Severity.error, "no-cuda-bindings", text, INSTALL_BINDING)
    elif binding in LOCKING_BINDINGS:
        text = f"cuda-bindings {binding} holds Python's lock while it waits for the GPU, so that nothing overlaps"
        yield Finding(Severity.warning, "binding-holds-lock", text, INSTALL_BINDING)


def _known_bad(machine: Machine) -> Iterator[Finding]:
    capabilities = {gpu.compute_capability for gpu in machine.gpus} or {None}
    faults = {
        fault: None
        for name, version in machine.libraries.items()
        for capability in capabilities
        for fault in known_faults(name, version, capability)
    }
    for fault in faults:
        severity = Severity.hint if fault.remedy == "nothing to do" else Severity.warning
        yield Finding(severity, "known-bad", fault.sentence, fault.remedy)


def _onnxruntime(machine: Machine) -> Iterator[Finding]:
    both = {"onnxruntime", "onnxruntime-gpu"} <= set(machine.packages)
    anew = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install"
    if both:
        yield Finding(
            Severity.warning,
            "two-onnxruntimes",
            "onnxruntime and onnxruntime-gpu are both installed, and one hides the other",
            f"{anew} {'onnxruntime-gpu' if machine.gpus else 'onnxruntime'}",
        )
    elif not machine.providers and not machine.libraries:
        yield Finding(
            Severity.error,
            "nothing-computes",
            "neither ONNX Runtime nor TensorRT can be imported, so nothing can compute",
            'pip install -e ".[cpu]"',
        )
    elif (
        machine.gpus
        and machine.providers
        and not machine.jetson
        and "CUDAExecutionProvider" not in machine.providers
    ):
        yield Finding(
            Severity.hint,
            "no-cuda-provider",
            "ONNX Runtime computes on the CPU only, though there is a GPU",
            f"{anew} onnxruntime-gpu",
        )


def _opencv(machine: Machine) -> Iterator[Finding]:
    installed = [name for name in machine.packages if name.startswith("opencv-")]
    if len(installed) > 1:
        told = " and ".join(f"{name} {machine.packages[name]}" for name in installed)
        yield Finding(
            Severity.error,
            "two-opencvs",
            f"{told} are installed together and overwrite each other's files: cv2.imshow may be gone",
            f"pip uninstall -y {' '.join(installed)} && pip install {installed[0]}",
        )
    elif machine.opencv is None:
        yield Finding(
            Severity.error,
            "no-opencv",
            "OpenCV cannot be imported, so no image can be judged",
            'pip install -e ".[opencv]", or the OpenCV of your own program',
        )


def _faster(machine: Machine) -> Iterator[Finding]:
    is_pc = machine.system.endswith(("x86_64", "AMD64"))
    if is_pc and not machine.gpus and machine.providers and "openvino" not in machine.packages:
        yield Finding(
            Severity.hint,
            "faster-backend",
            "OpenVINO was faster than ONNX Runtime on CPUs like this: 1.2 times in float32, 2 to 3 times in bf16 and "
            "int8 where acl qualify lets them run (ViT-L/14 at 518 pixels, see benchmarks/README.md)",
            'pip install -e ".[openvino]", then acl run --backend openvino',
        )


def _power(machine: Machine) -> Iterator[Finding]:
    for gpu in machine.gpus:
        limit, default = gpu.power_limit_w, gpu.default_power_limit_w
        if limit is not None and default is not None and limit < default:
            yield Finding(
                Severity.hint,
                "power-limited",
                f"{gpu.name} is limited to {limit:.0f} of {default:.0f} W",
                f"sudo nvidia-smi -pl {default:.0f}",
            )
    jetson = machine.jetson
    if jetson is None:
        return
    mode = jetson.power_mode
    if mode and not mode.startswith("MAXN") and jetson.full_power is not None:
        yield Finding(
            Severity.hint,
            "power-mode",
            f"the board is in power mode {mode}, not in the one without limits",
            f"sudo nvpmodel -m {jetson.full_power}",
        )
    if jetson.gpu_mhz is not None and jetson.gpu_mhz[0] < jetson.gpu_mhz[2]:
        low, _, high = jetson.gpu_mhz
        yield Finding(
            Severity.hint,
            "clocks",
            f"the GPU's clock goes from {low} to {high} MHz as it likes, so the first frames after a pause are slow",
            "sudo jetson_clocks",
        )


def _memory(machine: Machine) -> Iterator[Finding]:
    if machine.memory_bytes is None or machine.swap_bytes is None or machine.memory_bytes >= SMALL_BYTES:
        return
    if machine.gpus and machine.swap_bytes < SWAP_BYTES // 2:
        yield Finding(
            Severity.hint,
            "little-swap",
            f"{machine.memory_bytes / 1e9:.0f} GB of memory and {machine.swap_bytes / 1e9:.0f} GB of swap are little "
            "to build an engine with",
            SWAP,
        )
