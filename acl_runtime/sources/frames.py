"""Frames of a camera, one after another, across its losses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import PurePath

from acl_runtime.files.errors import SourceError, UserError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.address import hide_password
from acl_runtime.sources.block import LineSource
from acl_runtime.sources.lines import open_line_source
from acl_runtime.text.names import slug

LOG = logging.getLogger("acl")
AGAIN_S = 1.0  # between tries to open a camera that went away
GIVE_UP_S = 600.0
_POLL_S = 0.5


def read_frames(
    text: str,
    name: PurePath,
    *,
    again_s: float = AGAIN_S,
    give_up_s: float = GIVE_UP_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Frame | BadFrame]:
    """The frames of an area camera, or the blocks of a line camera, until it ends or stays away.

    A frame that came incomplete, frames that never came and the loss of the camera are each a BadFrame in their place.
    A camera that was there and went away is opened again as soon as it is back.

    Args:
        text: As of `open_line_source`.
        name: The results are called after the camera, beside this name.
        again_s: Seconds between tries to open it again.
        give_up_s: Seconds after which it is given up, which is one more BadFrame.
        clock: Seconds, as of `time.monotonic`.
        sleep: Waits between tries.
        stopped: Asked whether to end, again and again.
    """
    shown, index = hide_password(text), 0
    names = f"camera{text}" if text.isdecimal() else slug(shown.partition("?")[0])
    try:
        source = open_line_source(text)
    except (UserError, OSError) as error:
        yield BadFrame(shown, 0, str(error))
        return
    gaps = _Gaps(source.numbers)
    try:
        while not stopped():
            try:
                block = source.read(_POLL_S)
            except EOFError:
                return
            except SourceError as error:
                yield BadFrame(shown, index, str(error))
                index += 1
                source.close()
                again = _open_again(text, again_s, clock() + give_up_s, clock, sleep, stopped)
                if again is None and stopped():
                    return
                if again is None:
                    yield BadFrame(
                        shown, index, f"{shown}: did not come back within {give_up_s:g} s; connect it"
                    )
                    return
                source, gaps = again, _Gaps(again.numbers)
                continue
            if block is None:
                continue
            if missing := gaps.before(block.number):
                problem = f"{shown}: {missing} frames before this one never came; see the camera's link and settings"
                yield BadFrame(shown, index, problem)
                index += 1
            if block.complete:
                yield Frame(shown, index, name.with_name(f"{names}_{index:06d}"), block.lines.copy())
            else:
                yield BadFrame(
                    shown, index, f"{shown}: the frame came incomplete; see the camera's link and settings"
                )
            index += 1
    finally:
        source.close()


class _Gaps:
    """Counts the frames that never came, by the numbers of those that did."""

    def __init__(self, numbers: range | None) -> None:
        self._period = len(numbers) if numbers else None
        self._last: int | None = None
        self._unplaced = 0  # came without a number since the last that had one

    def before(self, number: int | None) -> int:
        """How many are missing just before a frame."""
        if number is None:
            self._unplaced += 1
            return 0
        last, self._last = self._last, number
        unplaced, self._unplaced = self._unplaced, 0
        if last is None:
            return 0
        ahead = number - last if self._period is None else (number - last) % self._period
        return max(0, ahead - 1 - unplaced)


def _open_again(
    text: str,
    again_s: float,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    stopped: Callable[[], bool],
) -> LineSource | None:
    """The source once it is back; None if it stays away, or when told to stop."""
    LOG.warning("%s: is away; waiting for it to come back", hide_password(text), extra={"again": True})
    while clock() < until and not stopped():
        sleep(again_s)
        try:
            source = open_line_source(text)
        except (SourceError, OSError):  # still away, as was said
            continue
        LOG.warning("%s: is back", hide_password(text), extra={"again": True})
        return source
    return None
