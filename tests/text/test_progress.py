"""Progress, on a terminal and in a log."""

from __future__ import annotations

import io
import sys
import time

import pytest

from acl_runtime.text.progress import progress_rate


def test_a_log_says_rate_and_time_left_but_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress_rate("judging", total=1000, done=500) as advance:
        for _ in range(130):
            now[0] += 1
            advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "judging: 622 of 1000, 2.0/s, 0:03:09 left",
        "judging: 744 of 1000, 2.0/s, 0:02:08 left",
    ]


def test_work_in_vain_is_taken_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress_rate("judging", total=100, done=0) as advance:
        advance(50)
        now[0] += 100
        advance(-40)
    assert capsys.readouterr().err == "judging: 10 of 100, 0.1/s, 0:15:00 left\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_with_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with progress_rate("judging", total=100, done=10) as advance:
        advance(20)
    assert "30/100" in terminal.getvalue()
    assert "/s, 0:00:0" in terminal.getvalue()
