"""Names in a folder that are a system's and nobody's files."""

from __future__ import annotations

_SYSTEM_FOLDERS = (
    frozenset(  # in lower case: thumbnails, waste and snapshots of network disks, Windows and macOS
        {
            *(
                "@eadir",
                "@recycle",
                "@recently-snapshot",
                "#recycle",
                "#snapshot",
                "$recycle.bin",
                "recycler",
            ),
            *("system volume information", "lost+found", "__macosx"),
        }
    )
)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a folder that a system keeps for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS
