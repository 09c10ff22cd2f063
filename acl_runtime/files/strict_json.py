"""Read JSON as a dataclass: every field is a key, no key is optional, and no other is allowed."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from acl_runtime.files.errors import InputError


def parse_document(
    text: str | bytes, *, kind: str, format_name: str, newest: int, remedy: str
) -> dict[str, Any]:
    """The JSON object of a file of ours, its `format` and `format_version` checked.

    Args:
        text: Of the file.
        kind: What it should be, such as "manifest".
        format_name: The value of its `format`.
        newest: Largest `format_version` that can be read; that it is a number at all is not checked.
        remedy: What the user should do about any other file.

    Raises:
        ValueError: What is wrong, without the file's name.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON ({error}); {remedy}") from error
    if not isinstance(document, dict) or document.get("format") != format_name:
        raise InputError(f'is no {kind} (it lacks "format": "{format_name}"); {remedy}')
    version = document.get("format_version")
    if type(version) is int and version > newest:
        raise InputError(f"is of format version {version}, newer than {newest}; upgrade anomalyclip-deploy")
    return document


def read_document(path: Path, shape: Any, *, kind: str, format_name: str, newest: int, remedy: str) -> Any:
    """A JSON file of ours as the dataclass `shape`; arguments otherwise as in `parse_document`.

    Raises:
        ValueError: What is wrong with the file, and the remedy.
    """
    try:
        document = parse_document(
            path.read_bytes(), kind=kind, format_name=format_name, newest=newest, remedy=remedy
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    try:
        return read_strictly(shape, document, kind)
    except ValueError as error:
        raise InputError(f"{path}: {error}; {remedy}") from error


def read_strictly(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `kind`, or a ValueError that names `where` it is wrong.

    Args:
        kind: A dataclass, a scalar type or Literal, a tuple or dict of any, or a union of scalars, or of any
            of these with None.
        value: What `json.loads` gave. A list becomes a tuple; an integer will do for a float.
        where: Name of the value in messages.
    """
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _read_union(get_args(kind), value, where)
    if is_dataclass(kind):
        return _read_object(kind, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(read_strictly(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: read_strictly(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) in (int, float) and abs(value) < 1e308:  # false for nan and infinity
        return float(value)
    if _is_scalar(kind, value):
        return value
    raise InputError(f"{where} must be {_expected(kind)}, got {json.dumps(value)[:60]}")


def _read_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in options:
        return None
    others = [option for option in options if option is not NoneType]
    if len(others) == 1:
        return read_strictly(others[0], value, where)
    if any(_is_scalar(option, value) for option in others):
        return value
    expected = " or ".join(_expected(option) for option in others)
    raise InputError(f"{where} must be {expected}, got {json.dumps(value)[:60]}")


def _is_scalar(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return value in choices and type(value) in map(type, choices)  # JSON's true is not 1
    return kind in (int, str, bool) and type(value) is kind


def _read_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be an object, got {json.dumps(value)[:60]}")
    names = {field.name for field in fields(kind)}
    if missing := names - value.keys():
        raise InputError(f"{where} lacks the key {min(missing)!r}")
    if unknown := value.keys() - names:
        raise InputError(f"{where} has an unknown key {min(unknown)!r}")
    hints = get_type_hints(kind)
    return kind(
        **{name: read_strictly(hints[name], value[name], f"{where}.{name}") for name in sorted(names)}
    )


def _expected(kind: Any) -> str:
    names = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in get_args(kind))
    if get_origin(kind) is dict:
        return "an object"
    return names.get(kind) or "a list"
