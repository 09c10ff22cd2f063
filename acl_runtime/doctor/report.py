"""What the doctor found, for people and, as JSON, for support tickets.

The JSON holds no name of a person, a machine or a folder. Its keys: `format` "anomalyclip-doctor", `format_version` 1,
`machine` (fields of `Machine`), `bundle` (fields of `BundleFacts`, or null), `findings` (fields of `Finding`), `works`
(sentences).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from acl_runtime.doctor.bundle_check import BundleFacts, hide_folder
from acl_runtime.doctor.findings import Finding, needs_cuda_13
from acl_runtime.doctor.machine import Gpu, Machine, OpenCv

GET_ARAVIS = "apt-get install --no-install-recommends libaravis-0.8-0"
GET_PYLON = 'pip install -e ".[basler]"'
_PROOFS = {
    "holds": "proven",
    "refused": "refused",
    "none": "not proven yet",
    "damaged": "with a certificate that is damaged",
}


def to_document(
    machine: Machine,
    bundle: BundleFacts | None,
    findings: Sequence[Finding],
    works: Sequence[str],
    *,
    path: Path | None,
) -> dict[str, Any]:
    """What `--json` writes.

    Args:
        machine: See `read_machine`.
        bundle: See `check_bundle`; None without one, or where it cannot be read.
        findings: Of both.
        works: See `what_works`.
        path: Of the bundle, which the document calls by its name alone; None without one.
    """
    if path is not None:
        findings = [
            replace(each, text=hide_folder(each.text, path), fix=hide_folder(each.fix, path))
            for each in findings
        ]
    return {
        "format": "anomalyclip-doctor",
        "format_version": 1,
        "machine": asdict(machine),
        "bundle": None if bundle is None else asdict(bundle),
        "findings": [asdict(finding) for finding in findings],
        "works": list(works),
    }


def to_text(
    machine: Machine, bundle: BundleFacts | None, findings: Sequence[Finding], works: Sequence[str]
) -> str:
    """What the screen shows."""
    facts = _machine_rows(machine) + ([] if bundle is None else _bundle_rows(bundle))
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {fact}" for name, fact in facts]
    for finding in findings:
        lines += ["", f"{finding.severity.value}: {finding.text}", f"  {finding.fix}"]
    return "\n".join([*lines, "", "what works here:", *(f"  {each}" for each in works)])


def what_works(machine: Machine) -> list[str]:
    """Commands that do their work on this machine, and where they compute."""
    works = []
    too_new = needs_cuda_13(machine)
    if "CUDAExecutionProvider" in machine.providers and machine.gpus and "onnxruntime-gpu" not in too_new:
        works.append("acl run --provider cuda: on the GPU, by ONNX Runtime")
    elif machine.providers:
        works.append("acl run: on the CPU, by ONNX Runtime")
    if "openvino" in machine.packages:
        works.append("acl run --backend openvino: on the CPU, by OpenVINO")
    ready = machine.gpus and "cuda-bindings" in machine.packages
    capabilities = [gpu.compute_capability for gpu in machine.gpus]
    if (
        ready
        and "tensorrt" in machine.libraries
        and not any(name.startswith("tensorrt-cu") for name in too_new)
    ):
        works.append("acl build and run --backend tensorrt: on the GPU, by TensorRT")
    served = machine.rtx_capabilities
    runs_rtx = ready and not any(name.startswith("tensorrt-rtx") for name in too_new)
    if runs_rtx and any(capability in served for capability in capabilities):
        works.append("acl build --backend tensorrt-rtx: on the GPU, by TensorRT-RTX")
    elif served:
        works.append(
            "acl build --backend tensorrt-rtx --compute-capability 8.6,8.9,12.0: builds without a GPU, for "
            "machines that have one"
        )
    cameras = ["acl camera, run and web with aravis:NAME: GigE Vision and USB3 Vision cameras"]
    basler = ["acl camera, run and web with basler:SERIAL: Basler's cameras"]
    return [
        *(works or ["nothing that computes; acl info, acl --help"]),
        *(cameras if machine.has_aravis else []),
        *(basler if "pypylon" in machine.packages else []),
    ]


def _machine_rows(machine: Machine) -> list[tuple[str, str]]:
    jetson = machine.jetson
    rows = [
        ("system", f"{machine.system}, Python {machine.python}"),
        ("processor", f"{machine.cores} cores"),
        (
            "memory",
            f"{_gigabytes(machine.memory_bytes)}, {_gigabytes(machine.available_bytes)} free, "
            f"{_gigabytes(machine.swap_bytes)} swap",
        ),
    ]
    if jetson is not None:
        clock = "" if jetson.gpu_mhz is None else ", GPU at {1} MHz of {0} to {2}".format(*jetson.gpu_mhz)
        rows += [
            ("board", f"{jetson.board}, L4T {jetson.l4t or '?'}, JetPack {jetson.jetpack or '?'}"),
            ("power mode", f"{jetson.power_mode or '?'}{clock}"),
        ]
    rows += [("GPU", _describe_gpu(gpu)) for gpu in machine.gpus] or [("GPU", "none")]
    cuda = f", runs CUDA up to {machine.cuda}" if machine.cuda else ""
    rows.append(("driver", f"{machine.driver or 'none'}{cuda}"))
    rows += [(name, version) for name, version in machine.libraries.items()] or [("TensorRT", "none")]
    rows += [
        ("TensorRT for system", f"{version}, Python {python}")
        for python, version in machine.system_tensorrt.items()
        if "tensorrt" not in machine.libraries
    ]
    rows.append(("CUDA binding", machine.packages.get("cuda-bindings", "none")))
    runtimes = [
        f"{name} {machine.packages[name]}" for name in machine.packages if name.startswith("onnxruntime")
    ]
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in machine.providers)
    rows.append(("OpenVINO", machine.packages.get("openvino", "none")))
    rows.append(("OpenCV", "none" if machine.opencv is None else _describe_opencv(machine.opencv)))
    rows.append(("ONNX Runtime", f"{' and '.join(runtimes) or 'none'}: {providers or 'no providers'}"))
    aravis = "found" if machine.has_aravis else f"none; for GigE Vision and USB3 Vision cameras: {GET_ARAVIS}"
    rows.append(("Aravis", aravis))
    rows.append(("pypylon", machine.packages.get("pypylon", f"none; for Basler's cameras: {GET_PYLON}")))
    return rows


def _describe_opencv(opencv: OpenCv) -> str:
    origin = "the system's" if opencv.is_system else "pip's"
    gstreamer = "with" if opencv.gstreamer else "without"
    return f"{opencv.version}, {origin}, windows {opencv.windows}, {gstreamer} GStreamer"


def _describe_gpu(gpu: Gpu) -> str:
    memory = f"{_gigabytes(gpu.memory_bytes)}, {_gigabytes(gpu.free_bytes)} free"
    return f"{gpu.name}, compute capability {gpu.compute_capability or '?'}, {memory}"


def _bundle_rows(bundle: BundleFacts) -> list[tuple[str, str]]:
    need = bundle.need
    rows = [
        ("network", bundle.network),
        ("bundle", f"{bundle.name}, for engines {', then '.join(bundle.arithmetics)}"),
        (
            "memory to build",
            f"about {need.builder / 1e9:.1f} GB on the host; to run {need.running / 1e9:.2f} GB on the GPU (batch 1)",
        ),
    ]
    for engine in bundle.engines:
        proof = _PROOFS[engine.proof]
        rows.append(("engine", f"{engine.name}: {engine.unfit or f'fits, {proof}'}"))
    return rows


def _gigabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e9:.1f} GB"
