"""Follow parts from the camera to the gate that rejects: by time, or by the counts of an encoder."""

from __future__ import annotations

from collections import deque

_WRAP = 1 << 32  # encoders count in 32 bits at most, and begin anew


class Gate:
    """Parts on their way to the gate, in order; places are numbers of one unit, such as nanoseconds or counts.

    A part has arrived once the position is `distance` beyond the place where it was exposed. It never arrives before a
    part ahead of it, whatever their places say.
    """

    def __init__(self, distance: int, *, wraps: bool = False) -> None:
        """Begin without parts.

        Args:
            distance: From the camera to the gate; negative where positions fall.
            wraps: Whether positions begin anew after 32 bits, as those of encoders.
        """
        self._distance, self._wraps = distance, wraps
        self._parts: deque[tuple[int, int | None]] = deque()

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, number: int, place: int | None) -> None:
        """Begin to follow a part.

        Args:
            number: Of the part.
            place: Position at which it was exposed; None if nobody knows: it arrives with the part ahead.
        """
        self._parts.append((number, place))

    def arrived(self, position: int) -> list[int]:
        """The parts that are at the gate or past it, in order; they are followed no longer."""
        numbers: list[int] = []
        while self._parts and self._is_there(self._parts[0][1], position):
            numbers.append(self._parts.popleft()[0])
        return numbers

    def give_up(self) -> list[int]:
        """All parts that are followed, in order, because nobody knows where they are."""
        numbers = [number for number, _ in self._parts]
        self._parts.clear()
        return numbers

    @property
    def next_at(self) -> int | None:
        """Position at which the next part arrives; None without parts, or if its place is not known."""
        if not self._parts or self._parts[0][1] is None:
            return None
        return self._parts[0][1] + self._distance

    def _is_there(self, place: int | None, position: int) -> bool:
        if place is None:
            return True
        way = position - place
        if self._wraps:
            way = (way + _WRAP // 2) % _WRAP - _WRAP // 2
        return way >= self._distance if self._distance >= 0 else way <= self._distance
