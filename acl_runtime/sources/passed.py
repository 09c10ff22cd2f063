"""Which names in a folder are no parts: folders that systems make for themselves, and files that are not read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from acl_runtime.sources.files import VIDEOS

_FOLDERS = frozenset(("@eadir", "#recycle", "$recycle.bin", "system volume information"))
_PICTURES = (  # endings of files that people take for images, and that are not read
    *(".heic", ".heif", ".avif", ".jxl", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".psd"),
    *(".dds", ".exr", ".hdr", ".svg", ".pcx", ".ico", ".pdf"),
)
NOTICED = frozenset((*_PICTURES, *VIDEOS))  # what a user may wonder about


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or a folder of thumbnails or of deleted files."""
    return name.startswith(".") or name.lower() in _FOLDERS


def ending(name: str) -> str:
    """The ending of a file's name, in lower case, with its dot."""
    return PurePath(name).suffix.lower()


def passed_over_words(counts: Mapping[str, int]) -> str:
    """`{".heic": 3, ".mp4": 1}` as "3 .heic, 1 .mp4", the most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {kind}" for kind, number in ordered)
