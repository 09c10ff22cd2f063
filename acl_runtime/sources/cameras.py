"""Which cameras are there, by each library that can ask."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from acl_runtime.files.errors import SourceError
from acl_runtime.sources.found import FoundCamera
from acl_runtime.text.names import natural_key

_VIDEO = Path("/sys/class/video4linux")


def list_cameras() -> tuple[list[FoundCamera], list[str]]:
    """The cameras that answer, and which kinds could not be asked for, and why."""
    cameras: list[FoundCamera] = []
    problems: list[str] = []
    for ask in LISTS:
        try:
            cameras += ask()
        except SourceError as error:
            problems.append(str(error))
    return cameras, problems


def list_video_devices(folder: Path = _VIDEO) -> list[FoundCamera]:
    """USB and CSI cameras that Linux knows as /dev/videoN, which OpenCV opens by its number."""
    if sys.platform != "linux" or not folder.is_dir():
        return []
    return [
        FoundCamera(
            source=f"opencv:{device.name.removeprefix('video')}",
            model=(device / "name").read_text(encoding="utf-8", errors="replace").strip(),
            serial="",
            address=f"/dev/{device.name}",
            link="Video4Linux",
        )
        for device in sorted(folder.glob("video*"), key=lambda device: natural_key(device.name))
        if (device / "index").read_text().strip() == "0"  # the others of a camera give no pictures
    ]


def _list_aravis() -> list[FoundCamera]:
    from acl_runtime.sources.aravis import list_aravis

    return list_aravis()


def _list_basler() -> list[FoundCamera]:
    if find_spec("pypylon") is None:  # Basler's GigE and USB3 cameras answer Aravis too
        return []
    from acl_runtime.sources.basler import list_basler

    return list_basler()


LISTS: tuple[Callable[[], list[FoundCamera]], ...] = (_list_aravis, _list_basler, list_video_devices)
