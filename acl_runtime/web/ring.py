"""Lines on their way from the camera to the judge: a thread copies complete blocks into a ring, and nothing else.

When the ring is full, blocks are lost as "too slow": newer ones, because the older ones are being judged. A source that
waits to be read, such as recorded lines, is read no faster than its lines are judged.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources.block import Block, LineSource
from acl_runtime.web.account import LineAccount, Lines, Lost

MOST_ITEMS = 1000  # intervals that wait; past that, whatever else comes is one interval that was too slow
SHARES = 8  # of the ring, one of which is taken at a time, unless blocks are larger
TOGETHER_NS = 10_000_000  # longest time between the lines that are taken together
READ_S = 0.2  # longest wait for a block before the thread looks whether it is to end
CLOSE_S = 10.0
PAUSES_S = (0.5, 1.0, 2.0, 5.0)  # between attempts to open a source again; the last one over and over

Open = Callable[[], LineSource]


@dataclass(eq=False)
class _Stretch:
    """Lines in the ring."""

    first: int
    count: int
    at: int  # of the ring's memory
    began_ns: int  # when its first lines were received
    received_ns: int  # and its last


class LineRing:
    """A queue of lines and losses, for one thread that puts and one that takes.

    Memory: `capacity` lines, which are W or 3 W bytes each, twice that of 16 bits; and `MOST_ITEMS` + 2 intervals.
    """

    def __init__(self, capacity: int, *, waits: bool) -> None:
        """Make an empty one; its memory is taken with the first lines.

        Args:
            capacity: Lines that it holds.
            waits: Whether `put` waits for room, instead of losing lines.
        """
        if capacity < 1:
            raise InputError(f"capacity must be at least 1 line, got {capacity}")
        self._capacity, self._waits = capacity, waits
        self._lines: npt.NDArray[np.generic] | None = None
        self._items: deque[_Stretch | Lost] = deque()
        self._changed = threading.Condition()
        self._at = 0  # where the next line goes
        self._used = 0  # lines that are in it, those in the taker's hands among them
        self._taken = 0  # lines in the taker's hands
        self._end: BaseException | None = None
        self._is_closed = False
        self._received_ns: int | None = None
        self._began_ns: int | None = None
        self._slow_ns = 0

    def put(self, item: Lines | Lost) -> None:
        """Take a copy of what came next.

        Raises:
            SourceError: The lines are more than the ring holds, or unlike those before.
        """
        if isinstance(item, Lost):
            with self._changed:
                self._put_lost(item)
            return
        pixels, count = item.pixels, len(item.pixels)
        lines = self._memory(pixels)
        with self._changed:
            if self._waits:
                self._changed.wait_for(lambda: self._used + count <= self._capacity or self._is_closed)
            is_slow = self._used + count > self._capacity or len(self._items) >= MOST_ITEMS
            self._watch_pace(item.received_ns, is_slow=is_slow)
            if is_slow:
                self._put_lost(Lost(first=item.first, stop=item.stop, reason="too slow"))
                return
            self._used += count
        done = 0
        while done < count:  # outside the lock: the taker has other lines
            piece = min(count - done, self._capacity - self._at)
            lines[self._at : self._at + piece] = pixels[done : done + piece]
            with self._changed:
                self._publish(
                    _Stretch(item.first + done, piece, self._at, item.received_ns, item.received_ns)
                )
            self._at, done = (self._at + piece) % self._capacity, done + piece

    def take(self, timeout_s: float) -> Lines | Lost | None:
        """What comes next, None if nothing came in time; its pixels are valid until the next call.

        Raises:
            EOFError: There will be no more.
            BaseException: What `end` was given, once all before it was taken.
        """
        with self._changed:
            self._used -= self._taken
            self._taken = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._items or self._end is not None, timeout_s)
            if not self._items:
                if self._end is not None:
                    raise self._end
                return None
            item = self._items.popleft()
            if isinstance(item, Lost):
                return item
            self._taken = item.count
        assert self._lines is not None
        pixels = self._lines[item.at : item.at + item.count]
        return Lines(first=item.first, pixels=pixels, received_ns=item.received_ns)

    def end(self, error: BaseException) -> None:
        """Say that nothing more will come, and why: EOFError for a source with an end."""
        with self._changed:
            self._end = self._end or error
            self._changed.notify_all()

    def close(self) -> None:
        """Let `put` wait no longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def kept_up(self) -> float:
        """Share of the time since the first lines in which none were lost as too slow, 0 to 1."""
        with self._changed:
            began, now = self._began_ns, self._received_ns
            if began is None or now is None or now == began:
                return 1.0 if not self._slow_ns else 0.0
            return 1 - self._slow_ns / (now - began)

    @property
    def seconds(self) -> float:
        """From the first lines to the last."""
        with self._changed:
            began, now = self._began_ns, self._received_ns
            return 0.0 if began is None or now is None else (now - began) / 1e9

    @property
    def nbytes(self) -> int:
        """Memory for lines."""
        return 0 if self._lines is None else self._lines.nbytes

    def _memory(self, pixels: np.ndarray) -> npt.NDArray[np.generic]:
        if self._lines is None:
            self._lines = np.empty((self._capacity, *pixels.shape[1:]), pixels.dtype)
        lines = self._lines
        if len(pixels) > self._capacity:
            raise SourceError(
                f"a block must have at most {self._capacity} lines, which the ring holds, got {len(pixels)}; make it "
                "larger, or the camera's Height smaller"
            )
        if lines.shape[1:] != pixels.shape[1:] or lines.dtype != pixels.dtype:
            raise SourceError(
                f"lines must be {lines.shape[1:]} {lines.dtype} like the first ones, got {pixels.shape[1:]} "
                f"{pixels.dtype}; begin a new roll with these settings"
            )
        return lines

    def _publish(self, stretch: _Stretch) -> None:
        """Queue lines; those that go on behind the last ones, in memory too, are one stretch with them.

        Those that came much later are not, so that a standstill is seen by their times, unless very many wait.
        """
        last = self._items[-1] if self._items else None
        if (
            isinstance(last, _Stretch)
            and last.count < self._capacity // SHARES  # a small part of the ring is in the taker's hands
            and (stretch.received_ns - last.began_ns < TOGETHER_NS or len(self._items) > MOST_ITEMS // 2)
            and last.first + last.count == stretch.first
            and last.at + last.count == stretch.at
        ):
            last.count += stretch.count
            last.received_ns = stretch.received_ns
        else:
            self._items.append(stretch)
        self._changed.notify_all()

    def _put_lost(self, lost: Lost) -> None:
        last = self._items[-1] if self._items else None
        is_full = len(self._items) >= MOST_ITEMS
        if is_full:
            lost = replace(lost, reason="too slow")
        if isinstance(last, Lost) and (last.stop, last.reason) == (lost.first, lost.reason):
            self._items[-1] = replace(last, stop=lost.stop)
        else:
            self._items.append(lost)
        self._changed.notify_all()

    def _watch_pace(self, received_ns: int, *, is_slow: bool) -> None:
        if self._began_ns is None:
            self._began_ns = received_ns
        elif is_slow and self._received_ns is not None:
            self._slow_ns += received_ns - self._received_ns
        self._received_ns = received_ns


class Reader:
    """The thread that reads a source into a ring; a source that breaks is opened again, for as long as it takes."""

    def __init__(
        self,
        source: LineSource,
        ring: LineRing,
        reopen: Open,
        *,
        counts_per_line: float | None = None,
        line: int = 0,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Begin to read.

        Args:
            source: Open; the reader closes it.
            ring: Where the lines go.
            reopen: Opens the source again after it broke; SourceError while it is away.
            counts_per_line: See `LineAccount`.
            line: Number of the first line.
            say: Told, from the reader's thread, when the source broke and when it is back.
        """
        self._source, self._ring, self._reopen, self._say = source, ring, reopen, say
        self._account = LineAccount(
            height=source.height, numbers=source.numbers, counts_per_line=counts_per_line, line=line
        )
        self.problem = ""  # why the source is away; empty while it is there
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="line reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more; what was read is still in the ring, and then it ends."""
        self._stopped.set()
        self._ring.close()

    def close(self) -> None:
        """Stop, and wait until the source was given back; a camera that is gone may take seconds."""
        self.stop()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # it is raised where the ring is read
            self._ring.end(error)
        finally:
            self._source.close()

    def _read(self) -> None:
        while not self._stopped.is_set():
            try:
                block = self._source.read(READ_S)
            except SourceError as error:
                self.problem = str(error)
                self._say(f"{error}; it is opened again as soon as it is back")
                self._open_again()
                continue
            except EOFError:
                break
            if block is not None:
                self._put(block)
        for item in self._account.finish():
            self._ring.put(item)
        self._ring.end(EOFError())

    def _put(self, block: Block) -> None:
        for item in self._account.add(block):
            if self._stopped.is_set() and isinstance(item, Lines):
                item = Lost(first=item.first, stop=item.stop, reason="too slow")  # noqa: PLW2901
            self._ring.put(item)

    def _open_again(self) -> None:
        self._source.close()
        for turn in range(1 << 62):
            if self._stopped.wait(PAUSES_S[min(turn, len(PAUSES_S) - 1)]):
                return
            try:
                source = self._reopen()
            except SourceError:
                continue
            self._source, self.problem = source, ""
            self._account.reopen(height=source.height, numbers=source.numbers)
            self._say(f"{source.name}: is back")
            return
