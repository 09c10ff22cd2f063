"""The pickle in a file of tensors, read as plain data: nothing in it is looked up, called or imported."""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, cast

MOST_OPERATIONS = 1_000_000  # a thousand tensors take some thirty thousand
MOST_DIMENSIONS = 16
MOST_TEXT_BYTES = 1_000_000  # of one text; reading sets aside the memory that a file claims to need


class PickleError(Exception):
    """The pickle asks for what is not listed here, or is damaged; the message is half a sentence."""


@dataclass(frozen=True)
class Storage:
    """A run of values elsewhere in the file."""

    kind: str  # torch's name for the type, such as "HalfStorage"
    key: str
    values: int


@dataclass(frozen=True)
class View:
    """A tensor: where its values lie in a storage, all of them inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def values(self) -> int:
        """How many it has."""
        return math.prod(self.shape)


@dataclass(eq=False)
class Module:
    """An object of a TorchScript archive: the name of its class, which is never looked up, and its attributes."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Global:
    name: str  # module and name, with a dot between them


class _Bounded:
    """A stream that pickletools reads from, which trusts the lengths that it finds there."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, count: int) -> bytes:
        if count > MOST_TEXT_BYTES:
            raise PickleError(f"has a text of {count:,} bytes")
        return self._stream.read(count)

    def readline(self) -> bytes:
        return self._stream.readline(MOST_TEXT_BYTES)

    def tell(self) -> int:
        return self._stream.tell()


class PickleReader:
    """Reads pickles as torch and TorchScript write them (protocol 2).

    An interpreter of the thirty operations that they use. Its objects are None, bool, int, float, str, tuple, list,
    dict, `View` and `Module`; the few functions that such files call are those of `_CALLS`, written here.

    Attributes:
        storages: What the pickles so far refer to, by key.
    """

    def __init__(self) -> None:
        """Read nothing yet."""
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self, stream: BinaryIO) -> Any:
        """One pickle, up to its end.

        Raises:
            PickleError: It has another operation, calls another function, or is damaged.
        """
        self._stack, self._marks, self._memo = [], [], {}
        try:
            return self._run(stream)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise PickleError(f"is damaged, {type(error).__name__}") from error

    def _run(self, stream: BinaryIO) -> Any:
        bounded = _Bounded(stream)
        with warnings.catch_warnings():  # of escapes in texts, which are none of the user's
            warnings.simplefilter("ignore", DeprecationWarning)
            for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], bounded))):
                if count > MOST_OPERATIONS:
                    raise PickleError("has too many operations")
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        raise PickleError("is cut short")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _ARGUMENTS:
            self._stack.append(argument)
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name != "PROTO":
            raise PickleError(f"uses the operation {name}")

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise PickleError("is damaged, its stack is empty")
        popped = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return popped

    def _pop_to_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise PickleError("appends to what is no list")
        self._stack[-1].extend(values)

    def _set_item(self, _: Any) -> None:
        self._update(self._pop(2))

    def _set_items(self, _: Any) -> None:
        self._update(self._pop_to_mark())

    def _update(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict) or len(values) % 2:
            raise PickleError("sets items of what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(
                key, (str, int, float)
            ):  # a deep tuple would overflow the stack when it is hashed
                raise PickleError(f"has a key that is a {type(key).__name__}")
            self._stack[-1][key] = value

    def _global(self, argument: str) -> None:
        self._stack.append(_Global(argument.replace(" ", ".")))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, _Global) or function.name not in _CALLS:
            raise PickleError(f"calls {getattr(function, 'name', type(function).__name__)[:80]}")
        if not isinstance(arguments, tuple):
            raise PickleError("is damaged, a call without arguments")
        self._stack.append(_CALLS[function.name](*arguments))

    def _new_object(self, _: Any) -> None:
        kind, arguments = self._pop(2)
        if not isinstance(kind, _Global) or not kind.name.startswith("__torch__.") or arguments != ():
            raise PickleError(f"makes a {getattr(kind, 'name', type(kind).__name__)[:80]}")
        self._stack.append(Module(kind.name))

    def _build(self, _: Any) -> None:
        """Give an object its attributes; those of a dictionary (a state dict's versions) are of no use here."""
        (state,) = self._pop(1)
        target = self._stack[-1]
        if not isinstance(state, dict) or not isinstance(target, (dict, Module)):
            raise PickleError(f"sets the state of a {getattr(target, 'name', type(target).__name__)[:80]}")
        if isinstance(target, Module):
            target.attributes.update({str(name): value for name, value in state.items()})

    def _persistent(self, _: Any) -> None:
        """A storage: ("storage", type, key, device, values), and None where a view of another one could be named."""
        (identity,) = self._pop(1)
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise PickleError("refers to something that is no storage")
        _, kind, key, _, values, *view = identity
        if not isinstance(kind, _Global) or not isinstance(key, str) or not _is_size(values) or any(view):
            raise PickleError("describes a storage in a way that is not known")
        storage = Storage(kind.name.removeprefix("torch.").removeprefix("cuda."), key, values)
        if self.storages.setdefault(key, storage) != storage:
            raise PickleError(f"describes the storage {key[:80]} twice")
        self._stack.append(storage)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> View:
    """In place of `torch._utils._rebuild_tensor_v2`; what lies outside the storage, or repeats it, is refused."""
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(map(_is_size, sizes)) or len(shape) != len(strides):
        raise PickleError("describes a tensor in a way that is not known")
    if len(shape) > MOST_DIMENSIONS:
        raise PickleError(f"describes a tensor of {len(shape)} dimensions")
    view = View(storage, offset, tuple(shape), tuple(strides))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if view.values > storage.values or (view.values and last >= storage.values):
        raise PickleError("describes a tensor that is larger than its storage")
    return view


def _first(value: Any, *_: Any) -> Any:
    return value


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "BINSTRING",
    "SHORT_BINSTRING",
}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OPERATIONS: dict[str, Callable[[PickleReader, Any], None]] = {
    "MARK": PickleReader._mark,
    "TUPLE": PickleReader._tuple,
    "APPEND": PickleReader._append,
    "APPENDS": PickleReader._appends,
    "SETITEM": PickleReader._set_item,
    "SETITEMS": PickleReader._set_items,
    "GLOBAL": PickleReader._global,
    "REDUCE": PickleReader._reduce,
    "NEWOBJ": PickleReader._new_object,
    "BUILD": PickleReader._build,
    "BINPERSID": PickleReader._persistent,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_parameter": _first,  # of a tensor and whether it is learned
    "collections.OrderedDict": dict,
    "torch.Size": _first,
    "torch.device": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,  # of a value and the name of its type
}
