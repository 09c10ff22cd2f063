"""Readers of the folder layouts in which data sets are published; a new one is a function, named below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.data.layouts.classes import read_covid, read_yes_and_no
from acl_runtime.data.layouts.good_and_bad import read_good_and_bad
from acl_runtime.data.layouts.meta_json import read_meta_json
from acl_runtime.data.layouts.mvtec import read_mvtec, read_visa_reorganised
from acl_runtime.data.layouts.pairs import read_clinic_db, read_polyps, read_tn3k
from acl_runtime.data.layouts.published import PAPER_SETS
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.layouts.suffixes import read_dagm, read_isic, read_sdd
from acl_runtime.data.layouts.tables import read_head_ct, read_visa
from acl_runtime.data.samples import count_unread, list_folders, list_images
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

DEPTH = 2  # how many outer folders archives and users put around a data set


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set on disk."""

    name: str
    read: Callable[[Path], Reading | None]  # None where the folder is laid out otherwise


LAYOUTS: tuple[Layout, ...] = (  # the first that recognises a folder reads it, so the special come first
    Layout("published", read_meta_json),
    Layout("visa", read_visa),
    Layout("visa-reorganised", read_visa_reorganised),
    Layout("dagm", read_dagm),
    Layout("sdd", read_sdd),
    Layout("isic", read_isic),
    Layout("clinicdb", read_clinic_db),
    Layout("tn3k", read_tn3k),
    Layout("headct", read_head_ct),
    Layout("yes-and-no", read_yes_and_no),
    Layout("covid", read_covid),
    Layout("polyps", read_polyps),
    Layout("mvtec", read_mvtec),
    Layout("good-and-bad", read_good_and_bad),
)


def recognise(root: Path) -> tuple[Path, str, Reading]:
    """Find the data set in a folder: the folder that holds it, its layout's name and what is there.

    Where the folder itself is no data set, the one inside it is taken: archives add outer folders.

    Raises:
        ValueError: There is none, or several, or one that is nearly right; the message says what is wrong.
    """
    found = _read(root)
    if found is not None:
        return root, *found
    inner = _find_inside(root, DEPTH)
    if len(inner) > 1:
        names = shorten(folder.relative_to(root).as_posix() for folder in inner)
        raise InputError(f"{root}: holds {len(inner)} data sets ({names}); name one of them")
    found = _read(inner[0]) if inner else None
    if found is None:
        raise InputError(
            f"{root}: is laid out in no known way, it holds {_contents(root)}; name the folder of a data set as "
            f"unpacked ({', '.join(PAPER_SETS)}), or arrange yours as good/, bad/ and masks/, or as test/good/, "
            f"test/<defect>/ and ground_truth/<defect>/"
        )
    return inner[0], *found


def _read(root: Path) -> tuple[str, Reading] | None:
    readings = ((layout.name, layout.read(root)) for layout in LAYOUTS)
    return next(((name, reading) for name, reading in readings if reading is not None), None)


def _find_inside(root: Path, depth: int) -> list[Path]:
    """The outermost folders inside the root that are data sets, or nearly."""
    if depth == 0:
        return []
    return [
        found
        for folder in list_folders(root)
        for found in ([folder] if _is_known(folder) else _find_inside(folder, depth - 1))
    ]


def _is_known(root: Path) -> bool:
    try:
        found = _read(root)
    except InputError:  # nearly right: if it is the only one, it is read again to say what is wrong
        return True
    return found is not None and bool(found[1].samples)


def _contents(root: Path) -> str:
    folders, images = list_folders(root), list_images(root)
    parts = [f"the folders {shorten(folder.name for folder in folders)}"] if folders else []
    parts += [f"{len(images)} image{'s' if len(images) > 1 else ''}"] if images else []
    inner = [each for folder in folders for each in (folder, *list_folders(folder))]
    unread = count_unread([root, *inner])
    parts += [f"files that are not read ({unread})"] if unread else []
    return " and ".join(parts) or "neither folders nor images"
