"""The road of a frame through `acl run`: checked once, planned once, and nothing that fails for one frame stops it."""

from __future__ import annotations

import inspect as python
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import pytest
from console import acl
from graphs import drawn_frame, write_tiny_bundle
from parts import draw_parts

from acl_runtime import Detector
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.files.errors import FrameError
from acl_runtime.images.frame import BadFrame
from acl_runtime.inspection.run import inspect
from acl_runtime.outputs.json_lines import JsonLines
from acl_runtime.sources.files import list_sources

ROOMS = str(Path(python.getfile(Detector)).parents[1])
FRAMES = 3


@contextmanager
def counting_calls() -> Iterator[Counter[str]]:
    """Count the calls of the product's functions, in all threads that begin meanwhile."""
    import threading

    calls: Counter[str] = Counter()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOMS):
            calls[code.co_name] += 1

    sys.setprofile(look)
    threading.setprofile(look)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=40, defective=FRAMES)


@pytest.mark.parametrize("tile", ["off", "64"])
def test_a_frame_is_checked_once_and_planned_once(tmp_path: Path, parts: Path, tile: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    assert acl("calibrate", bundle, parts / "good", "--tile", tile).exit_code == 0
    outputs = ["--save-overlays", tmp_path / "overlays", "--save-maps", tmp_path / "maps"]
    with counting_calls() as calls:
        done = acl("run", bundle, parts / "defective", *outputs, "--json", tmp_path / "out.jsonl")
    assert done.exit_code == 0, done.output
    assert calls["watch"] == FRAMES  # drift was looked at
    assert calls["draw_overlay"] == FRAMES
    assert {name: count for name, count in calls.items() if "check_frame" in name} == {"check_frame": FRAMES}
    planned = {
        name: count for name, count in calls.items() if name in ("plan_tiles", "cut_axis", "blend_weights")
    }
    each = FRAMES if tile == "64" else 0
    assert planned == {
        name: count
        for name, count in {"plan_tiles": each, "cut_axis": 2 * each, "blend_weights": 2 * each}.items()
        if count
    }
    assert calls["check_size"] == FRAMES


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), pixels)


def test_a_thin_picture_costs_no_other_frame(tmp_path: Path) -> None:
    bundle, folder = write_tiny_bundle(tmp_path / "bundle"), tmp_path / "in"
    for name, shape in (("a", (30, 40, 3)), ("b", (2, 1 << 18)), ("c", (1 << 18, 2, 3)), ("d", (30, 40))):
        write(folder / f"{name}.png", np.full(shape, 90, np.uint8))
    done = acl("run", bundle, folder, "--save-overlays", tmp_path / "overlays", "--json", "-")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["a.png", "b.png", "c.png", "d.png"]
    assert all("score" in line or line["error"].startswith(line["source"]) for line in lines)
    assert "score" in lines[3]


class Full:
    """An output that fails for one frame in a way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, result: Result) -> None:
        if isinstance(result, Inspected) and result.frame.source.endswith("1.png"):
            raise self._error

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("error", [FrameError("is odd"), MemoryError(), cv2.error("no")])
def test_a_frame_that_an_output_cannot_take_is_a_bad_one_for_those_after_it(
    tmp_path: Path, error: Exception
) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.png", drawn_frame(number))
    detector = Detector(write_tiny_bundle(tmp_path / "bundle"))
    lines = JsonLines(tmp_path / "out.jsonl")
    results = list(inspect(list_sources([tmp_path / "in"]), detector, [Full(error), lines]))
    lines.close()
    assert [isinstance(result, BadFrame) for result in results] == [False, True, False]
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert ["error" in line for line in written] == [False, True, False]
    assert written[1]["error"].startswith(f"{written[1]['source']}: ")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "a.npy"), ZeroDivisionError()])
def test_what_is_no_frames_fault_ends_the_run(tmp_path: Path, error: Exception) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.png", drawn_frame(number))
    detector = Detector(write_tiny_bundle(tmp_path / "bundle"))
    judged: list[Result] = []
    with pytest.raises(type(error)):
        judged.extend(inspect(list_sources([tmp_path / "in"]), detector, [Full(error)]))
    assert len(judged) == 1


def test_a_graph_that_answers_nan_never_passes_a_part(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", broken=True)
    write(tmp_path / "in" / "a.png", drawn_frame())
    done = acl("run", bundle, tmp_path / "in", "--json", "-")
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert "must be finite, got nan" in line["error"]
    assert done.exit_code == 1


@pytest.mark.parametrize("milliseconds", ["inf", "1e300", "nan", "-1"])
def test_a_latency_that_is_none_is_refused(tmp_path: Path, milliseconds: str) -> None:
    write(tmp_path / "a.png", drawn_frame())
    bundle = write_tiny_bundle(tmp_path / "bundle")
    done = acl("run", bundle, tmp_path / "a.png", "--max-latency-ms", milliseconds)
    assert done.exit_code in (1, 2)
    assert "0 frames" not in done.output


def test_text_has_a_header_line_once(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "in" / f"{number}.png", drawn_frame(number))
    done = acl("run", write_tiny_bundle(tmp_path / "bundle"), tmp_path / "in")
    header, *rows, closing = done.stdout.splitlines()
    assert header.split() == ["score", "peak", "margin", "source"]
    assert len(rows) == 2
    assert closing.startswith("2 frames: ")
