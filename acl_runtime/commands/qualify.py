"""`acl qualify`: let fewer bits run on this machine where accuracy holds and speed improves."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.files.errors import BackendError
from acl_runtime.text.terminal import echo


class LowPrecision(str, Enum):
    """Backends that compute with fewer bits than others that the machine has."""

    openvino_bf16 = Backend.openvino_bf16.value
    openvino_int8 = Backend.openvino_int8.value
    onnxruntime_int8 = Backend.onnxruntime_int8.value
    tensorrt_int8 = Backend.tensorrt_int8.value
    tensorrt_fp8 = Backend.tensorrt_fp8.value


def qualify(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    backend: Annotated[LowPrecision, typer.Option(help="What to qualify.", show_default=False)],
    data: Annotated[
        list[Path],
        typer.Option(help="Folder of labelled images, as acl eval reads them; repeat.", show_default=False),
    ],
) -> None:
    """Check that fewer bits hold the accuracy and are faster on this machine; only then acl run uses them.

    The labelled images are judged by the backend and in float32: image and pixel
    AUROC may differ by 0.2 points at most. Then both are timed: the backend must
    be faster than the fastest backend in float32 on this CPU. An engine in int8
    or fp8, made by acl build --arithmetic, is compared with the bundle's own
    engine on this GPU instead. The result is kept in the bundle, and holds for
    this device, this version of the backend and this graph or engine. The exit
    code is 1 if the backend fails.
    """
    from acl_runtime.backends.qualification import METRICS
    from acl_runtime.bench.qualify import qualify as qualify_backend
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.evaluation.metrics import METRICS as NAMES
    from acl_runtime.text.progress import progress_phases

    with progress_phases() as progress:
        found = qualify_backend(load_bundle(bundle), backend.value, data, progress=progress)
    for change in found.drift:
        ordered = sorted(change.metrics.items(), key=lambda metric: metric[0] not in METRICS)
        points = ", ".join(f"{NAMES[name]} {100 * moved:+.3f}" for name, moved in ordered)
        echo(f"{', '.join(change.data)}, {change.images} images: {points} points")
    echo(f"{found.ratio:.2f} times as fast as {found.rival} on {found.device}")
    if failures := found.failures():
        raise BackendError(f"{backend.value} fails: {'; '.join(failures)}; use --backend {found.fastest}")
    echo(f"qualified: acl run {bundle} IMAGES --backend {backend.value}")
