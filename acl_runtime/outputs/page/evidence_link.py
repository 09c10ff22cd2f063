"""What the page asks of an evidence store, where the station has one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

Which = Literal["picture", "overlay"]
Mark = Literal["good", "defect", "unsure"]
MARKS: tuple[Mark, ...] = get_args(Mark)


@runtime_checkable
class Evidence(Protocol):
    """An output that keeps pictures and takes reviews; called from threads of the page."""

    def review(self, number: int, mark: Mark, by: str) -> None:
        """Note what a person says of a part.

        Raises:
            UserError: There is no such part, or the store is away.
        """
        ...

    def picture_path(self, number: int, which: Which) -> Path | None:
        """File of a part's picture PNG or JPEG; None if it is not there (any more)."""
        ...
