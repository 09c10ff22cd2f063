"""Flat field: what each pixel sees in the dark and in even light, so that lens, lamp and sensor leave no stripes.

A reference is a folder's `dark.npz` and `dark.json`, or `bright.npz` and `bright.json`: the mean of each pixel over
many lines, and when, with what and how it was taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from acl_runtime.files.arrays import read_arrays
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_document

Kind = Literal["dark", "bright"]
VERSION = 1
MOST_GAIN = 4.0
_LEAST_LIGHT = 0.03  # of the full scale, between dark and bright
_HOT = 0.25  # of the full scale, in the dark
_SATURATED = 0.98  # of the full scale
_ROWS = 32  # lines that are corrected at once: what they take stays in the processor's cache
_REMEDY = "take it again with acl camera reference"


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

    def __init__(self, kind: Kind, *, source: str, settings: Sequence[tuple[str, str]] = ()) -> None:
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
        remedy=_REMEDY,
    )
    (mean,) = read_arrays(path.with_suffix(".npz"), ["mean"], remedy=_REMEDY)
    is_line = mean.ndim == 1 or (mean.ndim == 2 and mean.shape[1] == 3)
    if facts.kind != kind or not is_line or mean.size == 0 or facts.full_scale not in (255, 65535):
        raise InputError(f"{path}: is not the {kind} reference of a camera; {_REMEDY}")
    if mean.min() < 0 or mean.max() > facts.full_scale:
        raise InputError(f"{path}: has means beyond 0 to {facts.full_scale}; {_REMEDY}")
    return Reference(mean, facts)


def load_flat_field(folder: Path, *, columns: range | None = None) -> FlatField:
    """The correction by `dark` and `bright` of a folder; see `FlatField`."""
    return FlatField(load_reference(folder, "dark"), load_reference(folder, "bright"), columns=columns)


class FlatField:
    """Corrects lines: (pixel - dark) · target / (bright - dark), rounded and kept within the full scale.

    What was as bright as the bright reference is `target` everywhere, and black is 0.
    """

    def __init__(
        self,
        dark: Reference,
        bright: Reference,
        *,
        target: float | None = None,
        columns: range | None = None,
    ) -> None:
        """Compute each pixel's gain.

        Args:
            dark: What the pixels show without light.
            bright: What they show in even light.
            target: What the bright reference becomes, in the camera's units; None for the median of its brightness,
                which leaves the picture as bright as it was.
            columns: Pixels that see the web, the only ones that must be sound; None for all. Those beside stay as
                they are.

        Raises:
            InputError: The references do not belong together, or pixels are dead, hot or need more than `MOST_GAIN`;
                the message names them.
        """
        _check_pair(dark, bright)
        full_scale = bright.facts.full_scale
        self.width = len(bright.mean)
        inside = np.zeros(self.width, bool)
        inside[(columns or range(self.width)).start : (columns or range(self.width)).stop] = True
        span = bright.mean - dark.mean
        _refuse(
            inside,
            span < _LEAST_LIGHT * full_scale,
            "see no light",
            "clean lens and glass and check the lamp",
        )
        _refuse(
            inside,
            dark.mean > _HOT * full_scale,
            "are bright in the dark",
            "cover the lens and take it again",
        )
        target = float(np.median(span[inside])) if target is None else target
        gain = target / np.where(span > 0, span, 1)
        remedy = (
            f"a gain above {MOST_GAIN:g}",
            "even out the lamp, open the lens, or leave pixels beside the web out",
        )
        _refuse(inside, gain > MOST_GAIN, f"need {remedy[0]}", remedy[1])
        gain[~inside] = 1
        self._dtype = np.dtype(np.uint8 if full_scale == 255 else np.uint16)
        self._shape = bright.mean.shape
        rows = (_ROWS, bright.mean.size)
        self._gain = np.ascontiguousarray(np.broadcast_to(gain.ravel(), rows), np.float32)
        offset = np.where(inside, (dark.mean * gain).T, 0).T.ravel()
        self._offset = np.ascontiguousarray(np.broadcast_to(offset, rows), np.float32)
        self._scaled = np.empty(rows, np.float32)

    def __call__(self, lines: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Correct lines.

        Args:
            lines: (n, W) grey or (n, W, 3) BGR, of the references' type; contiguous.
            out: Where to write; may be `lines` itself. None for a new array.

        Returns:
            The same shape and type.

        Raises:
            InputError: The lines are of another width or type than the references.
        """
        if lines.shape[1:] != self._shape or lines.dtype != self._dtype:
            raise InputError(
                f"lines are {lines.shape[1:]} {lines.dtype}, the flat field {self._shape} {self._dtype}; {_REMEDY}"
            )
        out = np.empty_like(lines) if out is None else out
        flat, flat_out = lines.reshape(len(lines), -1), out.reshape(len(lines), -1)
        kind = cv2.CV_8U if self._dtype == np.uint8 else cv2.CV_16U
        for begin in range(0, len(lines), _ROWS):
            part = flat[begin : begin + _ROWS]
            count = len(part)
            cv2.multiply(part, self._gain[:count], dst=self._scaled[:count], dtype=cv2.CV_32F)
            place = flat_out[begin : begin + count]
            cv2.subtract(
                self._scaled[:count], self._offset[:count], dst=place, dtype=kind
            )  # rounds and saturates
        return out


def _check_light(mean: np.ndarray, facts: ReferenceFacts) -> None:
    """Refuse a reference that was taken in the wrong light, while the user stands beside the camera."""
    middle, full_scale = float(np.median(mean)), facts.full_scale
    if facts.kind == "dark" and middle > _HOT * full_scale:
        raise InputError(
            f"half the pixels are above {middle:.0f} of {full_scale} in the dark; cover the lens"
        )
    if facts.kind == "bright" and middle < _LEAST_LIGHT * full_scale:
        raise InputError(f"half the pixels are below {middle:.0f} of {full_scale}; switch the lamp on")
    saturated = int((mean.reshape(len(mean), -1) > _SATURATED * full_scale).any(axis=1).sum())
    if facts.kind == "bright" and saturated:
        raise InputError(
            f"{saturated} pixels are saturated in the bright reference; expose shorter, or dim the lamp, until the "
            f"brightest is near {0.8 * full_scale:.0f} of {full_scale}"
        )


def _check_pair(dark: Reference, bright: Reference) -> None:
    one, other = dark.facts, bright.facts
    if dark.mean.shape != bright.mean.shape or one.full_scale != other.full_scale:
        kinds = " and ".join(f"{each.mean.shape} of {each.facts.full_scale}" for each in (dark, bright))
        raise InputError(
            f"dark and bright reference are of other lines ({kinds}); take both with the same settings"
        )
    if one.settings != other.settings:
        raise InputError(
            f"dark and bright reference were taken with other settings ({', '.join(one.settings) or 'none'}; "
            f"{', '.join(other.settings) or 'none'}); take both with the same"
        )


def _refuse(inside: np.ndarray, is_bad: np.ndarray, what: str, remedy: str) -> None:
    bad = np.flatnonzero(inside & is_bad.reshape(len(inside), -1).any(axis=1))
    if len(bad):
        raise InputError(f"{len(bad)} pixels {what} ({_ranges(bad)}); {remedy}")


def _ranges(numbers: np.ndarray, *, most: int = 5) -> str:
    """`3, 17-20 and 4 more places`."""
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    words = [str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more places" if len(words) > most else "")
