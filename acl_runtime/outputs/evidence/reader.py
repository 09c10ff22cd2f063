"""Read an evidence store while it is written: connections that only read, every query on an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.evidence.files import Which, file_of
from acl_runtime.outputs.evidence.index import SELECT, read_only
from acl_runtime.outputs.evidence.record import Evidence, from_row

MOST = 1000  # records of one answer
MOST_CONTRADICTIONS = 1000  # that are counted


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much a store holds.

    Attributes:
        rows: Records by verdict and review; the latter is empty where nobody has looked.
        size: Bytes of the files.
    """

    rows: Mapping[tuple[str, str], int]
    size: int

    def total(self, *, verdict: str | None = None, review: str | None = None) -> int:
        """Records of a verdict, of a review, or of both."""
        return sum(
            count
            for (one, other), count in self.rows.items()
            if verdict in (None, one) and review in (None, other)
        )


@dataclass(frozen=True, kw_only=True)
class Contradictions:
    """Reviews that say otherwise than the bundle that judges now.

    Attributes:
        bundle: First characters of the checksum of its manifest.
        wrong_rejects: Parts that were NG, and good to a person.
        reviewed_rejects: All NG parts that a person called good or a defect.
        escapes: Parts that were OK, and defective to a person.
        is_web: Whether the last record is of a web.
    """

    bundle: str
    is_web: bool
    wrong_rejects: int
    reviewed_rejects: int
    escapes: int


class EvidenceReader:
    """Reads a store, from any thread; each call opens a connection of its own, so that an index may be replaced."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is looked at with each call."""
        self.folder = folder

    def records(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        verdict: str | None = None,
        review: str | None = None,
        part_id: str | None = None,
    ) -> list[Evidence]:
        """Records, the newest first; with `after` those behind it, the oldest first.

        Args:
            after: Only larger numbers.
            before: Only smaller numbers.
            limit: Records at most, 1 to `MOST`.
            verdict: "ok", "ng" or "not judged"; "rejected" for the latter two.
            review: One of `MARKS`; "" for those that nobody reviewed.
            part_id: As the PLC named it.

        Raises:
            InputError: There is no index, it cannot be read, or a value cannot be.
        """
        if not 1 <= limit <= MOST:
            raise InputError(f"limit must be 1 to {MOST}, got {limit}")
        wanted: list[tuple[str, Sequence[Any]]] = []
        if after is not None:
            wanted.append(("number > ?", [after]))
        if before is not None:
            wanted.append(("number < ?", [before]))
        if verdict not in (None, "ok"):
            wanted.append(("verdict <> 'ok'", []))  # what the indices of rejects say of themselves
        if verdict not in (None, "rejected"):
            wanted.append(("verdict = ?", [verdict]))
        if review is not None:
            wanted.append(("review = ''", []) if review == "" else ("review <> '' AND review = ?", [review]))
        if part_id is not None:
            wanted.append(("part_id <> '' AND part_id = ?", [part_id]))
        where = f"WHERE {' AND '.join(text for text, _ in wanted)}" if wanted else ""
        order = "DESC" if after is None else "ASC"
        values = [value for _, each in wanted for value in each]
        rows = self._all(f"{SELECT} {where} ORDER BY number {order} LIMIT ?", [*values, limit])
        return [from_row(row) for row in rows]

    def record(self, number: int) -> Evidence | None:
        """The record of a number; None if there is none. Errors as of `records`."""
        rows = self._all(f"{SELECT} WHERE number = ?", [number])
        return from_row(rows[0]) if rows else None

    def picture_path(self, number: int, which: Which = "picture") -> Path | None:
        """The file of a record's picture, or of its overlay; None where there is none. Errors as of `records`.

        The path is made of what the index has; nothing of it comes from outside but the number.
        """
        if which not in ("picture", "overlay"):
            raise InputError(f"there is a picture and an overlay, got {which!r}")
        found = self.record(number)
        if found is None or not (found.picture if which == "picture" else found.has_overlay):
            return None
        path = file_of(self.folder, found, which)
        return path if path.is_file() else None

    def counts(self) -> Counts:
        """How much there is. Errors as of `records`."""
        rows = self._all("SELECT verdict, review, rows, size FROM tallies WHERE rows > 0", [])
        return Counts(
            rows={(verdict, review): count for verdict, review, count, _ in rows},
            size=sum(size for *_, size in rows),
        )

    def samples(self, *, after: int = 0, limit: int = MOST) -> list[Evidence]:
        """OK parts kept because every Nth is, that nobody reviewed, the oldest first; errors as of `records`."""
        query = (
            f"{SELECT} INDEXED BY spare_files WHERE review = '' AND size > 0 AND (verdict <> 'ok') = 0 "
            "AND number > ? AND is_sample = 1 AND picture <> '' ORDER BY number LIMIT ?"
        )
        return [from_row(row) for row in self._all(query, [after, limit])]

    def contradictions(self) -> Contradictions:
        """What reviews say against the bundle that judges now; errors as of `records`."""
        newest = self._all("SELECT bundle, kind FROM records ORDER BY number DESC LIMIT 1", [])
        bundle, kind = newest[0] if newest else ("", "part")
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM records WHERE review <> '' AND review = ? AND verdict = ? "
            f"AND bundle = ? LIMIT {MOST_CONTRADICTIONS})"
        )
        (good_ng, bad_ng, bad_ok) = (
            int(self._all(query, [review, verdict, bundle])[0][0])
            for review, verdict in (("good", "ng"), ("defect", "ng"), ("defect", "ok"))
        )
        return Contradictions(
            bundle=bundle,
            is_web=kind != "part",
            wrong_rejects=good_ng,
            reviewed_rejects=good_ng + bad_ng,
            escapes=bad_ok,
        )

    def _all(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with closing(read_only(self.folder)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{self.folder}: the index cannot be read ({error}); read it as the user who writes it, or while the "
                "service runs"
            ) from error
        except sqlite3.Error as error:
            raise InputError(
                f"{self.folder}: the index is damaged ({error}); acl evidence rebuild makes it again"
            ) from error
