"""Files and folders beside the user's pictures: what systems leave there, and what is no picture that is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath

OVERLAY = ".overlay.png"  # how pictures of results end, which are no pictures of parts
_LEFT_BY_SYSTEMS = frozenset(
    {
        *("__macosx", "lost+found"),
        *("$recycle.bin", "system volume information", "recycler"),  # Windows
        *("@eadir", "#recycle", "#snapshot"),  # Synology: previews of every picture, and what was deleted
        *("@recycle", "@recently-snapshot"),  # QNAP
    }
)
_COMPANIONS = frozenset(  # endings of files that nobody takes for pictures
    {
        *("", ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini"),
        *(".log", ".html", ".htm", ".db", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".py", ".m", ".ipynb"),
        *(".sh", ".bat", ".lnk", ".url", ".sha256", ".md5", ".cache", ".tmp", ".part"),
    }
)


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, kept by a system or a storage device for itself, or an overlay of a run."""
    return name.startswith(".") or name.endswith(OVERLAY) or name.lower() in _LEFT_BY_SYSTEMS


def unread_ending(name: str) -> str:
    """The ending of a file that a user may take for a picture although it is not read, in lower case; else ""."""
    ending = PurePath(name).suffix.lower()
    return "" if is_clutter(name) or ending in _COMPANIONS else ending


def count_words(counts: Mapping[str, int]) -> str:
    """Files by ending, `{".tga": 2, ".heic": 10}`, as "10 .heic, 2 .tga"."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {ending}" for ending, count in ordered)


def count_passed_over(names: Iterable[str]) -> str:
    """Say how many files of which ending are not read, such as "10 .heic, 2 .tga"; nothing for none.

    Args:
        names: Of files that are not read; those that nobody takes for pictures, such as tables, do not count.
    """
    return count_words(Counter(filter(None, map(unread_ending, names))))
