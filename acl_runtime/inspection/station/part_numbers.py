"""Numbers of parts, without holes and never given twice, whatever ends the process.

What the disk's cache has survives `kill -9`, so each number is written down before its part is judged, without waiting
for the disk. A power cut loses the last of it: for that a ceiling is kept on the disk itself, ahead of the numbers, and
after a power cut numbers go on behind it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import zlib
from pathlib import Path
from typing import Any

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError

LOG = logging.getLogger("acl")
AHEAD = 1000  # numbers below the ceiling when it is raised
_SLOT = 1 << 20  # bytes, of 10 000 parts; two are written in turn, so that one is always whole
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class PartNumbers:
    """The numbers of a station, in a folder that one process has; not for several threads at once."""

    def __init__(self, folder: Path, *, boot: str | None = None) -> None:
        """Go on where the last process ended.

        Args:
            folder: Made if absent.
            boot: What is another after each start of the machine; None to ask the system.

        Raises:
            InputError: The folder's files are damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._boot = _boot_id() if boot is None else boot
        self._raising = threading.Lock()
        self.problem = ""  # why the ceiling cannot be raised
        self._ceiling_path = folder / "numbers.ceiling"
        self._file = os.open(folder / "numbers", os.O_RDWR | os.O_CREAT, 0o644)
        record = self._read()
        self._turn: int = record.get("turn", 0)
        self._open: dict[int, str] = dict(record.get("open", []))
        self._ceiling = _read_ceiling(self._ceiling_path)
        self.last: int = record.get("last", 0)
        self.left: tuple[tuple[int, str], ...] = tuple(self._open.items())
        """Parts that the last process numbered and told nobody of, with their cameras."""
        if not (self._boot and record.get("boot") == self._boot):
            if self._ceiling > self.last:
                LOG.warning(
                    "numbers %d to %d are not used, because the machine stopped without warning",
                    self.last + 1,
                    self._ceiling,
                )
            self.last = max(self.last, self._ceiling)
        self._ceiling = max(self._ceiling, self.last)
        self.keep_ahead()
        os.posix_fallocate(self._file, 0, 2 * _SLOT)  # both have their place, should the disk be full later
        self._write()

    def reserve(self, camera: str) -> int:
        """The next number; it is written down when this returns."""
        if self.last + 1 > self._ceiling:
            self.keep_ahead()
        self.last += 1
        self._open[self.last] = camera
        self._write()
        return self.last

    def told(self, number: int) -> None:
        """Say that everybody was told of a part."""
        del self._open[number]
        self._write()

    def keep_ahead(self) -> None:
        """Raise the ceiling on the disk where it is near; call it now and then from any thread: it waits for the disk.

        Where the disk is full it says so in `problem`, and numbers are safe from a kill, but not from a power cut.
        """
        with self._raising:
            if self._ceiling - self.last >= AHEAD // 2:
                return
            try:
                self._set_ceiling(self.last + AHEAD)
            except OSError as error:
                self.problem = f"numbers are not safe from a power cut: {error.strerror}"
            else:
                self.problem = ""

    def close(self) -> None:
        """End without a hole; may be called twice."""
        if self._file < 0:
            return
        with self._raising:
            self._set_ceiling(self.last)
        os.fsync(self._file)
        os.close(self._file)
        self._file = -1

    def _set_ceiling(self, ceiling: int) -> None:
        with atomic_file(self._ceiling_path) as temporary:
            temporary.write_text(f"{ceiling}\n", encoding="ascii")
        self._ceiling = ceiling

    def _write(self) -> None:
        self._turn += 1
        record = {"turn": self._turn, "last": self.last, "open": [*self._open.items()], "boot": self._boot}
        text = json.dumps(record).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        assert len(line) <= _SLOT
        os.pwrite(self._file, line, self._turn % 2 * _SLOT)

    def _read(self) -> dict[str, Any]:
        found = [_parse_slot(os.pread(self._file, _SLOT, slot * _SLOT)) for slot in range(2)]
        return max((each for each in found if each), key=lambda record: int(record["turn"]), default={})


def _parse_slot(data: bytes) -> dict[str, Any] | None:
    """A record, or None for one that was never written or is torn."""
    checksum, _, text = data.partition(b"\n")[0].partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    record: dict[str, Any] = json.loads(text)
    return record


def _read_ceiling(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise InputError(f"{path}: is damaged; write the number of the last part into it") from error


def _boot_id() -> str:
    """Of the machine's start; empty where the system does not say: then numbers go on behind the ceiling."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
