"""Engines in a bundle's `engines/` folder, each with a record of what it is and where it came from.

An engine `NAME.engine` has beside it `NAME.json`, its record, whose keys are the fields of `EngineRecord`;
`NAME.certificate.json`, the proof that it computes what was trained, see `certificate.py`; and `NAME.log`, all that
the builder said.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from acl_runtime.bundle.bundle import ENGINES, Bundle
from acl_runtime.bundle.manifest import Arithmetic, Tensor
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BackendError, UserError
from acl_runtime.files.strict_json import read_document
from acl_runtime.text.names import slug

FORMAT: Literal["anomalyclip-engine"] = "anomalyclip-engine"
FORMAT_VERSION: Literal[2] = 2
MEMORY_LEEWAY = (
    0.2  # by how much a GPU's memory may differ and it is still the same: drivers keep some for themselves
)


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """What an engine is, version 2 of the file format: a field is a key, none is optional."""

    format: Literal["anomalyclip-engine"]
    format_version: Literal[2]
    library: Literal["tensorrt", "tensorrt-rtx"]
    library_version: str
    gpu: str | None  # that it was built on; null: built without one, as only TensorRT-RTX can
    multiprocessors: int | None  # of that GPU: every Jetson Orin calls itself "Orin"
    memory_bytes: int | None  # of that GPU
    compute_capabilities: tuple[str, ...]  # of the GPUs that it is for, such as "8.9"
    platform: str  # such as "linux-x86_64"
    arithmetic: Arithmetic  # of the graph that it was built from
    sources: dict[str, str]  # sha256 of that graph and its weights, by file name; the first is the graph
    min_batch: int
    max_batch: int  # also what it was optimised for
    weightless: bool  # the weights are not in the engine; they are read from the graph at load
    inputs: tuple[Tensor, ...]  # as read back from the engine
    outputs: tuple[Tensor, ...]
    activation_bytes: int | None  # device memory beside the weights; null: the builder did not say
    fused_attention: int | None  # attention kernels in the plan; null: the plan does not show them
    workspace_bytes: int | None  # most that the builder might use as scratch; null: no limit
    optimization_level: int | None  # of the builder, 0 to 5; null: its default
    build_seconds: float
    sha256: str  # of the engine
    bytes: int
    created: str  # ISO 8601 date


@dataclass(frozen=True)
class Engine:
    """An engine file with its record."""

    path: Path  # of NAME.engine
    record: EngineRecord

    @property
    def certificate_path(self) -> Path:
        """Where its certificate is."""
        return self.path.with_suffix(".certificate.json")


@dataclass(frozen=True)
class Place:
    """Where an engine is to run; what is not known is None."""

    library: str
    library_version: str
    gpu: str | None
    compute_capability: str | None
    multiprocessors: int | None = None
    memory_bytes: int | None = None


def gpu_words(name: str | None, multiprocessors: int | None, memory_bytes: int | None) -> str:
    """A GPU, told apart from others of its name.

    >>> gpu_words("Orin", 8, 7_990_000_000)
    'Orin with 8 multiprocessors and 8 GB'
    """
    parts = [] if multiprocessors is None else [f"{multiprocessors} multiprocessors"]
    parts += [] if memory_bytes is None else [f"{memory_bytes / 1e9:.0f} GB"]
    return " with ".join([name or "no GPU", *filter(None, [" and ".join(parts)])])


def is_alike(memory_bytes: int | None, other: int | None) -> bool:
    """Whether two GPUs of one name have the same memory, as far as is known."""
    if memory_bytes is None or other is None:
        return True
    return abs(memory_bytes - other) <= MEMORY_LEEWAY * max(memory_bytes, other)


def engine_name(
    *,
    library: str,
    library_version: str,
    gpu: str | None,
    multiprocessors: int | None,
    compute_capabilities: tuple[str, ...],
    arithmetic: str,
    min_batch: int,
    max_batch: int,
) -> str:
    """The name of an engine's files without suffix, one per GPU, TensorRT version, precision and batch range.

    >>> engine_name(library="tensorrt", library_version="10.3", gpu="Orin", multiprocessors=8,
    ...     compute_capabilities=("8.7",), arithmetic="fp16", min_batch=1, max_batch=1)
    'orin-8_sm87_tensorrt-10.3_fp16_b1'
    """
    capabilities = "-".join(f"sm{capability.replace('.', '')}" for capability in compute_capabilities)
    batch = f"b{max_batch}" if min_batch == max_batch else f"b{min_batch}-{max_batch}"
    return f"{target_name(gpu, multiprocessors)}_{capabilities}_{slug(library)}-{library_version}_{arithmetic}_{batch}"


def target_name(gpu: str | None, multiprocessors: int | None) -> str:
    """The GPU in names of files: "orin-8" is an Orin of eight multiprocessors; "any" where none is named."""
    return slug(" ".join([gpu or "any", *([] if multiprocessors is None else [str(multiprocessors)])]))


def write_record(path: Path, record: EngineRecord) -> None:
    """Write the record of the engine `path`, atomically."""
    with atomic_file(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_engine(path: Path) -> Engine:
    """The engine `path` with its record, which is checked; the engine's bytes are not.

    Raises:
        BackendError: It is no file, or has no record beside it.
        InputError: The record is not one.
    """
    record_path = path.with_suffix(".json")
    for needed in (path, record_path):
        if not needed.is_file():
            what = "is no file" if needed.exists() else "no such file"
            raise BackendError(f"{needed}: {what}; build the engine again with acl build")
    record: EngineRecord = read_document(
        record_path,
        EngineRecord,
        kind="engine record",
        format_name=FORMAT,
        newest=FORMAT_VERSION,
        remedy="build the engine again with acl build",
    )
    return Engine(path, record)


@dataclass(frozen=True)
class Engines:
    """What lies in a bundle's `engines` folder.

    Attributes:
        whole: The engines with their records, by name.
        broken: Of each of the others what is wrong with it, a sentence that begins with its path.
    """

    whole: tuple[Engine, ...]
    broken: tuple[str, ...]


def list_engines(bundle: Bundle) -> Engines:
    """List the bundle's engines; none if there is no `engines` folder. One that is broken does not hide the others."""
    whole, broken = [], []
    for path in sorted((bundle.path / ENGINES).glob("*.engine")):
        if path.name.startswith("."):
            continue
        try:
            whole.append(read_engine(path))
        except UserError as error:
            broken.append(str(error))
    return Engines(tuple(whole), tuple(broken))


def is_of(record: EngineRecord, bundle: Bundle) -> bool:
    """Whether an engine was built from the graph of its arithmetic that the bundle has now, and its weights."""
    manifest = bundle.manifest
    if record.arithmetic not in (*manifest.arithmetics(), *manifest.on_request):
        return False
    named = manifest.graph_file(record.arithmetic) in record.sources
    return named and all(
        name in manifest.files and manifest.files[name].sha256 == digest
        for name, digest in record.sources.items()
    )


def why_unfit(engine: Engine, bundle: Bundle, place: Place) -> str:
    """Why an engine cannot be loaded there, with the remedy; empty if it can, as far as is known."""
    record = engine.record
    here = f"{sys.platform}-{platform.machine()}".lower()
    reason = ""
    if not is_of(record, bundle):
        reason = f"was built from another graph than {bundle.path} has"
    elif (record.library, record.library_version) != (place.library, place.library_version):
        built_with = f"{record.library} {record.library_version}"
        reason = f"was built with {built_with}, this is {place.library} {place.library_version}"
    elif place.compute_capability not in (None, *record.compute_capabilities):
        built_for = ", ".join(record.compute_capabilities)
        reason = f"is for compute capability {built_for}, {place.gpu} has {place.compute_capability}"
    elif record.library == "tensorrt-rtx":
        reason = ""  # it serves every card of a compute capability, on any system
    elif not _is_same_gpu(record, place) or record.platform != here:
        built_on = gpu_words(record.gpu, record.multiprocessors, record.memory_bytes)
        found = gpu_words(place.gpu, place.multiprocessors, place.memory_bytes)
        reason = f"was built on {built_on}, {record.platform}; this is {found}, {here}"
    return reason and f"{reason}; build it again with acl build {bundle.path}"


def _is_same_gpu(record: EngineRecord, place: Place) -> bool:
    """Whether the GPU there is of the model that the engine was built on, as far as is known."""
    return (
        place.gpu in (None, record.gpu)
        and place.multiprocessors in (None, record.multiprocessors)
        and is_alike(place.memory_bytes, record.memory_bytes)
    )
