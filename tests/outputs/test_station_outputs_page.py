"""docs/station_outputs.md says of the outputs what the code says."""

from __future__ import annotations

import re
import time
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from acl_runtime.inspection.station.outputs import KINDS
from acl_runtime.outputs.plc import register_map

PAGE = (Path(__file__).parents[2] / "docs" / "station_outputs.md").read_text(encoding="utf-8")


def options_of(kind: str) -> Any:
    """The class of a kind's options."""
    return import_module(KINDS[kind]).Options


def options_table(options: Any) -> str:
    """The options for the page, with the words of the docstring."""
    text = options.__doc__.partition("Attributes:\n")[2]
    meanings = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^ {8}(\w+): (.+\n(?: {12}.+\n)*)", text, re.MULTILINE)
    }
    rows = ["| key | meaning | default |", "| --- | --- | --- |"]
    for each in fields(options):
        default = "must be given" if each.default is MISSING else _as_toml(each.default)
        rows.append(f"| {each.name} | {meanings[each.name]} | {default} |")
    return "\n".join(rows)


def _as_toml(value: object) -> str:
    if value is None:
        return ""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_every_option_with_its_default(kind: str) -> None:
    table = options_table(options_of(kind))
    assert table in PAGE, f"put this into docs/station_outputs.md:\n{table}"


def test_the_page_has_the_map_of_registers_and_bits() -> None:
    for registers in (register_map.CONTROL, register_map.STATUS):
        table = register_map.markdown_table(registers)
        assert table in PAGE, f"put this into docs/station_outputs.md:\n{table}"
    for bits in (register_map.CONTROL_BITS, register_map.STATUS_BITS):
        table = register_map.markdown_bits(bits)
        assert table in PAGE, f"put this into docs/station_outputs.md:\n{table}"


def test_the_examples_of_the_page_are_options() -> None:
    tomllib = pytest.importorskip("tomllib", reason="tomllib is in Python from 3.11 on")
    examples = "\n".join(re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL))
    outputs = tomllib.loads(examples)["output"]
    assert {output["kind"] for output in outputs} == set(KINDS)
    for output in outputs:
        kind = options_of(output["kind"])
        types = {each.name: each.type for each in fields(kind)}
        given = {key: value for key, value in output.items() if key not in ("kind", "name")}
        kind(**{key: Path(value) if "Path" in types[key] else value for key, value in given.items()})


def test_the_check_of_the_signature_on_the_page_takes_ours_and_no_other() -> None:
    from acl_runtime.outputs.webhook import sign

    (code,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    page: dict[str, Any] = {}
    exec(code, page)
    now, body = int(time.time()), b'{"number": 1}'
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(b"key", "a", now, body),
    }
    assert page["is_ours"](b"key", headers, body)
    assert not page["is_ours"](b"other", headers, body)
    assert not page["is_ours"](b"key", headers, body + b" ")
    assert not page["is_ours"](b"key", {**headers, "webhook-id": "b"}, body)
    old = {
        **headers,
        "webhook-timestamp": str(now - 900),
        "webhook-signature": sign(b"key", "a", now - 900, body),
    }
    assert not page["is_ours"](b"key", old, body)
