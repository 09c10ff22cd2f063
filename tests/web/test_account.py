"""Blocks become lines in their place, and every line that the camera exposed is seen or lost."""

from __future__ import annotations

import numpy as np
import pytest

from acl_runtime.files.errors import InputError
from acl_runtime.sources.block import Block
from acl_runtime.web.account import LineAccount, Lines, Lost

HEIGHT = 8
NUMBERS = range(1, 65536)
BLOCK_NS = 1_000_000


def make_block(
    number: int | None, index: int, *, complete: bool = True, height: int = HEIGHT, **more: int
) -> Block:
    """The block that was exposed as the one of this index, its lines numbered from there in their pixels."""
    first = index * HEIGHT
    lines = np.repeat(np.arange(first, first + height, dtype=np.uint16)[:, None], 4, axis=1)
    return Block(lines=lines, number=number, complete=complete, received_ns=(index + 1) * BLOCK_NS, **more)


def wrapped(index: int, *, begins: int = 65530) -> int:
    return (begins - 1 + index) % 65535 + 1


def check_places(items: list[Lines | Lost], *, origin: int = 0) -> dict[str, int]:
    """Each line once, each seen one in its place; how many of which kind."""
    at, counts = 0, {"seen": 0}
    for item in items:
        assert item.first == at
        at = item.stop
        if isinstance(item, Lines):
            assert item.pixels[:, 0].tolist() == list(range(origin + item.first, origin + item.stop))
            counts["seen"] += len(item.pixels)
        else:
            counts[item.reason] = counts.get(item.reason, 0) + item.stop - item.first
    return counts


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("numbers", [NUMBERS, None])
def test_every_line_is_once_seen_or_lost_in_its_place_whatever_is_lost(
    seed: int, numbers: range | None
) -> None:
    """Blocks vanish, come incomplete, and lose their leaders; their numbers wrap from 65535 to 1."""
    rng = np.random.default_rng(seed)
    account = LineAccount(height=HEIGHT, numbers=numbers)
    items, expected = [], {"seen": 0, "blocks": 0, "packets": 0}
    fates = [
        "seen",
        *rng.choice(["seen", "packets", "blocks", "nameless"], 300, p=[0.7, 0.1, 0.1, 0.1]),
        "seen",
    ]
    for index, fate in enumerate(fates):
        number = wrapped(index) if numbers else 65530 + index
        if fate == "seen":
            items += account.add(make_block(number, index))
        elif fate == "packets":
            items += account.add(make_block(number, index, complete=False))
        elif fate == "nameless":  # as with the leader lost: 0, or the number of the buffer's last use
            stale = int(rng.choice([0, (number - 17) % 65536]))
            items += account.add(make_block(stale, index, complete=False))
        expected["packets" if fate == "nameless" else fate] += HEIGHT
    items += account.finish()
    counts = check_places(items)
    assert counts["seen"] == expected["seen"]
    assert counts.get("blocks", 0) + counts.get("packets", 0) == expected["blocks"] + expected["packets"]
    assert account.line == len(fates) * HEIGHT
    only = {"packets", "nameless", "seen"}
    if set(fates) <= only:
        assert counts["packets"] == expected["packets"]


def test_a_block_whose_packets_were_lost_is_told_from_one_that_never_came() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS)
    items = account.add(make_block(65534, 0))
    items += account.add(make_block(0, 1, complete=False))  # 65535, without its leader
    items += account.add(make_block(3, 4))  # 1 and 2 never came
    assert check_places(items) == {"seen": 16, "blocks": 16, "packets": 8}


def test_what_came_incomplete_at_the_end_is_counted() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS)
    items = account.add(make_block(1, 0)) + account.add(make_block(0, 1, complete=False)) + account.finish()
    assert check_places(items) == {"seen": 8, "packets": 8}
    assert account.finish() == []


def test_a_first_block_without_leader_is_lost_before_the_rest() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS)
    items = account.add(make_block(0, 0, complete=False)) + account.add(make_block(7, 1))
    assert check_places(items) == {"packets": 8, "seen": 8}


def test_blocks_without_numbers_follow_each_other() -> None:
    account = LineAccount(height=HEIGHT, numbers=None)
    items = account.add(make_block(None, 0)) + account.add(make_block(None, 1, complete=False))
    items += account.add(make_block(None, 2))
    assert check_places(items) == {"seen": 16, "packets": 8}


def test_a_block_of_fewer_lines_moves_the_place_by_as_many() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS)
    items = account.add(make_block(1, 0, height=3)) + account.add(make_block(2, 1))
    assert [(item.first, item.stop) for item in items] == [(0, 3), (3, 11)]


def test_lines_that_the_camera_ignored_are_lost_by_its_own_count() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS)
    items = account.add(make_block(1, 0, ignored_triggers=5)) + account.add(
        make_block(2, 1, ignored_triggers=8)
    )
    assert [(item.first, item.stop) for item in items] == [(0, 8), (8, 11), (11, 19)]
    assert isinstance(items[1], Lost)
    assert items[1].reason == "ignored triggers"


@pytest.mark.parametrize("counts", [4.0, -4.0, 2.5])
def test_the_encoder_knows_of_lines_that_no_number_tells_of(counts: float) -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS, counts_per_line=counts)
    at = [round(counts * line) for line in (0, 8, 31)]  # a block is missing, and 7 lines more
    items = account.add(make_block(1, 0, first_encoder=at[0], ignored_triggers=0))
    items += account.add(make_block(2, 1, first_encoder=at[1], ignored_triggers=0))
    items += account.add(make_block(4, 3, first_encoder=at[2], ignored_triggers=9))  # the encoder is believed
    lost = [(item.first, item.stop, item.reason) for item in items if isinstance(item, Lost)]
    assert lost == [(16, 24, "blocks"), (24, 31, "ignored triggers")]


def test_an_encoder_that_went_back_loses_nothing() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS, counts_per_line=1.0)
    items = account.add(make_block(1, 0, first_encoder=100)) + account.add(make_block(2, 1, first_encoder=90))
    assert check_places(items) == {"seen": 16}


@pytest.mark.parametrize("number", [1, 5, 65535])
def test_a_camera_that_began_anew_leaves_a_gap_as_long_as_the_time_says(number: int) -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS)
    items = [item for index in range(5) for item in account.add(make_block(index + 1, index))]
    items += account.add(make_block(number, 25))  # 20 blocks' time without any
    restart = items[-2]
    assert isinstance(restart, Lost)
    assert (restart.reason, restart.first, restart.stop, restart.estimated) == ("restart", 40, 40 + 160, True)
    assert items[-1].first == 200


def test_a_source_that_was_opened_again_leaves_a_gap_though_its_numbers_would_fit() -> None:
    account = LineAccount(height=HEIGHT, numbers=NUMBERS, counts_per_line=1.0)
    items = account.add(make_block(1, 0, first_encoder=0))
    account.reopen(height=HEIGHT, numbers=None)
    items += account.add(make_block(2, 1, first_encoder=50))
    assert isinstance(items[1], Lost)
    assert (items[1].reason, items[1].first, items[1].stop, items[1].estimated) == ("restart", 8, 50, False)
    items += account.add(make_block(3, 2, first_encoder=58))
    assert items[-1].first == 58


def test_counts_of_an_encoder_are_not_nothing() -> None:
    with pytest.raises(InputError, match="counts_per_line must not be 0"):
        LineAccount(height=HEIGHT, numbers=None, counts_per_line=0)
