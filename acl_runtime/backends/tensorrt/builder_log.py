"""What TensorRT says while it builds, and what can be learned from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from acl_runtime.backends.tensorrt.build import SMALLER, BuildError
from acl_runtime.bundle.manifest import Tensor

_LAYERS = "Engine Layer Information:"
_TENSOR = re.compile(r"(\w+) \((\w+)\[([-\d,]*)\]\)")  # images (UInt8[1,224,224,3])
_DTYPES = {"UInt8": "uint8", "Float": "float32", "Half": "float16", "Int32": "int32", "Int64": "int64"}
_MEMORY = re.compile(
    r"out ?of ?memory|requested amount of gpu memory|insufficient (gpu )?memory", re.IGNORECASE
)
_MATTERS = re.compile(  # in a warning
    r"memory|overflow|subnormal|accuracy|timing cache|different model|not recommended", re.IGNORECASE
)


class BuilderLog:
    """Writes what is said, and keeps what the report needs."""

    def __init__(self, file: TextIO) -> None:
        """Write to `file`, all but the details."""
        self._file = file
        self._details: list[str] = []
        self._information: list[str] = []
        self._errors: list[str] = []
        self.warnings: list[str] = []

    def add(self, severity: str, message: str) -> None:
        """Take in a message; the severity by its name in TensorRT, such as "VERBOSE"."""
        if severity == "VERBOSE":
            if message.startswith(_LAYERS):
                self._details.append(message)
            return
        print(f"{severity}: {message}", file=self._file, flush=True)
        if severity == "INFO":
            self._information.append(message)
        elif severity == "WARNING":
            if _MATTERS.search(message) and (line := _first_line(message)) not in self.warnings:
                self.warnings.append(line)
        else:
            self._errors.append(_first_line(message))

    @property
    def last_error(self) -> str:
        """The library's own words."""
        return self._errors[-1] if self._errors else "it does not say why"

    def bytes_of(self, name: str) -> int | None:
        """The last figure of the form "NAME: 123 bytes"."""
        pattern = re.compile(re.escape(name) + r": (\d+) bytes")
        found = [int(match[1]) for text in self._information if (match := pattern.search(text))]
        return found[-1] if found else None

    def explain_failure(self, library: str) -> str:
        """Why there is no engine, in a sentence with the remedy."""
        for error in self._errors:
            if _MEMORY.search(error):
                return f"{library} ran out of memory while building ({error}): {SMALLER}"
        return f"{library} cannot build the graph ({self.last_error})"

    def tensors(self, names: Sequence[str], *, is_dynamic: bool) -> tuple[Tensor, ...]:
        """Tensors of the engine as its list of layers shows them.

        Raises:
            BuildError: The list does not show one of them.
        """
        found = {match[1]: match for text in self._details[-1:] for match in _TENSOR.finditer(text)}
        if missing := [name for name in names if name not in found]:
            raise BuildError(f"the engine built has no {', '.join(missing)}; please report this with its log")
        return tuple(_tensor(found[name], is_dynamic=is_dynamic) for name in names)


def make_logger(trt: Any, add: Callable[[str, str], None]) -> Any:
    """A logger of TensorRT that calls `add` with severity and message."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def log(self, severity: Any, message: str) -> None:
            add(severity.name, message)

    return Logger()


def _tensor(match: re.Match[str], *, is_dynamic: bool) -> Tensor:
    shape = [int(size) for size in match[3].split(",") if size]
    batch: int | str = "batch" if is_dynamic else shape[0]
    return Tensor(match[1], (batch, *shape[1:]), _DTYPES.get(match[2], match[2].lower()))


def _first_line(message: str) -> str:
    return message.strip().split("\n", maxsplit=1)[0]
