"""Read tables of TOML as frozen dataclasses, strictly: nothing unknown, nothing of another type, nothing guessed."""

from __future__ import annotations

import difflib
import math
import sys
import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from acl_runtime.files.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = TypeVar("Table")
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: 'text in "quotes"',
    bool: "true or false",
    Path: 'a path in "quotes"',
}


def load_toml(path: Path) -> dict[str, Any]:
    """Read a file.

    Raises:
        InputError: It is no TOML; the message says where.
        OSError: It cannot be read.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no TOML ({error}); compare with acl serve --example") from error
    return table


def read_table(kind: type[Table], table: Mapping[str, Any], where: str, *, folder: Path) -> Table:
    """A table as a dataclass.

    Args:
        kind: Its fields are int, float, str, bool, Path, a Literal, tuples and mappings by name of these, or None
            beside one of them; a field without a default must be given.
        table: As TOML has it.
        where: What to call it in messages, such as `station.toml: [camera]`.
        folder: That paths are relative to.

    Raises:
        InputError: A key is unknown or missing, or a value is not what it must be.
    """
    assert is_dataclass(kind)
    known = {field.name: field for field in fields(kind)}
    check_keys(table, known, where)
    missing = [name for name, field in known.items() if name not in table and _must_be_given(field)]
    if missing:
        raise InputError(f"{where} needs {' and '.join(missing)}; acl serve --example shows how")
    hints = get_type_hints(kind)
    given = {name: field.default for name, field in known.items() if isinstance(field.default, Path)}
    table = {**{name: str(default) for name, default in given.items()}, **table}
    values = {name: _read(hints[name], value, f"{where} {name}", folder) for name, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise InputError(f"{where} {error}") from error


def check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise InputError on a key that is not known, with the nearest one that is."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"{where} has no key {key}; {meant}there are {', '.join(known)}")


def check_choice(value: object, known: Collection[str], where: str) -> str:
    """The value; InputError unless it is one of those that are known, with the nearest one."""
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(f"{where} must be one of {', '.join(known)}, got {value!r}{meant}")


def _must_be_given(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _read(kind: Any, value: Any, where: str, folder: Path) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (kind,) = [each for each in inner if each is not type(None)]  # TOML has no None to be given
        return _read(kind, value, where, folder)
    if origin is Literal:
        return check_choice(value, inner, where)
    if origin is tuple:
        return _read_list(inner, value, where, folder)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise InputError(f"{where} must be a table such as {{ NAME = VALUE }}, got {value!r}")
        return {key: _read(inner[1], each, f"{where}.{key}", folder) for key, each in value.items()}
    return _read_plain(kind, value, where, folder)


def _read_list(kinds: tuple[Any, ...], value: Any, where: str, folder: Path) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list in [brackets], got {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise InputError(f"{where} must be a list of {len(kinds)}, got {value!r}")
    return tuple(_read(kind, each, where, folder) for kind, each in zip(kinds, value, strict=True))


def _read_plain(kind: Any, value: Any, where: str, folder: Path) -> Any:
    if kind is object:
        return value
    if kind is float and type(value) is int:
        value = float(value)
    wanted = str if kind is Path else kind
    if type(value) is not wanted or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{where} must be {_WORDS[kind]}, got {value!r}")
    return folder / Path(value).expanduser() if kind is Path else value
