"""A station's pictures in folders by verdict, as labelling tools read them, within a quota: the oldest go."""

from __future__ import annotations

import re
import shutil
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.clutter import OVERLAY
from acl_runtime.files.errors import InputError
from acl_runtime.outputs.delivery import Delivery, Limits, PeerError, RefusedError
from acl_runtime.outputs.pictures import draw_overlay
from acl_runtime.outputs.station import PartResult, StationControl, StationEvent, WebRecord
from acl_runtime.outputs.station_json import utc
from acl_runtime.text.names import slug

FOLDERS = {"ok": "good", "ng": "bad", "not judged": "unjudged"}
_OWN = re.compile(r"(pictures|overlays)/\d{4}-\d\d-\d\d/((good|bad|unjudged)/)?\d{10}_[^/]*\.png")
_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "folder"`.

    Attributes:
        folder: Gets pictures/DAY/good, bad and unjudged, and overlays/DAY; days are those of UTC.
        keep: Whether pictures of parts that are "ng" or not judged are kept, or of "all".
        overlays: Whether the frame under its anomaly map is kept too.
        quota_mb: Size that all pictures may have together.
        least_free_mb: Size that stays free on the disk; below it the oldest pictures go too.
        most_waiting: Pictures that wait for the disk, in memory.
    """

    folder: Path
    keep: Literal["ng", "all"] = "ng"
    overlays: bool = True
    quota_mb: float = 10_000.0
    least_free_mb: float = 1_000.0
    most_waiting: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.quota_mb > 0:
            raise InputError(f"quota_mb must be above 0, got {self.quota_mb:g}")
        if not self.least_free_mb >= 0:
            raise InputError(f"least_free_mb must be 0 or more, got {self.least_free_mb:g}")
        if not 1 <= self.most_waiting <= 1000:
            raise InputError(f"most_waiting must be 1 to 1000, got {self.most_waiting}")


def open_output(options: Options, control: StationControl, name: str) -> Delivery:
    """Keep pictures, once the disk takes them; see `StationOutput`."""
    limits = Limits(most_waiting=options.most_waiting)
    return Delivery(name, partial(PictureFolder, options), partial(_prepare, options.keep), limits)


_Item = tuple[str, str, np.ndarray, Inspected | None]  # day, name below it, picture, what is drawn


def _prepare(keep: str, event: StationEvent) -> _Item | None:
    if isinstance(event, WebRecord):
        if event.picture is None:
            return None
        return utc(time.time())[:10], f"bad/{event.number:010d}_{slug(event.camera)}.png", event.picture, None
    if not (isinstance(event, PartResult) and isinstance(event.result, Inspected)):
        return None
    if keep == "ng" and event.verdict == "ok":
        return None
    name = f"{FOLDERS[event.verdict]}/{event.number:010d}_{slug(event.camera)}.png"
    return utc(event.exposed_at)[:10], name, event.result.frame.frame, event.result


class PictureFolder:
    """The disk; see `Peer`."""

    def __init__(self, options: Options) -> None:
        """Look what is there; only files that an output like this wrote are ever deleted.

        Raises:
            OSError: The disk is away.
        """
        self._options, self._folder = options, options.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        found = [path for path in self._folder.glob("*/*/**/*.png") if self._is_own(path)]
        found.sort(key=lambda path: (path.relative_to(self._folder).parts[1], path.name))
        self._files = deque((path, path.stat().st_size) for path in found)  # oldest first
        self._size = sum(size for _, size in self._files)

    def deliver(self, item: _Item) -> None:
        """Write a picture and its overlay; errors as of `Peer`."""
        day, name, picture, result = item
        self._write(self._folder / "pictures" / day / name, picture)
        if self._options.overlays and result is not None:
            overlay = Path(name).name.removesuffix(".png") + OVERLAY
            self._write(
                self._folder / "overlays" / day / overlay, draw_overlay(result.frame.frame, result.verdict)
            )

    def idle(self) -> None:
        """Do nothing: a disk that is full is known when it is written to."""

    def close(self) -> None:
        """Do nothing: every file is whole."""

    def _write(self, path: Path, picture: np.ndarray) -> None:
        try:
            is_encoded, data = cv2.imencode(".png", picture)
        except cv2.error as error:
            raise RefusedError(f"{path.name} cannot be written as PNG ({error})") from error
        if not is_encoded:
            raise RefusedError(f"{path.name} cannot be written as PNG")
        if data.nbytes > self._options.quota_mb * _MB:
            raise RefusedError(f"{path.name} alone is larger than quota_mb")
        self._make_room(data.nbytes)
        with atomic_file(path, durable=False) as temporary:
            temporary.write_bytes(data.tobytes())
        self._files.append((path, data.nbytes))
        self._size += data.nbytes

    def _make_room(self, size: int) -> None:
        while not self._fits(size):
            if not self._files:
                raise PeerError(
                    f"{self._folder}: less than {self._options.least_free_mb:g} MB (least_free_mb) are free, and no "
                    "picture is left to delete; make room"
                )
            old, old_size = self._files.popleft()
            old.unlink(missing_ok=True)
            self._size -= old_size
            for folder in (old.parent, old.parent.parent):
                if folder != self._folder and not any(folder.iterdir()):
                    folder.rmdir()

    def _fits(self, size: int) -> bool:
        is_free = shutil.disk_usage(self._folder).free - size >= self._options.least_free_mb * _MB
        return is_free and self._size + size <= self._options.quota_mb * _MB

    def _is_own(self, path: Path) -> bool:
        return _OWN.fullmatch(path.relative_to(self._folder).as_posix()) is not None
