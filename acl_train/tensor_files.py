"""Files of tensors in the formats that CLIP is published in, read without running anything in them."""

from __future__ import annotations

import errno
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from acl_runtime.files.errors import InputError
from acl_train.pickles import Module, PickleError, PickleReader, Storage, View

TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of what torch.save wrote before version 1.6
MOST_PICKLE_BYTES = 64_000_000
MOST_CODE_BYTES = 1_000_000
MOST_NAMES = 100_000
MOST_DEPTH = 50
PARAMETERS = r"^class {}\(Module\):\n  __parameters__ = \[(.*)\]\n  __buffers__ = \[(.*)\]$"


def read_state(path: Path, *, inside: str | None = None) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, of what `torch.save` wrote, or of a TorchScript archive such as OpenAI's.

    The pickles in them are read by `PickleReader`, which can only make plain data; TorchScript's code is never
    compiled or run. What is no tensor is left out.

    Args:
        path: The file.
        inside: Read the dictionary under this key, nothing if there is none; None for the file's own, or the one
            under `state_dict`, where open_clip's training checkpoints have it.

    Raises:
        InputError: If the file is none of these, is damaged, or wants to run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path, inside)
        with open(path, "rb") as file:
            return _read_pickled(path, file, inside)
    except PickleError as error:
        raise InputError(
            f"{path}: not a plain file of tensors (its pickle asks to run code, or is damaged: it {error}); "
            "refused; save a state dict anew with torch.save(model.state_dict(), FILE)"
        ) from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error, ValueError, OSError) as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise  # zipfile seeks to where a damaged directory says, which may be before the file
        raise InputError(f"{path}: damaged or not a file of tensors ({_first_line(error)})") from error


def _read_safetensors(path: Path, inside: str | None) -> dict[str, Tensor]:
    try:
        return load_file(path) if inside is None else {}
    except (SafetensorError, RuntimeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: damaged or not a file of tensors ({_first_line(error)})") from error


def _read_pickled(path: Path, file: BinaryIO, inside: str | None) -> dict[str, Tensor]:
    with _open_records(file) as records:
        found = records.load()
        if isinstance(found, Module):
            found = _module_state(found, records)
        if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
            found = found["state_dict"]
        if not isinstance(found, dict) or not found:
            raise InputError(f"{path}: must hold a dictionary of tensors, got {type(found).__name__}")
        if inside is not None:
            found = found.get(inside)
            found = found if isinstance(found, dict) else {}
        views = {name: view for name, view in found.items() if isinstance(view, View)}
        if odd := [name for name in views if not isinstance(name, str)]:
            raise InputError(f"{path}: names of tensors must be texts, got {odd[0]!r}")
        if inside is None and not views:
            names = ", ".join(str(name)[:40] for name in list(found)[:3])
            raise InputError(f"{path}: must hold a dictionary of tensors, got one of {names}")
        _check_claims(path, views)
        storages = {view.storage for view in views.values()}
        values = {storage: _values(records, storage) for storage in storages}
        return _without_module({name: _tensor(values[view.storage], view) for name, view in views.items()})


def _without_module(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as they were before the model was wrapped for several GPUs."""
    if not all(name.startswith("module.") for name in tensors):
        return tensors
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _check_claims(path: Path, views: dict[str, View]) -> None:
    """Raise InputError where many names share few bytes, as no file of weights does, so that memory is bounded."""
    stored = sum(_bytes(storage) for storage in {view.storage for view in views.values()})
    claimed = max(stored, sum(view.values * _dtype(view.storage).itemsize for view in views.values()) // 2)
    if claimed > path.stat().st_size:
        raise InputError(f"{path}: its tensors claim {claimed:,} bytes, more than the file has; refused")


def _dtype(storage: Storage) -> torch.dtype:
    if storage.kind not in TYPES:
        raise PickleError(f"holds values of a kind that is not known, {storage.kind[:80]}")
    return TYPES[storage.kind]


def _bytes(storage: Storage) -> int:
    return storage.values * _dtype(storage).itemsize


class Records(Protocol):
    """What lies in a file of tensors."""

    def load(self) -> Any:
        """The object that was saved; its tensors are `View`s."""

    def bytes_of(self, storage: Storage, count: int) -> bytearray:
        """The first `count` bytes of a storage."""

    def code(self, module: Module) -> str:
        """TorchScript's code of a module's class; empty where there is none."""


@contextmanager
def _open_records(file: BinaryIO) -> Iterator[Records]:
    is_zip = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not is_zip:
        yield _LegacyRecords(file)
        return
    with zipfile.ZipFile(file) as archive:
        yield _ZipRecords(archive)


class _ZipRecords:
    """An archive of torch.save since version 1.6, or of torch.jit.save, which compresses its code alone."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        roots = [name[: -len("data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise zipfile.BadZipFile(f"a zip file with {len(roots)} data.pkl in it, not one")
        self._root = roots[0]

    def load(self) -> Any:
        if self._has("byteorder") and self._read("byteorder", 100) != b"little":
            raise zipfile.BadZipFile("its numbers are big-endian")
        with self._open("data.pkl", MOST_PICKLE_BYTES) as stream:
            return PickleReader().read(stream)

    def bytes_of(self, storage: Storage, count: int) -> bytearray:
        name = f"data/{storage.key}"
        if not self._has(name):
            raise zipfile.BadZipFile(f"{name[:80]} is missing")
        with self._open(name, None) as stream:
            return _read_exactly(stream, count)

    def code(self, module: Module) -> str:
        name = f"code/{module.name.rpartition('.')[0].replace('.', '/')}.py"
        return self._read(name, MOST_CODE_BYTES).decode("utf-8", "replace") if self._has(name) else ""

    def _has(self, name: str) -> bool:
        return self._root + name in self._archive.NameToInfo

    def _open(self, name: str, most: int | None) -> Any:
        info = self._archive.getinfo(self._root + name)
        kinds = (zipfile.ZIP_STORED, *([zipfile.ZIP_DEFLATED] if name.startswith("code/") else []))
        if info.compress_type not in kinds or info.flag_bits & 1:
            raise zipfile.BadZipFile(f"{name[:80]} is compressed or encrypted, which torch never does")
        if most is not None and info.file_size > most:
            raise zipfile.BadZipFile(f"{name[:80]} has {info.file_size:,} bytes")
        return self._archive.open(info)

    def _read(self, name: str, most: int) -> bytes:
        with self._open(name, most) as stream:
            return stream.read(most)  # type: ignore[no-any-return]  # without a number a bomb unfolds in memory


class _LegacyRecords:
    """What torch.save wrote before version 1.6: five pickles, then for each storage its count and its values."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._starts: dict[str, int] = {}

    def load(self) -> Any:
        reader = PickleReader()
        if reader.read(self._file) != LEGACY_MAGIC:
            raise zipfile.BadZipFile("it does not begin as what torch.save writes")
        reader.read(self._file)  # the protocol's version
        reader.read(self._file)  # the machine's sizes
        found, keys = reader.read(self._file), reader.read(self._file)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise zipfile.BadZipFile("it has no list of storages")
        self._find(keys, reader.storages)
        return found

    def bytes_of(self, storage: Storage, count: int) -> bytearray:
        if storage.key not in self._starts:
            raise zipfile.BadZipFile(f"storage {storage.key[:80]} is missing")
        self._file.seek(self._starts[storage.key])
        return _read_exactly(self._file, count)

    def code(self, module: Module) -> str:
        return ""

    def _find(self, keys: list[str], storages: dict[str, Storage]) -> None:
        for key in keys:
            (values,) = struct.unpack("<q", self._file.read(8))
            if key not in storages or values != storages[key].values:
                raise zipfile.BadZipFile(f"storage {key[:80]} has {values} values, not as its pickle says")
            self._starts[key] = self._file.tell()
            self._file.seek(_bytes(storages[key]), 1)


def _read_exactly(stream: Any, count: int) -> bytearray:
    """So many bytes; memory grows with what is really there, whatever is claimed."""
    data = bytearray()
    while len(data) < count and (block := stream.read(min(count - len(data), 1 << 24))):
        data += block
    if len(data) < count:
        raise EOFError(f"a storage has {len(data)} bytes, not {count}")
    return data


def _values(records: Records, storage: Storage) -> Tensor:
    if not storage.values:
        return torch.empty(0, dtype=_dtype(storage))
    return torch.frombuffer(records.bytes_of(storage, _bytes(storage)), dtype=_dtype(storage))


def _tensor(values: Tensor, view: View) -> Tensor:
    return values.as_strided(view.shape, view.strides, view.offset)


def _module_state(root: Module, records: Records) -> dict[str, View]:
    """What the archive's `state_dict` would be: parameters and buffers, by the names on the way to them."""
    state: dict[str, View] = {}
    declared: dict[str, set[str] | None] = {}
    waiting = [("", root, 0)]
    for visited in range(MOST_NAMES):
        if not waiting:
            return state
        prefix, module, depth = waiting.pop()
        if module.name not in declared:
            declared[module.name] = _declared(records.code(module), module.name.rpartition(".")[2])
        names = declared[module.name]
        for name, value in module.attributes.items():
            if isinstance(value, Module):
                waiting.append((f"{prefix}{name[:200]}.", value, depth + 1))
            elif isinstance(value, View) and (names is None or name in names):
                state[prefix + name] = value
        if depth > MOST_DEPTH or visited + len(waiting) > MOST_NAMES:
            break
    raise PickleError("has modules without end")


def _declared(code: str, name: str) -> set[str] | None:
    """The parameters and buffers that TorchScript's code, read as text, declares for a class; None if it does not."""
    found = re.search(PARAMETERS.format(re.escape(name)), code, re.MULTILINE)
    return None if found is None else set(re.findall(r'"([^"]*)"', f"{found[1]} {found[2]}"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
