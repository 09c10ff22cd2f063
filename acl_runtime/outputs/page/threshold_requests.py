"""What an administrator asks of the thresholds: read from a request's body, done, and told as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_strictly
from acl_runtime.outputs.page.feed import SeenPart
from acl_runtime.outputs.station import Proposal, ThresholdsControl, ThresholdsNow
from acl_runtime.scoring.rule import Rule

Asked = TypeVar("Asked")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Thresholds that somebody wants, and the `record` of those that he saw."""

    score: float
    peak: float | None
    seen: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The `record` of the thresholds that somebody saw."""

    seen: str


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The `id` of the proposal that somebody saw, and the `record` of the thresholds that it replaces."""

    proposal: str
    seen: str


def set_thresholds(
    body: bytes, thresholds: ThresholdsControl, parts: Sequence[SeenPart], by: str
) -> dict[str, Any]:
    """Set them by hand.

    Args:
        body: `Wanted` as JSON.
        thresholds: Of the station.
        parts: The last ones, to count whose verdict would change.
        by: Who asks.

    Raises:
        UserError: As of `ThresholdsControl.set`, or the body is no `Wanted`.
    """
    wanted = read_asked(Wanted, body)
    rule, now = Rule(wanted.score, wanted.peak), thresholds.now
    effect = count_changes(parts, Rule(now.score, now.peak), rule)
    return now_object(thresholds.set(wanted.score, wanted.peak, seen=wanted.seen, by=by, effect=effect))


def count_changes(parts: Sequence[SeenPart], before: Rule, rule: Rule) -> tuple[int, int]:
    """How many parts would have another verdict under a rule than under the one before, and of how many."""
    judged = [(part.score, part.peak) for part in parts if part.score is not None and part.peak is not None]
    changed = sum(before.is_anomalous(*values) != rule.is_anomalous(*values) for values in judged)
    return changed, len(judged)


def read_asked(kind: type[Asked], body: bytes) -> Asked:
    """A body as one of the classes above; InputError says what is wrong with it."""
    try:
        asked: Asked = read_strictly(kind, json.loads(body), "body")
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body must be JSON as in /api/openapi.json ({error})") from error
    return asked


def now_object(now: ThresholdsNow) -> dict[str, Any]:
    """Thresholds as JSON."""
    return dict(vars(now))


def proposal_object(proposal: Proposal | None) -> dict[str, Any] | None:
    """A proposal as JSON."""
    return None if proposal is None else dict(vars(proposal))
