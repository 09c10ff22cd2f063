"""A bounded queue in a folder: what waits is there after a kill and after a power cut."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import deque
from pathlib import Path

from acl_runtime.files.atomic import atomic_file

_NAME = re.compile(r"\d{20}-[0-9a-f-]{36}\.json")


class Spool:
    """Files in the order in which they were added; one thread may add and another take."""

    def __init__(self, folder: Path, *, most: int) -> None:
        """Go on with what is there; files of other names stay and are not read.

        Args:
            folder: Made if absent.
            most: Files; a further one drops the oldest.

        Raises:
            OSError: The disk is away.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._most = folder, most
        self._lock = threading.Lock()
        self._names = deque(sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)))
        self._last = int(self._names[-1].partition("-")[0]) if self._names else 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._names)

    def add(self, data: bytes) -> None:
        """Put one behind the others; when this returns it is on the disk.

        Raises:
            OSError: The disk is full or away.
        """
        number = max(self._last + 1, time.time_ns())  # rises though the clock may be set back
        name = f"{number:020d}-{uuid.uuid4()}.json"
        with atomic_file(self._folder / name) as temporary:
            temporary.write_bytes(data)
        with self._lock:
            self._last = number
            self._names.append(name)
            excess = [self._names.popleft() for _ in range(len(self._names) - self._most)]
            self.dropped += len(excess)
        for old in excess:
            (self._folder / old).unlink(missing_ok=True)

    def oldest(self) -> tuple[str, bytes] | None:
        """Name and content of the oldest; None if there is none. One that somebody deleted is passed over.

        Raises:
            OSError: The disk is away.
        """
        while self._names:
            name = self._names[0]
            try:
                return name, (self._folder / name).read_bytes()
            except FileNotFoundError:
                self.remove(name)
        return None

    def remove(self, name: str) -> None:
        """Take one away, if it is still there."""
        with self._lock:
            if self._names and self._names[0] == name:
                self._names.popleft()
        (self._folder / name).unlink(missing_ok=True)


def delivery_id(name: str) -> str:
    """What stays the same however often one is posted."""
    return name.partition("-")[2].removesuffix(".json")
