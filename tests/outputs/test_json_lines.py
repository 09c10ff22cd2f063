"""JSON lines are JSON, whole, and one process's."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle

from acl_runtime import Detector
from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import InputError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.outputs.json_lines import JsonLines, json_line
from acl_runtime.sources.journal import open_journal

HOLD = """
import sys
from pathlib import Path
from acl_runtime.outputs.json_lines import JsonLines
lines = JsonLines(Path(sys.argv[1]), append=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    frame = Frame("a.png", 0, PurePath("a"), drawn_frame())
    detector = Detector(write_tiny_bundle(tmp_path_factory.mktemp("json") / "bundle"))
    return Inspected(frame, detector(frame.frame))


def test_a_line_holds_what_a_machine_needs(result: Inspected) -> None:
    record = json.loads(json_line(result))
    assert list(record) == [
        *("source", "index", "score", "is_anomalous", "threshold", "regions", "latency_ms"),
        *("peak", "peak_threshold", "margin", "decided_by", "unusual"),
    ]
    assert record["decided_by"] == ("score" if record["score"] >= 0.5 else None)
    assert all(re.fullmatch(r"\d+(\.\d{1,3})?", str(ms)) for ms in record["latency_ms"].values())


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_json_number_is_never_written(result: Inspected, wrong: float) -> None:
    spoiled = Inspected(result.frame, replace(result.verdict, margin=wrong))
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line(spoiled)


def test_a_full_disk_leaves_whole_lines_and_is_told_with_the_path(tmp_path: Path, result: Inspected) -> None:
    path = tmp_path / "out.jsonl"
    lines, limits = JsonLines(path), resource.getrlimit(resource.RLIMIT_FSIZE)
    lines(result)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))  # the next fits in part
    try:
        with pytest.raises(OSError, match=f"{path}"):
            lines(result)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    lines(BadFrame("b.png", 0, "is odd"))
    lines.close()
    assert [json.loads(line)["source"] for line in path.read_text().splitlines()] == ["a.png", "b.png"]


def test_a_file_that_another_process_writes_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"source": "old"}\n')
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        path.write_text('{"source": "of the other"}\n')
        with pytest.raises(InputError, match=r"out\.jsonl: is in use by process .*; wait until it has ended"):
            JsonLines(path)
        assert path.read_text() == '{"source": "of the other"}\n'
        process.communicate("")
    JsonLines(path, append=True).close()


def test_results_of_an_earlier_run_stay_unless_more_are_to_be_added(
    tmp_path: Path, result: Inspected
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"source": "yesterday"}\n')
    with pytest.raises(InputError, match=r"out\.jsonl: holds the results of an earlier run; pass --append"):
        JsonLines(path)
    lines = JsonLines(path, append=True)
    lines(result)
    lines.close()
    assert [json.loads(line)["source"] for line in path.read_text().splitlines()] == ["yesterday", "a.png"]


@pytest.mark.parametrize("lines", [b"", b'{"source": "a.png", "size": 1, "mtime_ns": 2}\n'])
def test_the_journal_of_a_watch_is_refused_even_before_its_first_line(tmp_path: Path, lines: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines)
    with open_journal(path), pytest.raises(InputError, match=r"out\.jsonl: (is in use by|remembers what)"):
        JsonLines(path)
    assert path.read_bytes() == lines


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_lines_may_go_to_something_that_is_no_file(result: Inspected) -> None:
    lines = JsonLines(Path(os.devnull))
    lines(result)
    lines.close()
    assert np.isfinite(result.verdict.score)
