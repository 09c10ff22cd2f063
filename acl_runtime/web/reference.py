"""Dark and bright references: what each pixel of a camera sees, averaged over many lines.

A reference is a folder's `dark.npz` and `dark.json`, or `bright.npz` and `bright.json`: the means, and when, with what
and how they were taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np

from acl_runtime.files.arrays import read_arrays
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_document
from acl_runtime.sources.address import Setting
from acl_runtime.sources.genicam import split_settings
from acl_runtime.sources.grab import iter_blocks
from acl_runtime.sources.lines import open_line_source, parse_source

Kind = Literal["dark", "bright"]
VERSION = 1
LEAST_LIGHT = 0.03  # of the full scale, between dark and bright
HOT = 0.25  # of the full scale, in the dark
_SATURATED = 0.98  # of the full scale
REMEDY = "take it again with acl camera reference"


@dataclass(frozen=True, kw_only=True)
class ReferenceFacts:
    """What `dark.json` or `bright.json` says.

    Attributes:
        format: Always "acl-flat-field".
        format_version: 1.
        kind: What the camera looked at: nothing, its lens covered; or an even bright surface.
        created: When, UTC, as ISO 8601.
        source: The camera, as the user wrote it.
        settings: GenICam settings as NAME=VALUE.
        lines: How many were averaged.
        full_scale: Largest value of a pixel, 255 or 65535.
    """

    format: Literal["acl-flat-field"] = "acl-flat-field"
    format_version: int = VERSION
    kind: Kind
    created: str
    source: str
    settings: tuple[str, ...]
    lines: int
    full_scale: int


@dataclass(frozen=True, eq=False)
class Reference:
    """Means of (W,) grey or (W, 3) BGR pixels, float64 in the camera's units, and the facts beside them."""

    mean: np.ndarray
    facts: ReferenceFacts


class ReferenceTaker:
    """Averages lines of a camera."""

    def __init__(self, kind: Kind, *, source: str, settings: Sequence[Setting] = ()) -> None:
        """Begin with none.

        Args:
            kind: What the camera looks at.
            source: As the user wrote it.
            settings: Names and values that were written to it.
        """
        self._kind, self._source = kind, source
        self._settings = tuple(f"{name}={value}" for name, value in settings)
        self._sum: np.ndarray | None = None
        self._full_scale = 0
        self.lines = 0

    def add(self, lines: np.ndarray) -> None:
        """Count (n, W) or (n, W, 3) lines of uint8 or uint16 in; all must be of one kind."""
        total = lines.sum(axis=0, dtype=np.float64)
        if self._sum is None:
            self._sum, self._full_scale = np.zeros_like(total), int(np.iinfo(lines.dtype).max)
        self._sum += total
        self.lines += len(lines)

    def reference(self, now: datetime | None = None) -> Reference:
        """The reference of the lines so far.

        Raises:
            InputError: They are none, or of no use: a dark one with light, a bright one without or saturated.
        """
        if self._sum is None:
            raise InputError(f"{self._source}: gave no complete line; check the camera's link")
        mean = self._sum / self.lines
        facts = ReferenceFacts(
            kind=self._kind,
            created=(now or datetime.now(timezone.utc)).isoformat(timespec="seconds"),
            source=self._source,
            settings=self._settings,
            lines=self.lines,
            full_scale=self._full_scale,
        )
        _check_light(mean, facts)
        return Reference(mean, facts)


def take_reference(text: str, settings: Sequence[Setting], kind: Kind, *, lines: int) -> Reference:
    """Open a camera and average its lines.

    Args:
        text: As of `open_line_source`.
        settings: As there.
        kind: What the camera looks at.
        lines: How many at least; whole blocks are taken, incomplete ones are passed over.

    Raises:
        InputError: The lines are of no use, see `ReferenceTaker`, or the camera is not called so.
        SourceError: The camera is away or sends nothing.
    """
    _, of_text = split_settings(parse_source(text))
    taker = ReferenceTaker(kind, source=text.partition("?")[0], settings=[*settings, *of_text])
    with closing(open_line_source(text, settings)) as source:
        for block in iter_blocks(source):
            if block.complete:
                taker.add(block.lines)
            if taker.lines >= lines:
                break
    return taker.reference()


def save_reference(folder: Path, reference: Reference) -> Path:
    """Write a reference into a folder, which is made; returns the path of its JSON, which is written last."""
    path = folder / f"{reference.facts.kind}.json"
    with atomic_file(path.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
        np.savez(file, mean=reference.mean)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(reference.facts), indent=2) + "\n", encoding="utf-8")
    return path


def load_reference(folder: Path, kind: Kind) -> Reference:
    """Read a reference of a folder.

    Raises:
        InputError: It is damaged, or of another kind than its name says.
        FileNotFoundError: There is none.
    """
    path = folder / f"{kind}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file; take it with acl camera reference SOURCE {kind} -o {folder}"
        )
    facts = read_document(
        path,
        ReferenceFacts,
        kind="flat field reference",
        format_name="acl-flat-field",
        newest=VERSION,
        remedy=REMEDY,
    )
    (mean,) = read_arrays(path.with_suffix(".npz"), ["mean"], remedy=REMEDY)
    is_line = mean.ndim == 1 or (mean.ndim == 2 and mean.shape[1] == 3)
    if facts.kind != kind or not is_line or mean.size == 0 or facts.full_scale not in (255, 65535):
        raise InputError(f"{path}: is not the {kind} reference of a camera; {REMEDY}")
    if mean.min() < 0 or mean.max() > facts.full_scale:
        raise InputError(f"{path}: has means beyond 0 to {facts.full_scale}; {REMEDY}")
    return Reference(mean, facts)


def _check_light(mean: np.ndarray, facts: ReferenceFacts) -> None:
    """Refuse a reference that was taken in the wrong light, while the user stands beside the camera."""
    middle, full_scale = float(np.median(mean)), facts.full_scale
    if facts.kind == "dark" and middle > HOT * full_scale:
        raise InputError(
            f"half the pixels are above {middle:.0f} of {full_scale} in the dark; cover the lens"
        )
    if facts.kind == "bright" and middle < LEAST_LIGHT * full_scale:
        raise InputError(f"half the pixels are below {middle:.0f} of {full_scale}; switch the lamp on")
    saturated = int((mean.reshape(len(mean), -1) > _SATURATED * full_scale).any(axis=1).sum())
    if facts.kind == "bright" and saturated:
        raise InputError(
            f"{saturated} pixels are saturated in the bright reference; expose shorter, or dim the lamp, until the "
            f"brightest is near {0.8 * full_scale:.0f} of {full_scale}"
        )
