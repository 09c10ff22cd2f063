"""Who changed thresholds, and when: lines that are only ever added, beside the index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.evidence.files import sync
from acl_runtime.outputs.line_file import LineFile
from acl_runtime.outputs.station import ThresholdsChange
from acl_runtime.outputs.station_json import utc
from acl_runtime.scoring.rule import Rule, rule_words

CHANGES = "thresholds.jsonl"


def note_change(folder: Path, change: ThresholdsChange) -> None:
    """Add a change; when this returns it lasts.

    Raises:
        OSError: The disk is full or away.
        InputError: Another process writes the file.
    """
    path = folder / CHANGES
    line = {
        "at": utc(change.at),
        "by": change.by,
        "how": change.how,
        "before": vars(change.before),
        "now": vars(change.now),
    }
    file = LineFile(path, append=True)
    try:
        file.mend()
        file.write(json.dumps(line, ensure_ascii=False))
    finally:
        file.close()
    sync([path])


def change_lines(folder: Path) -> list[str]:
    """Each change in a line, the oldest first; none where nobody changed any.

    Raises:
        InputError: The file is not what `note_change` wrote.
    """
    path = folder / CHANGES
    if not path.is_file():
        return []
    try:
        return [_words(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: has a line that is no change of thresholds ({error}); take it out"
        ) from error


def _words(change: dict[str, Any]) -> str:
    rules = [Rule(each["score"], each["peak"]) for each in (change["before"], change["now"])]
    before, now = map(rule_words, rules)
    return (
        f"{change['at'][:19].replace('T', ' ')}  {change['how']} by {change['by']}: NG from {before} becomes {now}; "
        f"{change['now']['statement']}"
    )
