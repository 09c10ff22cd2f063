"""What a roll adds up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acl_runtime.web.account import Reason
from acl_runtime.web.records import Scale, Tally


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A roll, or a part of one.

    Attributes:
        exposed: Lines that passed the camera.
        judged: Of these.
        lost: Of these, by reason, largest first; with `judged` they add up to `exposed`.
        defects: Told one by one; parts of one count once.
        metres: Length of what passed.
        judged_metres: Length of what was judged.
        kept_up: Share of the time in which no lines were lost as too slow, 0 to 1.
        seconds: From the first line to the last.
    """

    exposed: int
    judged: int
    lost: dict[Reason, int]
    defects: int
    metres: float
    judged_metres: float
    kept_up: float
    seconds: float

    def text(self) -> str:
        """Some lines for a person."""
        share = 100 * self.judged / self.exposed if self.exposed else 0.0
        nouns = "defect" if self.defects == 1 else "defects"
        lines = [
            f"{self.metres:.3f} m in {self.exposed} lines: {self.judged_metres:.3f} m judged ({share:.2f} %), "
            f"{self.defects} {nouns}",
            f"{self.seconds:.1f} s, {self.exposed / max(self.seconds, 1e-9):.0f} lines per second; kept up "
            f"{100 * self.kept_up:.1f} % of the time",
        ]
        if self.lost:
            parts = ", ".join(f"{count} {reason}" for reason, count in self.lost.items())
            lines.append(f"not judged: {sum(self.lost.values())} lines ({parts})")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return dict(vars(self))


def summarise(tally: Tally, scale: Scale, *, kept_up: float, seconds: float) -> Summary:
    """Add up an account in which nothing waits any more."""
    lost = {reason: count for reason, count in sorted(tally.lost.items(), key=lambda item: -item[1]) if count}
    exposed = tally.judged + sum(lost.values())
    return Summary(
        exposed=exposed,
        judged=tally.judged,
        lost=lost,
        defects=tally.defects,
        metres=exposed * scale.mm_per_line / 1000,
        judged_metres=tally.judged * scale.mm_per_line / 1000,
        kept_up=kept_up,
        seconds=seconds,
    )
