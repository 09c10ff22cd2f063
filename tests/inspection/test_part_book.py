"""Every part has one verdict, and OK only for what the network judged in time: against a model, over random faults."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pytest

from acl_runtime.detection.verdict import Inspected, Result, Verdict
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.inspection.station.part_book import Part, PartBook
from acl_runtime.outputs.plc.handshake import Handshake
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


class Chaos:
    """Exposes, judges, breaks and forgets at random, and checks every word that is told."""

    def __init__(self, seed: int) -> None:
        self.rng, self.model, self.now = random.Random(seed), Model(), 0
        self.plc = Handshake(most_waiting=self.rng.choice((1, 8)))
        self.told: list[PartResult] = []
        self.book = PartBook(self.tell, most_waiting=self.rng.choice((1, 3, 20)))
        self.in_hand: list[Part] = []
        self.ack = False

    def tell(self, part: PartResult) -> None:
        assert self.model.allows(part, self.now), (part, self.now)
        self.told.append(part)
        self.plc.put(part)

    def expose(self) -> None:
        number, exposed = len(self.model.exposed) + 1, self.now - self.rng.choice((0, 2, 60, 500))
        part = make_part(number, camera=self.rng.choice("abc"), exposed_ns=exposed, deadline_ns=exposed + 100)
        problem = self.rng.choice(("", "", "", "the frame never came"))
        self.model.exposed[number] = (part.camera, part.deadline_ns)
        if not problem:
            self.model.may_be_judged.add(number)
        self.book.expose(part, self.now, problem=problem)

    def take(self) -> None:
        self.in_hand += self.book.take(self.rng.randint(1, 4), self.now, self.rng.choice((0, 10, 60)))

    def judge(self) -> None:
        if not self.in_hand:
            return
        part = self.in_hand.pop(self.rng.randrange(len(self.in_hand)) if self.rng.random() < 0.1 else 0)
        kind = self.rng.choice(("bad", "good", "good", "good", "defective"))
        if kind == "good":
            self.model.good.setdefault(part.number, self.now)
        bad = BadFrame("", 0, "no number came out")
        self.book.judge(part, bad if kind == "bad" else judged(is_anomalous=kind == "defective"), self.now)

    def break_backend(self) -> None:
        for part in self.in_hand:
            self.book.fail(part, "the network failed", self.now)
        self.in_hand = []

    def pass_gate(self) -> None:
        self.book.give_up(self.rng.randint(0, len(self.model.exposed)), "passed the gate", self.now)

    def expire(self) -> None:
        self.book.expire(self.now)

    def acknowledge(self) -> None:
        self.ack = not self.ack
        self.plc.acknowledge(self.ack)

    def step(self) -> None:
        self.now += self.rng.choice((0, 1, 5, 40))
        often = [self.expose] * 35 + [self.take] * 15 + [self.judge] * 25 + [self.expire] * 15
        self.rng.choice([*often, *[self.break_backend, self.pass_gate] * 2, *[self.acknowledge] * 6])()
        shown = self.plc.shown
        assert shown is None or shown.verdict != "ok" or self.model.allows(shown, self.now)


@pytest.mark.parametrize("seed", range(60))
def test_the_plc_is_never_told_ok_for_a_part_that_was_not_judged_whatever_happens(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(600):
        chaos.step()
    chaos.book.give_up_all("the station stopped", chaos.now)
    told = chaos.told
    assert sorted(part.number for part in told) == list(chaos.model.exposed)  # each once, without holes
    for camera in "abc":
        numbers = [part.number for part in told if part.camera == camera]
        assert numbers == sorted(numbers)
    assert {part.verdict for part in told} == {"ok", "ng", "not judged"}
    assert len(chaos.book) == chaos.book.waiting == 0
