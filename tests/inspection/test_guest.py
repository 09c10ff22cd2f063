"""A picture that is no part goes through the station's engine, and never before a part."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from stations import load, wait_until
from test_service import CAMERA, Box, last_number

from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import BackendError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.inspection.station.guest import Guests
from acl_runtime.outputs.station import BusyError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("guest") / "bundle")


@pytest.fixture
def box() -> Box:
    made = Box()
    made.hold.set()
    return made


def posted(side: int = 60) -> Frame:
    return Frame("posted", 0, PurePath("posted"), drawn_frame(3)[:side, :side])


def test_it_is_judged_as_a_part_would_be_and_is_none(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        result = station.inspect(posted())
        assert isinstance(result, Inspected)
        assert result.verdict.score == pytest.approx(station.engine.detector(posted()).score, abs=1e-6)
        box.cameras["top"].push()
        wait_until(lambda: box.output.parts, "the part")
        assert last_number(station) == 1


def test_it_is_refused_while_parts_wait_and_does_not_go_before_them(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station, ThreadPoolExecutor(1) as pool:
        box.hold.clear()
        box.cameras["top"].push()
        wait_until(lambda: box.calls, "the part is being judged")
        early = pool.submit(station.inspect, posted())
        box.cameras["top"].push()
        wait_until(lambda: last_number(station) == 2, "another part waits")
        with pytest.raises(BusyError, match=r"parts wait|another picture"):
            station.inspect(posted())
        box.hold.set()
        assert isinstance(early.result(20), Inspected)
        assert len(box.output.parts) == 2  # told before the picture was


def test_a_network_that_fails_with_it_is_opened_again(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        box.breaks.append(BackendError("the GPU fell off the bus"))
        with pytest.raises(BackendError, match="fell off"):
            station.inspect(posted())
        wait_until(lambda: not station.engine.problem, "the engine")
        assert isinstance(station.inspect(posted()), Inspected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"problem": "parts wait", "each_ms": 1, "deadline_ms": 100}, "parts wait"),
        ({"problem": "", "each_ms": 60, "deadline_ms": 100}, "a picture takes 60 ms, and a part has 100"),
        ({"problem": "", "each_ms": 1, "deadline_ms": 100}, "60×60 pixels are more than those of a part"),
    ],
)
def test_what_could_make_parts_late_is_refused(settings: dict[str, object], said: str) -> None:
    guests = Guests(changed := threading.Condition())
    guests.see(Frame("top", 1, PurePath("top_1"), np.zeros((50, 50), np.uint8)))
    with changed, pytest.raises(BusyError, match=said):
        guests.inspect(posted(), **settings)  # type: ignore[arg-type]


def test_an_answer_that_comes_too_late_is_not_given_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acl_runtime.inspection.station.guest.PATIENCE_S", 0.05)
    guests = Guests(changed := threading.Condition())
    first, second = posted(), posted()

    def ask(frame: Frame) -> object:
        with changed:
            return guests.inspect(frame, problem="", each_ms=0, deadline_ms=100)

    with pytest.raises(BusyError, match="parts came first"):
        ask(first)
    monkeypatch.setattr("acl_runtime.inspection.station.guest.PATIENCE_S", 20)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, second)
        wait_until(lambda: guests.waiting, "the second")
        guests.answer(first, BadFrame("first", 0, "late"))
        guests.answer(second, BadFrame("second", 0, "in time"))
        assert asked.result(20) == BadFrame("second", 0, "in time")
