"""Parts on their way to the gate, at any speed."""

from __future__ import annotations

import random

import pytest

from acl_runtime.inspection.station.gate import Gate


@pytest.mark.parametrize("seed", range(30))
def test_every_part_fires_in_order_at_the_first_look_at_which_it_is_there_whatever_the_speed(
    seed: int,
) -> None:
    rng = random.Random(seed)
    distance = rng.randint(1, 500)
    gate = Gate(distance, wraps=True)
    position, number = rng.randint(0, 1 << 32), 0
    places: dict[int, int] = {}
    fired: list[int] = []
    before = position
    for _ in range(2000):
        speed = rng.choice((0, 0, 1, 3, 20, 200))
        before, position = position, position + rng.randint(0, speed)
        for each in gate.arrived(position % (1 << 32)):
            fired.append(each)
            assert position - places[each] >= distance > before - places[each]
        if rng.random() < 0.3:
            number += 1
            places[number] = position
            gate.add(number, position % (1 << 32))
    assert fired == list(range(1, len(fired) + 1))
    assert len(gate) == number - len(fired)
    assert all(position - places[each] < distance for each in range(len(fired) + 1, number + 1))


def test_a_part_whose_place_is_not_known_goes_with_the_one_ahead() -> None:
    gate = Gate(100)
    gate.add(1, 0)
    gate.add(2, None)
    gate.add(3, 50)
    assert gate.arrived(99) == []
    assert gate.arrived(100) == [1, 2]
    assert gate.arrived(150) == [3]


def test_a_part_never_passes_the_one_ahead() -> None:
    gate = Gate(100)
    gate.add(1, 50)
    gate.add(2, 40)  # a clock that was corrected
    assert gate.arrived(145) == []
    assert gate.arrived(150) == [1, 2]


def test_an_encoder_may_count_down() -> None:
    gate = Gate(-100, wraps=True)
    gate.add(1, 30)
    assert gate.arrived((30 - 99) % (1 << 32)) == []
    assert gate.arrived((30 - 100) % (1 << 32)) == [1]


def test_a_belt_that_runs_back_fires_nothing() -> None:
    gate = Gate(100, wraps=True)
    gate.add(1, 1000)
    assert gate.arrived(400) == []


def test_next_at_is_when_to_look_again() -> None:
    gate = Gate(100)
    assert gate.next_at is None
    gate.add(1, 7)
    assert gate.next_at == 107
    assert gate.give_up() == [1]
    assert len(gate) == 0
