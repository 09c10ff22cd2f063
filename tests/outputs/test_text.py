"""A line for a person says what was found, and a file's name cannot say it instead."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
import pytest

from acl_runtime.detection.verdict import Inspected, Verdict
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.outputs.text import HEADER, Tally, text_line


def inspected(source: str, *, is_anomalous: bool = False, margin: float = -2.5) -> Inspected:
    verdict = Verdict(
        score=0.25,
        peak=0.125,
        is_anomalous=is_anomalous,
        margin=margin,
        threshold=0.5,
        peak_threshold=None,
        regions=(),
        anomaly_map=np.zeros((2, 2), np.float32),
        latency_ms={},
    )
    return Inspected(Frame(source, 0, PurePath("a"), np.zeros((2, 2), np.uint8)), verdict)


def test_columns_stand_below_their_names() -> None:
    line = text_line(inspected("a.png"))
    assert line == "OK  0.250  0.125  -2.50  a.png"
    for name, value in (("score", "0.250"), ("peak", "0.125"), ("margin", "-2.50"), ("source", "a.png")):
        assert HEADER.index(name) == line.index(value), name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("z\rOK  0.001", r"z\rOK  0.001"),
        ("\x1b[2J.png", r"\x1b[2J.png"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nOK  0.000  0.000  -9.00  b.png", r"a\nOK  0.000  0.000  -9.00  b.png"),
        ("\u202egnp.KO", r"\u202egnp.KO"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("\udcff.png", r"\udcff.png"),
        ("Größe 部品.png", "Größe 部品.png"),
    ],
)
def test_a_name_cannot_forge_a_line(name: str, shown: str) -> None:
    assert text_line(inspected(name)).endswith(f"  {shown}")
    assert text_line(BadFrame(name, 0, f"{name}: is odd")) == f"??  -----  -----  -----  {shown}: is odd"


def test_a_tally_counts_what_was_found(tmp_path: Path) -> None:
    tally = Tally()
    for result in (
        inspected("a"),
        inspected("b", is_anomalous=True),
        BadFrame("c", 0, "is odd"),
        inspected("d"),
    ):
        tally(result)
    assert tally.text(2.0) == "3 frames: 1 NG, 2 OK, 1 unreadable; 1.50 frames per second"
    assert [tally.exit_code(fail_on_defect=fail) for fail in (False, True)] == [1, 3]
