"""Flat field: takes what lens, lamp and sensor do to each pixel out of the lines, so that they leave no stripes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from acl_runtime.files.errors import InputError
from acl_runtime.web.reference import HOT, LEAST_LIGHT, REMEDY, Reference, load_reference

MOST_GAIN = 4.0
_ROWS = 32  # lines that are corrected at once: what they take stays in the processor's cache


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
            span < LEAST_LIGHT * full_scale,
            "see no light",
            "clean lens and glass and check the lamp",
        )
        _refuse(
            inside,
            dark.mean > HOT * full_scale,
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
                f"lines are {lines.shape[1:]} {lines.dtype}, the flat field {self._shape} {self._dtype}; {REMEDY}"
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
