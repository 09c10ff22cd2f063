"""What a PLC sees of results, against a PLC that polls and acknowledges as it likes."""

from __future__ import annotations

import random

import pytest

from acl_runtime.outputs.plc.handshake import Handshake
from acl_runtime.outputs.station import PartResult, PartVerdict


def part(number: int, verdict: PartVerdict = "ok") -> PartResult:
    return PartResult(
        number=number,
        part_id="",
        camera="top",
        verdict=verdict,
        reason="",
        exposed_at=0.0,
        latency_ms=1.0,
    )


def test_a_result_stands_until_it_is_acknowledged_and_the_next_waits_until_the_bit_falls() -> None:
    shake = Handshake()
    shake.put(part(1))
    shake.put(part(2, "ng"))
    assert (shake.view.valid, shake.view.number, shake.view.verdict) == (True, 1, "ok")
    shake.acknowledge(True)
    assert (shake.view.valid, shake.view.number, shake.view.verdict) == (False, 0, "none")
    shake.acknowledge(False)
    assert (shake.view.valid, shake.view.number, shake.view.verdict) == (True, 2, "ng")


def test_a_bit_that_stays_up_acknowledges_once() -> None:
    shake = Handshake()
    shake.acknowledge(True)
    shake.put(part(1))
    shake.acknowledge(True)
    assert not shake.view.valid  # the PLC has not let go of the bit
    shake.acknowledge(False)
    assert shake.view.number == 1


def test_a_plc_that_is_too_slow_loses_the_oldest_that_waits_and_is_told_so_until_it_resets() -> None:
    shake = Handshake(most_waiting=2)
    for number in range(1, 6):
        shake.put(part(number))
    assert (shake.view.number, shake.view.overrun, shake.dropped) == (1, True, 2)
    seen = []
    while shake.view.valid:
        seen.append(shake.view.number)
        shake.acknowledge(True)
        shake.acknowledge(False)
    assert seen == [1, 4, 5]
    shake.reset()
    assert not shake.view.overrun


def test_ready_and_running_are_those_of_the_station() -> None:
    shake = Handshake()
    seen = []
    for state in ("starting", "ready", "running", "fault", "offline"):
        shake.set_state(state)
        seen.append((shake.view.ready, shake.view.running, shake.view.fault))
    nothing, ready, running = (False, False, True), (True, False, False), (True, True, False)
    assert seen == [nothing, ready, running, nothing, nothing]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_plc_does_it_reads_every_result_once_in_order_or_knows_that_it_was_dropped(
    seed: int,
) -> None:
    rng = random.Random(seed)
    shake = Handshake(most_waiting=rng.choice((1, 2, 8)))
    told: dict[int, PartVerdict] = {}
    read: list[tuple[int, str]] = []
    ack = False
    for _ in range(500):
        if rng.random() < 0.4:
            number = len(told) + 1
            told[number] = rng.choice(("ok", "ng", "not judged"))
            shake.put(part(number, told[number]))
        elif ack or not shake.view.valid or rng.random() < 0.2:  # at times it forgets the rules
            ack = not ack
            shake.acknowledge(ack)
        else:
            view = shake.view
            read.append((view.number, view.verdict))
            ack = True
            shake.acknowledge(True)
    numbers = [number for number, _ in read]
    assert numbers == sorted(set(numbers))
    assert all(told[number] == verdict for number, verdict in read)
    assert (shake.dropped > 0) == shake.overrun
