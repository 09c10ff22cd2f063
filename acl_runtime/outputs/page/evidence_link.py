"""What the page asks of an evidence store, where the station has one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

MARKS = ("good", "defect", "not sure")


@runtime_checkable
class Evidence(Protocol):
    """An output that keeps pictures and takes reviews; called from threads of the page."""

    def review(self, number: int, mark: str, by: str) -> None:
        """Note what a person says of a part.

        Raises:
            UserError: There is no such part, or the store is away.
        """
        ...

    def picture_path(self, number: int, which: str) -> Path | None:
        """File of a part's picture ("frame" or "overlay"), PNG or JPEG; None if it is not there (any more)."""
        ...
