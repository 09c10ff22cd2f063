"""The index of an evidence store: SQLite in WAL, written through one connection only.

SQLite before 3.51.3 can damage a WAL database where two connections write or checkpoint at once; readers open it with
`mode=ro` and do neither. `synchronous=FULL` makes a commit last through a power cut, if the disk tells the truth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.evidence.record import COLUMNS, Evidence, from_row, to_row

INDEX = "index.db"
VERSION = 1
SELECT = f"SELECT {', '.join(COLUMNS)} FROM records"
_REAL = (
    "time",
    "y_mm",
    "x_mm",
    "score",
    "peak",
    "threshold",
    "peak_threshold",
    "latency_ms",
    "reviewed_at",
)
_INTEGER = ("number", "is_sample", "has_overlay", "size")
_INSERT = f"INSERT INTO records VALUES ({', '.join('?' * len(COLUMNS))})"
_ORDER = "verdict <> 'ok', number"  # what goes first: good ones, and of these the oldest
_TALLY = (
    "INSERT INTO tallies VALUES ({row}.verdict, {row}.review, {sign}1, {sign}{row}.size) "
    "ON CONFLICT (verdict, review) DO UPDATE SET rows = rows {sign}1, size = size {sign}{row}.size;"
)


def _kind(name: str) -> str:
    if name == "number":
        return "INTEGER PRIMARY KEY"
    return "REAL" if name in _REAL else "INTEGER" if name in _INTEGER else "TEXT"


_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records ({", ".join(f"{name} {_kind(name)}" for name in COLUMNS)});
CREATE INDEX IF NOT EXISTS by_verdict ON records (verdict, number);
CREATE INDEX IF NOT EXISTS by_review ON records (review, number) WHERE review <> '';
CREATE INDEX IF NOT EXISTS by_review_of ON records (verdict, review, number) WHERE review <> '';
CREATE INDEX IF NOT EXISTS by_bundle ON records (bundle, verdict, review) WHERE review <> '';
CREATE INDEX IF NOT EXISTS rejects ON records (number) WHERE verdict <> 'ok';
CREATE INDEX IF NOT EXISTS open_rejects ON records (number) WHERE verdict <> 'ok' AND review = '';
CREATE INDEX IF NOT EXISTS open_rejects_of ON records (verdict, number) WHERE verdict <> 'ok' AND review = '';
CREATE INDEX IF NOT EXISTS by_part ON records (part_id, number) WHERE part_id <> '';
CREATE INDEX IF NOT EXISTS spare_files ON records ({_ORDER}) WHERE review = '' AND size > 0;
CREATE INDEX IF NOT EXISTS spare_rows ON records ({_ORDER}) WHERE review = '' AND size = 0;
CREATE TABLE IF NOT EXISTS tallies (verdict TEXT, review TEXT, rows INTEGER, size INTEGER,
    PRIMARY KEY (verdict, review)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON records BEGIN {_TALLY.format(row="new", sign="+")} END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON records BEGIN {_TALLY.format(row="old", sign="-")} END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE ON records BEGIN
    {_TALLY.format(row="old", sign="-")} {_TALLY.format(row="new", sign="+")} END;
"""


class Index:
    """The writing connection. Nothing lasts before `commit`; whoever opens it holds the folder."""

    def __init__(self, folder: Path) -> None:
        """Open the index, and make it where it is absent.

        Raises:
            InputError: It is of a newer version.
            sqlite3.Error: It is damaged or the disk is full or away.
        """
        self.path = folder / INDEX
        self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            (version,) = self._one("PRAGMA user_version")
            if version > VERSION:
                raise InputError(
                    f"{self.path}: is of version {version}, newer than {VERSION}; upgrade anomalyclip-deploy"
                )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA journal_size_limit = 4000000")
            self.is_complete = version == VERSION
            self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except BaseException:
            self._connection.close()
            raise
        self._identity = self._find_identity()

    def complete(self) -> None:
        """Note that it has all that the files have; until then whoever opens it rebuilds it."""
        self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self.is_complete = True

    def is_sound(self) -> bool:
        """Look at every page, which takes a second for some hundred thousand rows."""
        try:
            return bool(self._connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        except sqlite3.DatabaseError:
            return False

    def is_there(self) -> bool:
        """Whether the file is still the one that was opened."""
        return self._find_identity() == self._identity

    def close(self) -> None:
        """Close it; what was not committed is gone."""
        self._connection.close()

    def begin(self) -> None:
        """Begin a transaction."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it last."""
        self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Undo what was not committed."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def add(self, evidence: Evidence) -> None:
        """Add a record whose number is new."""
        self._connection.execute(_INSERT, to_row(evidence))

    def find(self, number: int) -> Evidence | None:
        """The record of a number."""
        row = self._connection.execute(f"{SELECT} WHERE number = ?", (number,)).fetchone()
        return None if row is None else from_row(row)

    def last(self) -> int:
        """The largest number; 0 without any."""
        (number,) = self._one("SELECT coalesce(max(number), 0) FROM records")
        return number

    def put(self, evidence: Evidence) -> None:
        """Replace the record of a number."""
        names = ", ".join(f"{name} = ?" for name in COLUMNS)
        self._connection.execute(
            f"UPDATE records SET {names} WHERE number = ?", (*to_row(evidence), evidence.number)
        )

    def forget_files(self, evidence: Evidence) -> None:
        """Note that the files of a record are gone."""
        self.put(replace(evidence, picture="", has_overlay=False, size=0))

    def next_spare(self) -> Evidence | None:
        """The record whose files go first: the oldest good one, else the oldest other that nobody reviewed."""
        row = self._connection.execute(
            f"{SELECT} INDEXED BY spare_files WHERE review = '' AND size > 0 ORDER BY {_ORDER} LIMIT 1"
        ).fetchone()
        return None if row is None else from_row(row)

    def thin_rows(self, most: int) -> None:
        """Delete rows without files or review, good ones first, so that at most so many rows stay, if they suffice."""
        count, _ = self.size()
        if count > most:
            self._connection.execute(
                "DELETE FROM records WHERE number IN (SELECT number FROM records INDEXED BY spare_rows "
                f"WHERE review = '' AND size = 0 ORDER BY {_ORDER} LIMIT ?)",
                (count - most,),
            )

    def size(self) -> tuple[int, int]:
        """Rows, and bytes of all files."""
        rows, size = self._one("SELECT coalesce(sum(rows), 0), coalesce(sum(size), 0) FROM tallies")
        return int(rows), int(size)

    def records(self) -> Iterator[Evidence]:
        """All records, by number; a damaged page ends it with sqlite3.DatabaseError."""
        number = 0
        while rows := self._connection.execute(
            f"{SELECT} WHERE number > ? ORDER BY number LIMIT 1000", (number,)
        ).fetchall():
            for row in rows:
                yield from_row(row)
            number = rows[-1][0]

    def _one(self, query: str) -> tuple[int, ...]:
        row: tuple[int, ...] = self._connection.execute(query).fetchone()
        return row

    def _find_identity(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino


def read_only(folder: Path) -> sqlite3.Connection:
    """A connection that only reads; also where nobody writes and the reader may not make what SQLite has beside it.

    Raises:
        InputError: There is no index.
        sqlite3.Error: It cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no {INDEX}; name the folder of an output of kind evidence, or run acl evidence rebuild"
        )
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{INDEX}-wal").exists():
            raise
        return _connect(path, "immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?{how}", uri=True, timeout=1.0)
