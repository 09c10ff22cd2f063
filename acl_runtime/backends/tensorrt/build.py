"""Build an engine in a process of its own: a builder that crashes, or is killed for its memory, takes nothing along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acl_runtime.backends.tensorrt.library import LibraryName
from acl_runtime.bundle.manifest import Tensor
from acl_runtime.files.errors import BackendError
from acl_runtime.files.strict_json import read_strictly

SMALLER = "on an 8 GB board use --batch 1 and --workspace 256, add swap, close the desktop; acl doctor says what fits"


class BuildError(BackendError):
    """There is no engine; the builder's log says more."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        library: What builds.
        graph: ONNX file, its weights beside it.
        plan: File to write the engine to.
        min_batch: Fewest images at once.
        max_batch: Most images at once; the engine is optimised for these.
        compute_capabilities: Of the GPUs to build for, such as "8.9", TensorRT-RTX only; none for this machine's.
        workspace_bytes: Most scratch memory of a kernel; None for no limit.
        optimization_level: How long to search, 0 to 5; None for the library's default.
        timing_cache: File with timings of kernels, read if it is there and written after, by the full library only;
            None for none.
        weightless: Whether to leave out the weights, to be read from the graph at load.
        gpu_uuid: GPU to build on; None for the only one there is, or where none is needed.
    """

    library: LibraryName
    graph: Path
    plan: Path
    min_batch: int = 1
    max_batch: int = 1
    compute_capabilities: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    weightless: bool = False
    gpu_uuid: str | None = None


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What was built.

    Attributes:
        library_version: Of what built it.
        inputs: As read back from the engine.
        outputs: As read back from the engine.
        activation_bytes: Memory on the GPU beside the weights; None if the builder did not say.
        weights_bytes: Memory of the weights on the GPU; None if the builder did not say.
        fused_attention: Attention kernels in the engine; None where the engine does not show them.
        host_bytes: Most memory that the building process had; None where the system does not tell.
        seconds: That it took.
        warnings: Of the builder, those that matter to its user.
    """

    library_version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    activation_bytes: int | None
    weights_bytes: int | None
    fused_attention: int | None
    host_bytes: int | None
    seconds: float
    warnings: tuple[str, ...]


def build_engine(
    request: BuildRequest, *, log: Path, progress: Callable[[str, int, int], None]
) -> BuildReport:
    """Build an engine and write it to `request.plan`; on any error there is no such file.

    Args:
        request: What to build.
        log: File for all that the builder says.
        progress: Called with what is done, how much of it, and how much in all.

    Raises:
        BuildError: It cannot be built; one sentence with the remedy.
        BackendError: Nothing can be built, such as where the disk is full.
        OSError: The log cannot be written.
    """
    try:
        with log.open("wb") as errors:
            outcome, code = _run(request, errors.fileno(), progress)
    except BaseException:
        request.plan.unlink(missing_ok=True)
        raise
    if "report" in outcome:
        report: BuildReport = read_strictly(BuildReport, outcome["report"], "report")
        return report
    request.plan.unlink(missing_ok=True)
    if "failure" in outcome:
        raise BackendError(outcome["failure"])
    raise BuildError(outcome["error"] if "error" in outcome else f"{_explain_end(code)}; the log is {log}")


def request_to_json(request: BuildRequest) -> str:
    """For the builder process."""
    return json.dumps(asdict(request), default=str)


def request_from_json(text: str) -> BuildRequest:
    """What the parent wrote."""
    fields = json.loads(text)
    paths = {name: fields[name] and Path(fields[name]) for name in ("graph", "plan", "timing_cache")}
    capabilities = tuple(fields["compute_capabilities"])
    return BuildRequest(**fields | paths | {"compute_capabilities": capabilities})


def _run(
    request: BuildRequest, log: int, progress: Callable[[str, int, int], None]
) -> tuple[dict[str, Any], int]:
    """The process's last message and exit code."""
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    gpu = {} if request.gpu_uuid is None else {"CUDA_VISIBLE_DEVICES": request.gpu_uuid}
    outcome: dict[str, Any] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "acl_runtime.backends.tensorrt.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        env={**os.environ, **gpu, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for this process, which ends the other
    ) as process:
        try:
            for message in _talk(process, request):
                if "progress" in message:
                    progress(*message["progress"])
                else:
                    outcome = message
        except BaseException:
            process.kill()
            raise
    return outcome, process.returncode


def _talk(process: subprocess.Popen[str], request: BuildRequest) -> Iterator[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request_to_json(request))
        process.stdin.close()
    except BrokenPipeError:
        return  # it ended at once; its exit code says how
    for line in process.stdout:
        yield json.loads(line)


def _explain_end(code: int) -> str:
    if code == -9:  # SIGKILL, a name that Windows does not have
        return f"the builder was killed, most likely because the memory ran out: {SMALLER}"
    if code >= 1 << 31:  # how Windows ends what crashed
        return f"the builder crashed (0x{code:08X}); another version of TensorRT may not"
    if code < 0:
        return f"the builder crashed ({signal.Signals(-code).name}); another version of TensorRT may not"
    return f"the builder ended without an engine (exit code {code})"
