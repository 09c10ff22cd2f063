"""The process that builds an engine: `python -m acl_runtime.backends.tensorrt.worker`.

A `BuildRequest` comes on stdin as JSON. What happens goes to stdout, one JSON object a line: `progress` (what, done,
total), and last either `report`, the fields of a `BuildReport`, or a sentence: `error`, why there is no engine of this
graph, or `failure`, why there would be none of any. What TensorRT says goes to
stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acl_runtime.backends.host import peak_memory
from acl_runtime.backends.tensorrt.build import BuildError, BuildReport, BuildRequest, request_from_json
from acl_runtime.backends.tensorrt.builder_log import BuilderLog, make_logger
from acl_runtime.backends.tensorrt.library import Library, load_library
from acl_runtime.backends.tensorrt.plan import MAPS, PEAKS, SUMS
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BackendError, UserError

Tell = Callable[..., None]


def main() -> int:
    """Build what stdin asks for; returns the exit code."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints shall not garble the messages

    def tell(**message: Any) -> None:
        print(json.dumps(message), file=channel, flush=True)

    request = request_from_json(sys.stdin.read())
    try:
        report = build(request, BuilderLog(sys.stderr), tell)
    except OSError as error:  # such as a full disk, which more careful arithmetic does not help
        reason = error.strerror or str(error)
        where = error.filename or request.plan
        tell(failure=f"{where}: {reason.lower()}; see that there is space and that the folder can be written")
        return 1
    except UserError as error:
        tell(**{"error" if isinstance(error, BuildError) else "failure": str(error)})
        return 1
    except MemoryError as error:
        tell(error=str(error) or "there is not enough memory to build the engine")
        return 1
    tell(report=asdict(report))
    return 0


def build(request: BuildRequest, log: BuilderLog, tell: Tell) -> BuildReport:
    """Build an engine in this process.

    Raises:
        BuildError: The graph cannot be built.
        BackendError: No graph can be: the library cannot be imported or started, or needs a GPU for what is asked.
        InputError: The library does not know a compute capability.
    """
    library, started = load_library(request.library), time.monotonic()
    trt = library.module
    logger = make_logger(trt, log.add)
    try:
        builder = trt.Builder(logger)
    except (RuntimeError, TypeError) as error:  # pybind11's word for a null pointer is TypeError
        raise BackendError(
            f"{library.name} {library.version} does not start ({log.last_error}); acl doctor says what is missing"
        ) from error
    network = builder.create_network(library.network_flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(request.graph)):
        raise BuildError(_explain_parser(parser, request.graph, log))
    summarise(trt, network)
    config = builder.create_builder_config()
    monitor = _make_monitor(trt, tell)
    config.progress_monitor = monitor
    _configure(library, builder, network, config, request)
    cache_path = request.timing_cache if library.times_kernels else None
    cache = _load_cache(config, cache_path)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if request.weightless and library.is_rtx:
            raise BackendError(
                f"{library.name} leaves the weights out on a machine with a GPU only; drop --weightless"
            )
        raise BuildError(log.explain_failure(library.name))
    data = memoryview(plan)
    request.plan.write_bytes(data)
    if cache_path is not None:
        with atomic_file(cache_path) as temporary:
            temporary.write_bytes(memoryview(cache.serialize()))
    is_dynamic = request.min_batch < request.max_batch
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    outputs = [network.get_output(index).name for index in range(network.num_outputs)]
    return BuildReport(
        library_version=library.version,
        inputs=log.tensors(inputs, is_dynamic=is_dynamic),
        outputs=log.tensors(outputs, is_dynamic=is_dynamic),
        activation_bytes=log.bytes_of("Total Activation Memory"),
        weights_bytes=log.bytes_of("Total Weights Memory"),
        fused_attention=library.count_fused_attention(data),
        host_bytes=peak_memory(),
        seconds=round(time.monotonic() - started, 1),
        warnings=tuple(log.warnings),
    )


def summarise(trt: Any, network: Any) -> None:
    """Have a network with maps give the peak and the sum of each too, so that a map may stay on the GPU.

    The sum is there to find nan in: the largest of numbers may leave it out.
    """
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for maps in (output for output in outputs if output.name == MAPS):
        for name, operation in ((PEAKS, trt.ReduceOperation.MAX), (SUMS, trt.ReduceOperation.SUM)):
            reduced = network.add_reduce(maps, operation, 0b110, False).get_output(0)  # rows and columns
            reduced.name = name
            network.mark_output(reduced)


def _configure(library: Library, builder: Any, network: Any, config: Any, request: BuildRequest) -> None:
    trt, images = library.module, network.get_input(0)
    profile, tail = builder.create_optimization_profile(), tuple(images.shape)[1:]
    shapes = ((batch, *tail) for batch in (request.min_batch, request.max_batch, request.max_batch))
    profile.set_shape(images.name, *shapes)
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)  # what is float32 in the graph is computed so
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.optimization_level is not None:
        config.builder_optimization_level = request.optimization_level
    if request.weightless:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    library.set_compute_capabilities(config, request.compute_capabilities)
    library.allow_recording(config)


def _load_cache(config: Any, path: Path | None) -> Any:
    """The timing cache, set; begun anew if there is none, or one of another GPU or version."""
    if path is None:
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _make_monitor(trt: Any, tell: Tell) -> Any:
    """TensorRT's progress, of the phases that are not part of another."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._steps[phase_name] = num_steps
                tell(progress=(phase_name, 0, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                tell(progress=(phase_name, step + 1, self._steps[phase_name]))
            return True

        def phase_finish(self, phase_name: str) -> None:
            if (steps := self._steps.pop(phase_name, None)) is not None:
                tell(progress=(phase_name, steps, steps))

    return Monitor()


def _explain_parser(parser: Any, graph: Path, log: BuilderLog) -> str:
    if parser.num_errors == 0:
        return f"{graph}: cannot be read ({log.last_error}); copy or export the bundle again"
    error = parser.get_error(0)
    node = f"node {error.node_name()} ({error.node_operator()})" if error.node_name() else "the graph"
    words = " ".join(error.desc().split())
    if "Plugin not found" in words:
        words = "this version of the library does not know the operator"
    return f"{graph}: {node} cannot be built: {words}; export the bundle again"


if __name__ == "__main__":
    sys.exit(main())
