"""Labelled pictures of products, and how the pictures and masks of a folder become them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from acl_runtime.files.clutter import count_passed_over, is_clutter
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import IMAGES
from acl_runtime.text.names import natural_key, shorten

GOOD = "good"  # the `defect` of a good part, whatever its folder is called
GOOD_FOLDERS = frozenset({"good", "normal", "ok"})  # compared in lower case
MASK = "_mask"  # what the name of a mask ends with, in most data sets
MASK_FOLDERS = ("ground_truth", "masks", "mask", "groundtruth", "ground truth", "ground-truth", "gt")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled picture of a product."""

    path: Path
    mask: Path | None  # ground truth of a defective part: a file, or a folder whose files mark a defect each;
    # None for a good part, or where there are no masks
    label: int  # 0 good, 1 defective
    category: str
    defect: str  # "good" for a good part
    rows: tuple[int, int] | None = (
        None  # the picture is these rows of the file (start, stop), and of its mask
    )


def list_folders(folder: Path) -> list[Path]:
    """Folders inside `folder`, in natural order, without those of systems; none where it does not exist."""
    if not folder.is_dir():
        return []
    folders = (path for path in folder.iterdir() if path.is_dir() and not is_clutter(path.name))
    return sorted(folders, key=lambda path: natural_key(path.name))


def find_folder(folder: Path, *names: str) -> Path | None:
    """The folder inside `folder` that has one of the names, given in lower case; None where none has.

    Raises:
        InputError: Two have the same name but for capitals.
    """
    found = find_folders(folder, *names)
    twins = [path.name for path in found if path.name.lower() == found[0].name.lower()]
    if len(twins) > 1:
        raise InputError(f"{folder}: holds {' and '.join(twins)}; put all into one of them")
    return found[0] if found else None


def find_folders(folder: Path, *names: str) -> list[Path]:
    """The folders inside `folder` that have one of the names, given in lower case."""
    return [path for path in list_folders(folder) if path.name.lower() in names]


def is_good(folder: Path) -> bool:
    """Whether the folder is named as one of good parts."""
    return folder.name.lower() in GOOD_FOLDERS


def list_images(folder: Path) -> list[Path]:
    """Visible images directly inside `folder`, in natural order; none where it does not exist."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    visible = (path for path in files if not is_clutter(path.name) and path.is_file())
    return sorted(visible, key=lambda path: natural_key(path.name))


def count_unread(folders: Iterable[Path]) -> str:
    """Say how many files of which ending lie in the folders and are not read; nothing for none."""
    names = [path.name for folder in folders for path in folder.iterdir() if path.is_file()]
    return count_passed_over(name for name in names if PurePath(name).suffix.lower() not in IMAGES)


def list_masks(folder: Path) -> list[Path]:
    """The masks directly inside `folder`: images, and folders of images, which mark one picture's defects."""
    return [*list_images(folder), *(inner for inner in list_folders(folder) if list_images(inner))]


def mask_files(mask: Path) -> list[Path]:
    """The files of a sample's mask."""
    return list_images(mask) if mask.is_dir() else [mask]


def good_samples(folder: Path, *, category: str) -> list[Sample]:
    """Every image of a folder of good parts."""
    return [
        Sample(path=path, mask=None, label=0, category=category, defect=GOOD) for path in list_images(folder)
    ]


def bad_samples(
    folder: Path,
    masks: Sequence[Path],
    *,
    category: str,
    defect: str | None = None,
    suffix: str = MASK,
    good: Sequence[Path] = (),
) -> list[Sample]:
    """Every image of a folder of defective parts, with its mask where there is one.

    Args:
        folder: Images.
        masks: Folders of their masks, which need not exist.
        category: The product.
        defect: What they have; the folder's name if not given.
        suffix: What masks have after the image's name, in lower case.
        good: Images whose masks may lie there too, blank and not read.
    """
    images = list_images(folder)
    found = [mask for place in masks for mask in list_masks(place)]
    paired = pair_masks(images, found, good, suffix=suffix)
    kind = defect or folder.name
    return [
        Sample(path=path, mask=mask, label=1, category=category, defect=kind)
        for path, mask in zip(images, paired, strict=True)
    ]


def pair_masks(
    images: Sequence[Path], masks: Sequence[Path], good: Sequence[Path] = (), *, suffix: str = MASK
) -> list[Path | None]:
    """The mask of each image, by name: `<stem><suffix>` or `<stem>`, an image or a folder of them; else None.

    The published code pairs by sort order, which shifts every later mask when one is missing. A mask named as
    one of the `good` images is blank and not read. The suffix counts in upper case too.

    Raises:
        ValueError: A mask belongs to no image, or two masks or two images have one name.
    """
    by_stem = _by_stem(masks, suffix)
    stems = _by_stem(images) if masks else {image.stem: image for image in images}
    suffixed = {stem: by_stem.get(f"{stem}{suffix}") for stem in stems}
    paired = {stem: mask or by_stem.get(stem) for stem, mask in suffixed.items()}
    blank = {stem for image in good for stem in (image.stem, f"{image.stem}{suffix}")}
    surplus = {mask for stem, mask in by_stem.items() if stem not in blank} - set(paired.values())
    if surplus:
        raise InputError(
            f"{masks[0].parent}: no image belongs to {shorten(path.name for path in surplus)}; "
            f"name a mask <image name>{suffix} or as its image, and remove the others"
        )
    return [paired[image.stem] for image in images]


def _by_stem(paths: Sequence[Path], suffix: str = "") -> dict[str, Path]:
    """The files by name without extension; a name that ends with the suffix ends with it in lower case."""
    stems: dict[str, Path] = {}
    for path in paths:
        name = path.stem if path.suffix.lower() in IMAGES else path.name  # of a folder all of it
        stem = name[: -len(suffix)] + suffix if suffix and name.lower().endswith(suffix) else name
        if stem in stems:
            raise InputError(
                f"{path}: has the same name as {stems[stem]}; rename one, masks are paired by name"
            )
        stems[stem] = path
    return stems
