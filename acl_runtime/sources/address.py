"""What a user writes to name a camera: `SCHEME:NAME?KEY=VALUE&KEY=VALUE`, read strictly."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from acl_runtime.files.errors import InputError

Setting = tuple[str, str]  # name and value
Options = TypeVar("Options")


@dataclass(frozen=True)
class Address:
    """A camera's text, taken apart.

    Attributes:
        text: As the user wrote it.
        scheme: Before the first colon, such as `aravis`.
        name: Between that and the first question mark; may be empty.
        pairs: What follows, in the order of the text.
    """

    text: str
    scheme: str
    name: str
    pairs: tuple[Setting, ...]


def parse_address(text: str) -> Address:
    """Take a camera's text apart.

    Raises:
        InputError: What follows the question mark is no list of KEY=VALUE, or a key comes twice.
    """
    scheme, _, rest = text.partition(":")
    name, _, query = rest.partition("?")
    pairs: list[Setting] = []
    for part in query.split("&") if query else []:
        key, separator, value = part.partition("=")
        if not (key and separator and value):
            raise InputError(f"{text}: what follows ? must be KEY=VALUE&KEY=VALUE, got {part!r}")
        pairs.append((key, value))
    return Address(text, scheme, name, tuple(pairs))


def read_options(kind: type[Options], pairs: Collection[Setting], text: str) -> Options:
    """Read keys and values as a dataclass of int, float and str fields.

    Args:
        kind: A dataclass; a key that is left out keeps the field's default.
        pairs: As of an `Address`.
        text: What the user wrote, for messages.

    Raises:
        InputError: A key is unknown or comes twice, or a value is no number where one is wanted.
    """
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.default is not MISSING]
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key not in known:
            raise InputError(
                f"{text}: has no option {key}{suggest(key, known)}; there are {', '.join(known)}"
            )
        if key in values:
            raise InputError(f"{text}: gives {key} twice; give it once")
        values[key] = _read_value(hints[key], key, value, text)
    return kind(**values)


def hide_password(text: str) -> str:
    """The text of a camera, without the password that an address of the net may hold."""
    return re.sub(r"(://[^/:@]*):[^/@]*@", r"\1:***@", text)


def suggest(name: str, known: Collection[str]) -> str:
    """` (did you mean X?)` where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def check_range(text: str, values: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise InputError unless the named fields of `values` lie in their ranges, both ends included."""
    for name, (least, most) in ranges.items():
        value = getattr(values, name)
        if not least <= value <= most:
            bounds = f"{least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
            raise InputError(f"{text}: {name} must be {bounds}, got {value}")


def _read_value(kind: Any, key: str, value: str, text: str) -> int | float | str:
    try:
        if kind is int:
            return int(value)
        if kind is float:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
            return number
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{text}: {key} must be {wanted}, got {value}") from error
    return value
