"""Which engines compute how many images: built for one batch size each, or a range, and asked for any number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from acl_runtime.backends.tensorrt.execution import Call

Size = tuple[int, int]
"""Fewest and most images that an engine takes at once."""


@lru_cache(maxsize=256)
def calls_for(count: int, sizes: Sequence[Size]) -> tuple[Call, ...]:
    """The calls that compute so many images: the fewest images, since filling up costs as much, then the fewest calls.

    Of equals the engine whose largest batch is nearest, since an engine is optimised for that.

    >>> [(call.engine, call.batch) for call in calls_for(7, ((1, 1), (2, 2), (4, 4)))]
    [(2, 4), (1, 2), (0, 1)]
    >>> [(call.engine, call.batch) for call in calls_for(3, ((4, 4), (1, 8)))]
    [(1, 3)]
    """
    largest = max(most for _, most in sizes)
    whole, rest = max(0, count // largest - 1), count
    first = (_largest_call(sizes),) * whole
    rest -= whole * largest
    best: list[tuple[tuple[int, int, int], tuple[Call, ...]]] = [((0, 0, 0), ())]  # by images that are left
    for left in range(1, rest + 1):
        choices = []
        for number, (fewest, most) in enumerate(sizes):
            taken = min(left, most)
            (computed, calls, slack), after = best[left - taken]
            call = Call(number, max(taken, fewest))
            cost = (computed + call.batch, calls + 1, slack + most - call.batch)
            choices.append((cost, (call, *after)))
        best.append(min(choices, key=lambda choice: choice[0]))
    return (*first, *best[rest][1])


def _largest_call(sizes: Sequence[Size]) -> Call:
    number = max(range(len(sizes)), key=lambda each: (sizes[each][1], sizes[each][0]))
    return Call(number, sizes[number][1])
