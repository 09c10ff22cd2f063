"""How a web is inspected."""

from __future__ import annotations

from dataclasses import dataclass, field

from acl_runtime.files.errors import InputError
from acl_runtime.scoring.rule import Rule
from acl_runtime.web.light import Light
from acl_runtime.web.records import Lane, Scale


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """How a web is inspected.

    Attributes:
        rule: From which score and which peak on there is a defect.
        region_threshold: Smallest map value that belongs to a defect, in [0, 1].
        scale: How large lines and pixels are.
        light: What lines must look like to be judged.
        lanes: Parts of the width that defects are told for.
        ignored: Parts of the width that do not count, such as a printed edge; their names are not used.
        edge_margin: Pixels beside the web's edges, inside, on which nothing is told; for a background that is known.
        max_batch: Most tiles of a call of the network.
        rows: Rows of tiles that share calls: more fill batches of a narrow web, and each costs a step of latency.
        longest: Lines after which a defect is told in part.
        most: Defects of a row beyond which they are told as one, a flood.
        flush_after_s: Time without lines after which the web is said to stand, and what waits is judged.
        after_standstill: Lines that are not judged when it moves again, because the exposure was another.
        keeps_pictures: Whether defects come with pictures.
    """

    rule: Rule
    region_threshold: float
    scale: Scale
    light: Light = field(default_factory=Light)
    lanes: tuple[Lane, ...] = ()
    ignored: tuple[Lane, ...] = ()
    edge_margin: int = 0
    max_batch: int = 1
    rows: int = 1
    longest: int = 20_000
    most: int = 500
    flush_after_s: float = 2.0
    after_standstill: int = 16
    keeps_pictures: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in ("max_batch", "rows", "longest", "most"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        for name in ("edge_margin", "after_standstill"):
            if (value := getattr(self, name)) < 0:
                raise InputError(f"{name} must not be negative, got {value}")
        if not self.flush_after_s > 0:
            raise InputError(f"flush_after_s must be above 0, got {self.flush_after_s}")
