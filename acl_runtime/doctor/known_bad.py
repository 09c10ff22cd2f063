"""TensorRT versions that are known to compute something else, or to fail: the rows of `known_bad.json`.

To add one, append an object to `faults`; its keys are the fields of `KnownFault`.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from packaging.version import Version

from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_document

TABLE = Path(__file__).with_name("known_bad.json")
_COMPARISONS = {
    "==": operator.eq,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, kw_only=True)
class KnownFault:
    """A row of the table."""

    library: Literal["tensorrt", "tensorrt-rtx"]
    versions: str  # comparisons joined by commas, see `is_within`
    compute_capabilities: tuple[str, ...] | None  # of the GPUs that it befalls, such as "8.9"; null: all
    symptom: str  # as the end of "TensorRT 10.3 ..."
    remedy: str
    source: str  # where it is told

    @property
    def sentence(self) -> str:
        """What is known, without the remedy."""
        return f"{self.library} {self.versions.removeprefix('==')} {self.symptom} ({self.source})"

    def __str__(self) -> str:
        return f"{self.sentence}: {self.remedy}"


@dataclass(frozen=True)
class Table:
    """The file, version 1 of its format: a field is a key, none is optional."""

    format: Literal["anomalyclip-known-bad"]
    format_version: Literal[1]
    faults: tuple[KnownFault, ...]


def known_faults(library: str, version: str, compute_capability: str | None) -> tuple[KnownFault, ...]:
    """What is known to be wrong.

    Args:
        library: "tensorrt" or "tensorrt-rtx".
        version: Of it, such as "10.3.0.26".
        compute_capability: Of the GPU, such as "8.7"; None where it is not known, and then what befalls any GPU.
    """
    return tuple(
        fault
        for fault in read_table(TABLE)
        if fault.library == library
        and is_within(version, fault.versions)
        and (fault.compute_capabilities is None or compute_capability in fault.compute_capabilities)
    )


@cache
def read_table(path: Path) -> tuple[KnownFault, ...]:
    """The rows of a table.

    Raises:
        InputError: What is wrong with the file.
    """
    table: Table = read_document(
        path,
        Table,
        kind="table of known faults",
        format_name="anomalyclip-known-bad",
        newest=1,
        remedy="install the software again",
    )
    for fault in table.faults:
        is_within("0", fault.versions)  # refuses what is no range
    return table.faults


def is_within(version: str, versions: str) -> bool:
    """Whether a version satisfies all comparisons, such as ">=10.10,<=10.16.1".

    Numbers are compared only as far as the bound has them, unlike those of `packaging.specifiers`: 10.16.1.11 is
    == 10.16.1, and <= it.

    Raises:
        InputError: A comparison is none.
    """
    here, holds = Version(version).release, True
    for comparison in versions.split(","):
        match = re.fullmatch(r"(==|<=|>=|<|>)(\d+(?:\.\d+)*)", comparison.strip())
        if match is None:
            raise InputError(f"versions must be comparisons such as >=10.3,<10.8, got {versions}")
        bound = Version(match[2]).release
        compared = (here + (0,) * len(bound))[: len(bound)]
        holds = holds and _COMPARISONS[match[1]](compared, bound)
    return holds
