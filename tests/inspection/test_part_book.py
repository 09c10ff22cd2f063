"""Every part has one verdict, and OK only for what the network judged in time: against a model, over random faults."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pytest

from acl_runtime.detection.verdict import Inspected, Result, Verdict
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.inspection.part_book import Part, PartBook
from acl_runtime.outputs.handshake import Handshake
from acl_runtime.outputs.station import PartResult

FRAME = Frame("", 0, PurePath("x"), np.zeros((4, 4), np.uint8))


def judged(*, is_anomalous: bool) -> Result:
    verdict = Verdict(
        score=0.5,
        peak=0.5,
        is_anomalous=is_anomalous,
        margin=0.0,
        threshold=0.5,
        peak_threshold=None,
        regions=(),
        anomaly_map=np.zeros((2, 2), np.float32),
        latency_ms={},
    )
    return Inspected(FRAME, verdict)


def make_part(number: int, *, camera: str = "a", exposed_ns: int = 0, deadline_ns: int = 100) -> Part:
    return Part(
        number=number,
        part_id="",
        camera=camera,
        exposed_ns=exposed_ns,
        exposed_at=0.0,
        deadline_ns=deadline_ns,
        frame=FRAME,
    )


def test_a_verdict_that_comes_after_the_deadline_is_none() -> None:
    told: list[PartResult] = []
    book = PartBook(told.append, most_waiting=4)
    for number in (1, 2, 3):
        book.expose(make_part(number), 0)
    parts = book.take(2, 0)
    book.judge(parts[0], judged(is_anomalous=False), 100)
    book.judge(parts[1], judged(is_anomalous=False), 101)
    book.expire(101)
    assert [(part.verdict, part.reason) for part in told] == [
        ("ok", ""),
        ("not judged", "judged after the deadline"),
        ("not judged", "not judged by the deadline"),
    ]
    assert book.waiting == len(book) == 0


def test_parts_are_told_in_the_order_of_their_camera_and_cameras_do_not_wait_for_each_other() -> None:
    told: list[PartResult] = []
    book = PartBook(told.append, most_waiting=9)
    book.expose(make_part(1, camera="a"), 0)
    book.expose(make_part(2, camera="b"), 0)
    book.expose(make_part(3, camera="a"), 0, problem="the frame never came")
    (first, second) = book.take(9, 0)
    book.judge(second, judged(is_anomalous=True), 5)
    assert [part.number for part in told] == [2]
    book.judge(first, judged(is_anomalous=False), 9)
    assert [(part.number, part.verdict) for part in told] == [(2, "ng"), (1, "ok"), (3, "not judged")]


def test_parts_that_come_too_fast_are_given_up_and_the_others_are_in_time() -> None:
    told: list[PartResult] = []
    book = PartBook(told.append, most_waiting=999)
    now, number = 0, 0
    while now < 10_000:  # a part comes each 10, the network takes 20 of them, a deadline is 100 away
        while number * 10 <= now:
            number += 1
            exposed = (number - 1) * 10
            book.expose(make_part(number, exposed_ns=exposed, deadline_ns=exposed + 100), now)
        parts = book.take(8, now, 20)
        now += 20 * max(1, len(parts))
        for part in parts:
            book.judge(part, judged(is_anomalous=False), now)
    verdicts = [part.verdict for part in told]
    assert verdicts.count("ok") == pytest.approx(len(verdicts) / 2, rel=0.05)
    assert {part.reason for part in told if part.verdict != "ok"} == {"too slow: its deadline would be over"}


def test_the_last_that_waits_is_taken_however_slow_the_network_was() -> None:
    told: list[PartResult] = []
    book = PartBook(told.append, most_waiting=9)
    for number in (1, 2):
        book.expose(make_part(number), 0)
    assert [part.number for part in book.take(8, 0, 5000)] == [2]
    assert [part.number for part in told] == [1]


@dataclass
class Model:
    """What must be true of each part, from its history alone."""

    exposed: dict[int, tuple[str, int]] = field(default_factory=dict)  # camera, deadline
    good: dict[int, int] = field(default_factory=dict)  # when the network called it good
    may_be_judged: set[int] = field(default_factory=set)

    def allows(self, part: PartResult, now: int) -> bool:
        _, deadline = self.exposed[part.number]
        if part.verdict == "ok":
            return part.number in self.may_be_judged and self.good.get(part.number, now + 1) <= deadline
        return part.verdict == "ng" or bool(part.reason)


@pytest.mark.parametrize("seed", range(60))
def test_the_plc_is_never_told_ok_for_a_part_that_was_not_judged_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    told: list[PartResult] = []
    model, plc, now = Model(), Handshake(most_waiting=rng.choice((1, 8))), 0

    def tell(part: PartResult) -> None:
        assert model.allows(part, now), (part, now)
        told.append(part)
        plc.put(part)

    book = PartBook(tell, most_waiting=rng.choice((1, 3, 20)))
    in_hand: list[Part] = []
    for _ in range(600):
        now += rng.choice((0, 1, 5, 40))
        what = rng.random()
        if what < 0.35:
            number = len(model.exposed) + 1
            camera = rng.choice("abc")
            exposed = now - rng.choice((0, 2, 60, 500))
            part = make_part(number, camera=camera, exposed_ns=exposed, deadline_ns=exposed + 100)
            problem = rng.choice(("", "", "", "the frame never came"))
            model.exposed[number] = (camera, part.deadline_ns)
            if not problem:
                model.may_be_judged.add(number)
            book.expose(part, now, problem=problem)
        elif what < 0.5:
            in_hand += book.take(rng.randint(1, 4), now, rng.choice((0, 10, 60)))
        elif what < 0.75 and in_hand:
            part = in_hand.pop(rng.randrange(len(in_hand)) if rng.random() < 0.1 else 0)
            kind = rng.random()
            if kind < 0.2:
                book.judge(part, BadFrame("", 0, "no number came out"), now)
            elif kind < 0.7:
                model.good.setdefault(part.number, now)
                book.judge(part, judged(is_anomalous=False), now)
            else:
                book.judge(part, judged(is_anomalous=True), now)
        elif what < 0.78:
            for part in in_hand:  # the backend broke
                book.fail(part, "the network failed", now)
            in_hand = []
        elif what < 0.8 and model.exposed:
            book.give_up(rng.randint(1, len(model.exposed)), "passed the gate", now)
        elif what < 0.95:
            book.expire(now)
        else:
            plc.acknowledge(not plc._ack)
        shown = plc.shown
        assert shown is None or shown.verdict != "ok" or model.allows(shown, now)
    book.give_up_all("the station stopped", now)
    assert sorted(part.number for part in told) == list(model.exposed)  # each once, without holes
    for camera in "abc":
        numbers = [part.number for part in told if part.camera == camera]
        assert numbers == sorted(numbers)
    assert {part.verdict for part in told} == {"ok", "ng", "not judged"}
    assert len(book) == book.waiting == 0
