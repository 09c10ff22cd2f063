"""Masks that mark nothing, everything or next to nothing are told before anything is measured with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from acl_runtime.data.check_masks import check_masks
from acl_runtime.data.datasets import Dataset, load_mask, read_dataset
from acl_runtime.data.masks import read_grey
from acl_runtime.data.samples import Sample
from acl_runtime.files.errors import InputError

SIZE = (64, 48)  # width, height of every picture


def parts(root: Path, mask: Image.Image, *, count: int = 3, ending: str = "png", **options: Any) -> Dataset:
    """Good and defective parts, each defective one with the mask."""
    for number in range(count):
        for folder in ("good", "bad", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture = mask if folder == "masks" else Image.new("L", SIZE, 90)
            picture.save(root / folder / f"{number}.{ending if folder == 'masks' else 'png'}", **options)
    return read_dataset(root)


def with_square(side: int, *, mode: str = "L", color: object = 255, background: object = 0) -> Image.Image:
    picture = Image.new(mode, SIZE, background)  # type: ignore[arg-type]
    picture.paste(color, (10, 10, 10 + side, 10 + side))  # type: ignore[arg-type]
    return picture


def with_black_palette() -> Image.Image:
    picture = with_square(20, mode="P", color=1)
    picture.putpalette([0, 0, 0, 0, 0, 0])  # the index 1 is a defect, but it is black
    return picture


BLANK: dict[str, Callable[[], Image.Image]] = {
    "black": lambda: Image.new("L", SIZE),
    "another index that is black": with_black_palette,
    "black paint on transparent": lambda: with_square(20, mode="RGBA", color=(0, 0, 0, 255)),
    "white paint that is transparent": lambda: with_square(20, mode="RGBA", color=(255, 255, 255, 0)),
}


@pytest.mark.parametrize("kind", BLANK)
def test_blank_masks_are_refused_with_their_number_unless_they_are_wanted(tmp_path: Path, kind: str) -> None:
    dataset = parts(tmp_path, BLANK[kind]())
    with pytest.raises(InputError) as refused:
        check_masks(dataset, image_size=32)
    assert str(refused.value) == (
        f"{tmp_path}: 3 of 3 masks of defective parts mark nothing (masks/0.png, masks/1.png, masks/2.png): a wrong "
        "colour, index or transparency; draw them again, or pass --allow-blank-masks to count their parts as "
        "defective without a defective pixel"
    )
    (note,) = check_masks(dataset, image_size=32, allow_blank=True).notes
    assert note.startswith("3 of 3 masks of defective parts mark nothing (masks/0.png")
    assert note.endswith("so their parts count as defective without a defective pixel")


def test_a_level_that_no_mask_is_above_is_told(tmp_path: Path) -> None:
    dataset = parts(tmp_path, with_square(20, color=3))  # class indices, as VisA's
    assert check_masks(dataset, image_size=32) == dataset
    with pytest.raises(InputError, match="mark nothing above grey level 127"):
        check_masks(dataset, image_size=32, above=127)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_black(tmp_path: Path, mode: str) -> None:
    white, clear = ((255,) * len(mode), (*(255,) * (len(mode) - 1), 0))
    dataset = parts(tmp_path, with_square(20, mode=mode, color=white, background=clear))
    assert check_masks(dataset, image_size=32) == dataset
    marked = load_mask(dataset.samples[-1], height=SIZE[1], width=SIZE[0])
    assert marked.sum() == 400
    assert marked[10:30, 10:30].all()


def test_masks_that_mark_most_of_the_picture_are_noted(tmp_path: Path) -> None:
    dataset = parts(tmp_path, with_square(20, color=0, background=255))  # what is around the defect
    (note,) = check_masks(dataset, image_size=32).notes
    assert note.startswith(
        "3 of 3 masks of defective parts mark more than half of their picture (masks/0.png"
    )


def test_defects_that_vanish_at_the_networks_size_are_counted_and_point_to_tiles(tmp_path: Path) -> None:
    dataset = parts(tmp_path, with_square(3))
    (note,) = check_masks(dataset, image_size=7).notes
    assert note.startswith(
        "3 of 3 masks of defective parts mark so little that nothing is left of it at the network's 7"
    )
    assert note.endswith("(see --tile)")
    assert check_masks(dataset, image_size=64) == dataset
    assert check_masks(dataset, image_size=7, is_tiled=True) == dataset


def test_a_picture_or_a_mask_with_an_orientation_tag_is_noted(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[274] = 6
    dataset = parts(tmp_path, with_square(20), exif=tag)
    (note,) = check_masks(dataset, image_size=32).notes
    assert note.startswith("3 images or their masks have an orientation tag (masks/0.png")
    assert load_mask(dataset.samples[-1], height=SIZE[1], width=SIZE[0])[10:30, 10:30].all()  # as stored


def test_a_data_set_without_masks_is_as_it_was(tmp_path: Path) -> None:
    dataset = parts(tmp_path, with_square(20))
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    dataset = read_dataset(tmp_path)
    assert check_masks(dataset, image_size=32) == dataset


def test_the_files_of_one_masks_folder_mark_a_defect_each(tmp_path: Path) -> None:
    Image.new("L", SIZE).save(tmp_path / "0.png")
    (tmp_path / "mask").mkdir()
    for number, left in enumerate((0, 40)):
        picture = Image.new("L", SIZE)
        picture.paste(200 + number, (left, 0, left + 8, 8))
        picture.save(tmp_path / "mask" / f"00{number}.png")
    sample = Sample(path=tmp_path / "0.png", mask=tmp_path / "mask", label=1, category="nut", defect="hole")
    marked = load_mask(sample, height=SIZE[1], width=SIZE[0])
    assert marked.sum() == 128
    assert marked[:8, :8].all()
    assert marked[:8, 40:48].all()


@pytest.mark.parametrize(
    ("pixels", "grey"),
    [
        (np.array([[0, 1, 300, 65535]], np.uint16), [0, 1, 255, 255]),
        (np.array([[0, 1, 300, -1]], np.int32), [0, 1, 255, 0]),
        (np.array([[0, 0.2, 1, 300]], np.float32), [0, 1, 1, 255]),
    ],
)
def test_label_maps_of_more_bits_keep_small_numbers(
    tmp_path: Path, pixels: np.ndarray, grey: list[int]
) -> None:
    Image.fromarray(pixels).save(tmp_path / "mask.tif")
    assert read_grey(tmp_path / "mask.tif").tolist() == [grey]


def test_progress_counts_the_masks(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    dataset = parts(tmp_path, with_square(20))
    check_masks(dataset, image_size=32, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
