"""The outputs that a station's file may name, each in a module of its own that is imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from acl_runtime.files.errors import InputError
from acl_runtime.files.toml_table import check_choice, read_table
from acl_runtime.outputs.station import StationControl, StationOutput

KINDS = {
    "modbus-server": "acl_runtime.outputs.plc.modbus_server",
    "modbus-client": "acl_runtime.outputs.plc.modbus_client",
    "mqtt": "acl_runtime.outputs.mqtt",
    "opcua": "acl_runtime.outputs.plc.opcua",
    "s7": "acl_runtime.outputs.plc.s7",
    "webhook": "acl_runtime.outputs.webhook",
    "json-lines": "acl_runtime.outputs.station_lines",
    "folder": "acl_runtime.outputs.station_folder",
    "evidence": "acl_runtime.outputs.evidence.store",
    "page": "acl_runtime.outputs.page.live_page",
}
"""A module has a frozen dataclass `Options`, the keys beside `kind` and `name`, and a function
`open_output(options, control, name) -> StationOutput`."""


@dataclass(frozen=True, kw_only=True)
class OutputEntry:
    """`[[output]]`.

    Attributes:
        name: Of the output; by default its kind.
        kind: One of `KINDS`.
        options: Of that kind.
    """

    name: str
    kind: str
    options: object


def read_outputs(tables: Sequence[Mapping[str, Any]], where: str, *, folder: Path) -> tuple[OutputEntry, ...]:
    """The outputs of a file.

    Raises:
        InputError: A kind is unknown, what it needs is not installed, or a value is not what it must be.
    """
    return tuple(_read_output(table, where, folder) for table in tables)


def open_output(entry: OutputEntry, control: StationControl) -> StationOutput:
    """Open an output; what cannot be opened at all is a UserError, a peer that is away is not."""
    module = import_module(KINDS[entry.kind])
    return cast("StationOutput", module.open_output(entry.options, control, entry.name))


def _read_output(table: Mapping[str, Any], where: str, folder: Path) -> OutputEntry:
    if "kind" not in table:
        raise InputError(f"{where} needs a kind; there are {', '.join(KINDS)}")
    kind = check_choice(table["kind"], KINDS, f"{where} kind")
    name = table.get("name", kind)
    if not (isinstance(name, str) and name):
        raise InputError(f"{where} name must be text, got {name!r}")
    rest = {key: value for key, value in table.items() if key not in ("kind", "name")}
    options = read_table(import_module(KINDS[kind]).Options, rest, f"{where} {name}", folder=folder)
    return OutputEntry(name=name, kind=kind, options=options)
