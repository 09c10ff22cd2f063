"""Run engines: the same call as `OnnxSession`, with TensorRT."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from queue import LifoQueue
from threading import Event, Lock

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.gpu_pixels import GpuPixels
from acl_runtime.backends.session import Brief
from acl_runtime.backends.tensorrt import gpu_frames
from acl_runtime.backends.tensorrt.cuda import Cuda, OutOfMemoryError
from acl_runtime.backends.tensorrt.engine_file import Engine, EngineRecord, Place, why_unfit
from acl_runtime.backends.tensorrt.execution import Call, Execution, Images
from acl_runtime.backends.tensorrt.library import Library, load_library
from acl_runtime.backends.tensorrt.plan import Plan
from acl_runtime.backends.tensorrt.sizes import calls_for
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.files.errors import BackendError, InputError

SLOTS = 2  # of which one is filled and read by the CPU while the GPU works in the other
FREE_SHARE = 0.5  # of the memory that is free, which a further slot may take


class TrtSession:
    """Loaded engines of one graph: images in, arrays out. Same call as `OnnxSession`.

    Call it with (B, S, S, 3) uint8 RGB, or where the graph resizes with (B, H, W, 3) BGR or a list of `GpuPixels`, any
    B from 1 on; it returns the graph's outputs by name, see `bundle.py`, in arrays of the caller's own. It may be
    called from several threads: as many calls as it has slots are under way at once, on a stream each, and others wait.
    `close` it, or use it in a `with` statement.

    Attributes:
        backend: "tensorrt".
        engine: What is loaded.
        engines: The same, and those of other batch sizes beside it; which computes is chosen at each call.
        library: What runs it.
        cuda: Where.
        provider: The same in words: "NVIDIA GeForce RTX 4090, tensorrt 10.13.3.9, fp16".
        min_batch: Fewest images that an engine takes; fewer are filled up.
        max_batch: Most that one takes at once; more are split.
        slots: Calls that may be under way at once.
        can_be_brief: Whether maps can stay on the GPU, see `BriefSession`.
    """

    backend = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        beside: Sequence[Engine] = (),
        device: int = 0,
        library: Library | None = None,
        cuda: Cuda | None = None,
        slots: int = SLOTS,
    ) -> None:
        """Load an engine.

        Args:
            bundle: What it was built from.
            engine: One that fits this machine, see `why_unfit`.
            beside: Others of the same library and arithmetic, for other batch sizes; what does not fit into the GPU's
                memory any more is left out, with a note.
            device: Number of the GPU.
            library: What to run it with; None for what its record names.
            cuda: The GPU, open, and then it is the caller's to close; None for `device`.
            slots: Calls under way at once, where the memory is enough; if not, a note says so.

        Raises:
            RuntimeError: It does not fit, is damaged, or cannot be loaded.
        """
        record, graph = engine.record, bundle.manifest.graph
        self.library = library or load_library(record.library)
        self._image_shape, self._notes = tuple(graph.inputs[0].shape[1:]), list[str]()
        self._closing, self._setup, self._closed = Lock(), Lock(), Event()
        self._free: LifoQueue[Execution] = (
            LifoQueue()
        )  # so that who calls one after the other stays in one slot
        with ExitStack() as resources:
            self.cuda = cuda or resources.enter_context(Cuda(device))
            if reason := self.library.why_not_on(self.cuda.cuda_version):
                raise BackendError(reason)
            for each in (engine, *beside):
                if reason := why_unfit(each, bundle, place_of(self.library, self.cuda)):
                    raise BackendError(f"{each.path.name}: {reason}")
            self.provider = (
                f"{self.cuda.name}, {self.library.name} {self.library.version}, {record.arithmetic}"
            )
            free_bytes = self.cuda.free_bytes()
            try:
                with self.cuda.current():
                    self._plans = [self._load(bundle, engine, resources)]
                    engines = (engine, *self._load_beside(bundle, beside, resources))
                    self._use(engines, range(len(engines)))
                    self._executions = self._make_slots(bundle, slots, resources)
            except OutOfMemoryError as error:
                raise OutOfMemoryError(_explain_memory(bundle, engine, free_bytes, error)) from error
            self._resources = resources.pop_all()
        self.slots = len(self._executions)
        for execution in reversed(self._executions):
            self._free.put(execution)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know so far, a sentence each, such as why nothing is recorded."""
        told = [*self._notes]
        for plan in self._plans:
            told += plan.notes
        for execution in self._executions:
            told += execution.notes
        return tuple(dict.fromkeys(told))

    def __call__(self, images: Images) -> dict[str, np.ndarray]:
        """Run the engine on `images`, (B, S, S, 3) uint8 RGB, see the class.

        Raises:
            ValueError: They are of another shape or type.
            RuntimeError: TensorRT or the GPU fails, or the session was closed.
        """
        with self._slot() as execution:
            parts = [execution.run(call, part) for call, part in self._parts(images)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def brief(self, images: Images, wants: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Brief:
        """See `BriefSession`; errors as of a call."""
        with self._slot() as execution:
            parts = [execution.run_briefly(call, part, wants) for call, part in self._parts(images)]
        return Brief(
            np.concatenate([part.image_logits for part in parts]),
            np.concatenate([part.peaks for part in parts]),
            np.concatenate([part.sums for part in parts]),
            tuple(each for part in parts for each in part.maps),
        )

    def check_on_gpu(self, pixels: GpuPixels) -> None:
        """See `GpuSession`."""
        gpu_frames.check_pixels(pixels, self.cuda)

    def fetch(self, pixels: GpuPixels) -> npt.NDArray[np.uint8]:
        """See `GpuSession`."""
        self.check_on_gpu(pixels)
        self._check([pixels])
        with self._slot() as execution:
            return execution.fetch(pixels)

    def of(self, number: int) -> TrtSession:
        """The same session, using this one of `engines` alone; it is closed with the other."""
        other = copy.copy(self)
        other._use(self.engines[number : number + 1], self._numbers[number : number + 1])
        return other

    @contextmanager
    def only(self, number: int) -> Iterator[None]:
        """Let calls have this slot only, once the others are free."""
        with self._closing:
            held = [self._free.get() for _ in self._executions]
        kept = self._executions[number]
        self._free.put(kept)
        try:
            yield
        finally:
            for execution in held:
                if execution is not kept:
                    self._free.put(execution)

    def close(self) -> None:
        """Free what the session holds on the GPU, once no call is under way; a second time does nothing."""
        with self._closing:
            held = [self._free.get() for _ in self._executions]
            was_closed = self._closed.is_set()
            self._closed.set()
            for execution in held:
                self._free.put(execution)
            if not was_closed:
                self._resources.close()

    def __enter__(self) -> TrtSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _slot(self) -> Iterator[Execution]:
        """A slot for one call, the context current; waits while all are in use."""
        execution = self._free.get()
        try:
            if self._closed.is_set():
                raise BackendError("the session was closed; open another")
            with self.cuda.current():
                yield execution
        finally:
            self._free.put(execution)

    def _check(self, images: Images) -> None:
        """Raise InputError if images are of another kind than the graph's."""
        if isinstance(images, np.ndarray):
            found, is_right = f"{images.shape} {images.dtype}", images.dtype == np.uint8
            is_right &= images.shape[1:] == self._image_shape
        else:
            found = f"{[(each.height, each.width, 3) for each in images]} on the GPU"
            is_right = all((each.height, each.width, 3) == self._image_shape for each in images)
        if not is_right or not len(images):
            wanted = ", ".join(map(str, self._image_shape))
            raise InputError(f"images must be (batch, {wanted}) uint8, got {found}")

    def _parts(self, images: Images) -> list[tuple[Call, Images]]:
        """The calls to make, each with the images that it computes."""
        self._check(images)
        parts: list[tuple[Call, Images]] = []
        start = 0
        for call in calls_for(len(images), self._sizes):
            part = images[start : start + call.batch]
            parts.append((replace(call, engine=self._numbers[call.engine]), part))
            start += len(part)
        return parts

    def _use(self, engines: Sequence[Engine], numbers: Sequence[int]) -> None:
        """Compute with these engines, whose plans have these numbers."""
        self.engine, self.engines, self._numbers = engines[0], tuple(engines), tuple(numbers)
        self._sizes = tuple((each.record.min_batch, each.record.max_batch) for each in engines)
        self.min_batch = min(fewest for fewest, _ in self._sizes)
        self.max_batch = max(most for _, most in self._sizes)
        self.can_be_brief = all(self._plans[number].summarises for number in numbers)

    def _load(self, bundle: Bundle, engine: Engine, resources: ExitStack) -> Plan:
        plan = Plan(bundle, engine, self.library)
        resources.callback(self._within, plan.close)
        return plan

    def _load_beside(self, bundle: Bundle, beside: Sequence[Engine], resources: ExitStack) -> list[Engine]:
        loaded: list[Engine] = []
        for engine in beside:
            try:
                self._plans.append(self._load(bundle, engine, resources))
            except OutOfMemoryError as error:
                self._notes.append(f"{engine.path.name} is left out, another batch size computes: {error}")
            else:
                loaded.append(engine)
        return loaded

    def _make_slots(self, bundle: Bundle, slots: int, resources: ExitStack) -> list[Execution]:
        """One slot at least, and more as the memory allows."""
        free_bytes = self.cuda.free_bytes()
        made = [self._make_slot(bundle, resources)]
        takes = free_bytes - self.cuda.free_bytes()
        while len(made) < slots:
            why = f"a further one takes {takes / 1e6:.0f} MB, {self.cuda.free_bytes() / 1e6:.0f} MB are free"
            if takes > FREE_SHARE * self.cuda.free_bytes():
                break
            try:
                made.append(self._make_slot(bundle, resources))
            except OutOfMemoryError as error:
                why = str(error)
                break
        if len(made) < slots:
            self._notes.append(
                f"{len(made)} of {slots} batches at a time are on the GPU, which costs speed: {why}"
            )
        return made

    def _make_slot(self, bundle: Bundle, resources: ExitStack) -> Execution:
        graph, sizes = bundle.manifest.graph, [most for _, most in self._sizes]
        execution = Execution(
            self._plans, self.cuda, graph.inputs, graph.outputs, sizes=sizes, setup=self._setup
        )
        resources.callback(self._within, execution.close)
        return execution

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
