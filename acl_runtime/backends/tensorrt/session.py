"""Run an engine: the same call as `OnnxSession`, with TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock

import numpy as np

from acl_runtime.backends.tensorrt.cuda import Cuda, OutOfMemoryError
from acl_runtime.backends.tensorrt.engine_file import Engine, EngineRecord, Place, why_unfit
from acl_runtime.backends.tensorrt.execution import Execution
from acl_runtime.backends.tensorrt.library import Library, load_library
from acl_runtime.backends.tensorrt.plan import Plan
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import QUANTIZED
from acl_runtime.files.errors import BackendError, InputError


class TrtSession:
    """A loaded engine: images in, arrays out. Same call as `OnnxSession`.

    Call it with (B, S, S, 3) uint8 RGB, any B from 1 on; it returns the graph's outputs by name, see `bundle.py`, in
    arrays of the caller's own. It may be called from several threads, which wait for each other. `close` it, or use it
    in a `with` statement.

    Attributes:
        backend: "tensorrt"; "tensorrt-int8" or "tensorrt-fp8" of an engine whose linear layers are of eight bits.
        engine: What is loaded.
        library: What runs it.
        cuda: Where.
        provider: The same in words: "NVIDIA GeForce RTX 4090, tensorrt 10.13.3.9, fp16".
        min_batch: Fewest images that the engine takes; fewer are filled up.
        max_batch: Most that it takes at once; more are split.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        device: int = 0,
        library: Library | None = None,
        cuda: Cuda | None = None,
    ) -> None:
        """Load an engine.

        Args:
            bundle: What it was built from.
            engine: One that fits this machine, see `why_unfit`.
            device: Number of the GPU.
            library: What to run it with; None for what its record names.
            cuda: The GPU, open, and then it is the caller's to close; None for `device`.

        Raises:
            RuntimeError: It does not fit, is damaged, or cannot be loaded.
        """
        record, graph = engine.record, bundle.manifest.graph
        low = f"-{record.arithmetic}" if record.arithmetic in QUANTIZED else ""
        self.backend = f"tensorrt{low}"
        self.engine, self.min_batch, self.max_batch = engine, record.min_batch, record.max_batch
        self.library = library or load_library(record.library)
        self._lock, self._image_shape = Lock(), tuple(graph.inputs[0].shape[1:])
        with ExitStack() as resources:
            self.cuda = cuda or resources.enter_context(Cuda(device))
            if reason := self.library.why_not_on(self.cuda.cuda_version):
                raise BackendError(reason)
            if reason := why_unfit(engine, bundle, place_of(self.library, self.cuda)):
                raise BackendError(f"{engine.path.name}: {reason}")
            self.provider = (
                f"{self.cuda.name}, {self.library.name} {self.library.version}, {record.arithmetic}"
            )
            free_bytes = self.cuda.free_bytes()
            try:
                with self.cuda.current():
                    self._plan = Plan(bundle, engine, self.library)
                    resources.callback(self._within, self._plan.close)
                    self._execution = Execution(
                        self._plan, self.cuda, graph.inputs, graph.outputs, max_batch=self.max_batch
                    )
                    resources.callback(self._within, self._execution.close)
            except OutOfMemoryError as error:
                raise OutOfMemoryError(_explain_memory(bundle, engine, free_bytes, error)) from error
            self._resources: ExitStack | None = resources.pop_all()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know so far, a sentence each, such as why nothing is recorded."""
        return (*self._plan.notes, *self._execution.notes)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the engine on `images`, (B, S, S, 3) uint8 RGB.

        Raises:
            ValueError: They are of another shape or type.
            RuntimeError: TensorRT or the GPU fails, or the session was closed.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._image_shape or not len(images):
            wanted = ", ".join(map(str, self._image_shape))
            raise InputError(f"images must be (batch, {wanted}) uint8, got {images.shape} {images.dtype}")
        starts = range(0, len(images), self.max_batch)
        with self._lock:
            if self._resources is None:
                raise BackendError("the session was closed; open another")
            with self.cuda.current():
                parts = [self._run(images[start : start + self.max_batch]) for start in starts]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Free what the session holds on the GPU; a second time does nothing."""
        with self._lock:
            resources, self._resources = self._resources, None
            if resources is not None:
                resources.close()

    def __enter__(self) -> TrtSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        missing = self.min_batch - len(images)
        if missing <= 0:
            return self._execution.run(images)
        filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        return {name: array[: len(images)] for name, array in self._execution.run(filled).items()}

    def _within(self, close: Callable[[], None]) -> None:
        with self.cuda.current():
            close()


def place_of(library: Library, cuda: Cuda) -> Place:
    """This machine, as an engine sees it."""
    return Place(
        library.name,
        library.version,
        cuda.name,
        cuda.compute_capability,
        cuda.multiprocessors,
        cuda.total_bytes,
    )


def _explain_memory(bundle: Bundle, engine: Engine, free_bytes: int, error: OutOfMemoryError) -> str:
    weights, activations = _weight_bytes(bundle, engine.record), engine.record.activation_bytes
    parts = [f"{weights / 1e6:.0f} MB of weights"]
    if activations is not None:
        parts.append(f"{activations / 1e6:.0f} MB of activations")
    return (
        f"{engine.path.name} does not fit into the GPU's memory: it needs {' and '.join(parts)}, "
        f"{free_bytes / 1e6:.0f} MB were free; close what else uses the GPU, or build for fewer images with "
        f"acl build {bundle.path} --batch 1 ({error})"
    )


def _weight_bytes(bundle: Bundle, record: EngineRecord) -> int:
    """About what the weights take on the GPU: as much as in their file."""
    if not record.weightless:
        return record.bytes
    return sum(bundle.manifest.files[name].bytes for name in record.sources)
