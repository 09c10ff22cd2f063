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
        exposed: Lines that passed the camera: those that were judged, lost and outside, and those pending.
        judged: Of these.
        lost: Of these, by reason, largest first.
        outside: Of these, those without a web.
        pending: Of these, those that wait to be judged; none once a roll has ended.
        metres: Length of what passed.
        judged_metres: Length of what was judged.
        defects: Told one by one; parts of one count once.
        kept_up: Share of the time in which no lines were lost as too slow, 0 to 1.
        seconds: From the first line to the last.
    """

    exposed: int
    judged: int
    lost: dict[Reason, int]
    outside: int
    pending: int
    metres: float
    judged_metres: float
    defects: int
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
        if self.not_judged:
            parts = ", ".join(f"{count} {reason}" for reason, count in self.not_judged.items())
            lines.append(f"not judged: {sum(self.not_judged.values())} lines ({parts})")
        return "\n".join(lines)

    @property
    def not_judged(self) -> dict[Reason, int]:
        """Lines that were not judged, by reason, those without a web among them."""
        outside: dict[Reason, int] = {"no web": self.outside} if self.outside else {}
        return self.lost | outside

    def as_dict(self) -> dict[str, Any]:
        """What the last of the JSON lines says."""
        counts = ("exposed", "judged", "lost", "outside", "pending")
        lines = {name: getattr(self, name) for name in counts}
        return {"lines": lines, **{name: value for name, value in vars(self).items() if name not in counts}}


def summarise(tally: Tally, scale: Scale, *, pending: int, kept_up: float, seconds: float) -> Summary:
    """Add up an account, and the lines that wait."""
    lost = {reason: count for reason, count in sorted(tally.lost.items(), key=lambda item: -item[1]) if count}
    exposed = tally.accounted + pending
    return Summary(
        exposed=exposed,
        judged=tally.judged,
        lost=lost,
        outside=tally.outside,
        pending=pending,
        metres=exposed * scale.mm_per_line / 1000,
        judged_metres=tally.judged * scale.mm_per_line / 1000,
        defects=tally.defects,
        kept_up=kept_up,
        seconds=seconds,
    )
