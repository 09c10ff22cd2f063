"""A machine for engine tests: the stand-ins of GPU and TensorRT, and a builder whose engines can have faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import standin_trt
from standin_cuda import StandinCuda
from standin_trt import Fault, Plan, standin_library, write_plan

from acl_runtime.backends.tensorrt.build import BuildError, BuildReport, BuildRequest
from acl_runtime.bundle.bundle import Bundle

UNBUILDABLE = "cannot be built (planted)"


class StandinMachine:
    """A GPU, a TensorRT and its builder, none of them real.

    Attributes:
        cuda: The GPU.
        library: TensorRT.
        faults: Of the engines that are built, by file name of the graph; `UNBUILDABLE` for what cannot be.
        warnings: What the builder warns of.
        requests: What was asked of it.
        built: File names of the graphs that were built, in order.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.cuda, self.library = StandinCuda(), standin_library()
        self.faults: dict[str, Fault | str] = {}
        self.built: list[str] = []
        self.warnings: tuple[str, ...] = ()
        self.requests: list[BuildRequest] = []
        self._graph = bundle.manifest.graph

    def build(
        self, request: BuildRequest, *, log: Path, progress: Callable[[str, int, int], None]
    ) -> BuildReport:
        """In the place of `build_engine`."""
        self.built.append(request.graph.name)
        self.requests.append(request)
        progress("building", 1, 1)
        log.write_text("all went well, as always\n", encoding="utf-8")
        fault = self.faults.get(request.graph.name)
        if isinstance(fault, str):
            raise BuildError(fault)
        write_plan(
            request.plan,
            Plan(
                str(request.graph),
                request.min_batch,
                request.max_batch,
                request.weightless,
                fault,
                summarises=True,
            ),
        )
        batch = "batch" if request.min_batch < request.max_batch else request.max_batch
        inputs, outputs = (
            tuple(replace(tensor, shape=(batch, *tensor.shape[1:])) for tensor in tensors)
            for tensors in (self._graph.inputs, self._graph.outputs)
        )
        return BuildReport(
            library_version=standin_trt.__version__,
            inputs=inputs,
            outputs=outputs,
            activation_bytes=1 << 16,
            weights_bytes=None,
            fused_attention=None,
            host_bytes=None,
            seconds=0.1,
            warnings=self.warnings,
        )
