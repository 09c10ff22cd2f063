"""Data sets as people have them: other names, other systems, other tools, and files that are no images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trees
from folders import draw, draw_category

from acl_runtime.data.datasets import load_mask, read_dataset
from acl_runtime.data.samples import MASK_FOLDERS
from acl_runtime.files.errors import InputError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("name", [*MASK_FOLDERS, "Ground_Truth", "MASKS"])
def test_the_folder_of_masks_may_have_another_name(tmp_path: Path, name: str) -> None:
    draw_category(tmp_path / "nut")
    (tmp_path / "nut" / "ground_truth").rename(tmp_path / "nut" / name)
    dataset = read_dataset(tmp_path)
    assert dataset.has_masks
    assert dataset.notes == ()
    assert [sample.mask for sample in dataset.samples if sample.label] == [
        tmp_path / "nut" / name / "hole" / f"{stem}_mask.png" for stem in ("2", "10")
    ]


def test_masks_of_several_folders_are_one_set_and_two_of_one_picture_are_refused(tmp_path: Path) -> None:
    draw_category(tmp_path)
    draw(tmp_path / "test/scratch/1.png")
    draw(tmp_path / "masks/scratch/1.png")
    assert sum(sample.mask is not None for sample in read_dataset(tmp_path).samples) == 3
    draw(tmp_path / "masks/hole/2_mask.png")
    with pytest.raises(InputError, match=r"has the same name as .*rename one, masks are paired by name"):
        read_dataset(tmp_path)


def test_another_folder_that_may_hold_the_masks_is_named(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    (tmp_path / "nut" / "ground_truth").rename(tmp_path / "nut" / "annotated")
    dataset = read_dataset(tmp_path)
    assert not dataset.has_masks
    assert "nut/annotated is not read; name it ground_truth if it holds the masks" in dataset.notes


def test_masks_among_the_folders_of_images_are_no_defects(tmp_path: Path) -> None:
    draw_category(tmp_path)
    (tmp_path / "ground_truth").rename(tmp_path / "test" / "masks")
    with pytest.raises(
        InputError, match=r"masks: lies among the images; move the masks to .*/ground_truth/<defect>"
    ):
        read_dataset(tmp_path)


def test_folders_may_be_in_capitals(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    for name, other in (("test", "Test"), ("ground_truth", "Ground_Truth"), ("Test/hole", "Test/Hole")):
        (tmp_path / "nut" / name).rename(tmp_path / "nut" / other)
    dataset = read_dataset(tmp_path)
    assert [(sample.label, sample.mask is not None) for sample in dataset.samples] == [
        *((0, False), (0, False)),
        *((1, True), (1, True)),
    ]
    (tmp_path / "bolt/Train").mkdir(parents=True)
    with pytest.raises(InputError, match="bolt has train but no test images"):
        read_dataset(tmp_path)


def test_two_folders_that_differ_in_capitals_are_told(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    draw(tmp_path / "nut/Test/good/3.png")
    if (tmp_path / "nut/test/good/3.png").exists():
        pytest.skip("this file system does not tell capitals apart")
    with pytest.raises(InputError, match="nut: holds Test and test; put all into one of them"):
        read_dataset(tmp_path)


def test_defects_whose_names_differ_in_capitals_keep_their_masks(tmp_path: Path) -> None:
    for name in ("hole", "Hole"):
        draw(tmp_path / f"test/{name}/1.png")
        draw(tmp_path / f"ground_truth/{name}/1.png")
    if len(list((tmp_path / "test").iterdir())) == 1:
        pytest.skip("this file system does not tell capitals apart")
    for sample in read_dataset(tmp_path).samples:
        assert sample.mask is not None
        assert sample.mask.parent.name == sample.path.parent.name


def test_mvtec_loco_has_a_file_for_each_defect_of_a_picture(tmp_path: Path) -> None:
    root = tmp_path / "loco" / "juice_bottle"
    draw(root / "validation/good/000.png")
    draw(root / "test/good/000.png")
    for kind in ("logical_anomalies", "structural_anomalies"):
        for stem in ("000", "001.5"):  # a stem may hold a dot
            draw(root / f"test/{kind}/{stem}.png")
            draw(root / f"ground_truth/{kind}/{stem}/000.png", color=1)
            draw(root / f"ground_truth/{kind}/{stem}/001.png", color=255)
    dataset = read_dataset(tmp_path / "loco")
    assert dataset.has_masks
    masks = [sample.mask for sample in dataset.samples if sample.label]
    assert masks[:2] == [root / "ground_truth/logical_anomalies" / stem for stem in ("000", "001.5")]
    assert load_mask(dataset.samples[1], height=8, width=12).sum() == 24
    draw(root / "ground_truth/logical_anomalies/009/000.png")
    with pytest.raises(InputError, match="no image belongs to 009"):
        read_dataset(tmp_path / "loco")


def test_masks_beside_good_and_bad_may_be_folders_too(tmp_path: Path) -> None:
    for path in ("good/a.png", "bad/b.png", "masks/b/0.png", "masks/b/1.png", "masks/good/a.png"):
        draw(tmp_path / path)
    (sample,) = (sample for sample in read_dataset(tmp_path).samples if sample.label)
    assert sample.mask == tmp_path / "masks/b"


def test_a_list_written_on_windows_is_read(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    draw(root / "nut/test/good/0.png")
    draw(root / "nut/test/hole/1.png")
    draw(root / "nut/ground_truth/hole/1_mask.png")
    listed = [
        {
            "img_path": r"nut\test\good\0.png",
            "mask_path": "",
            "cls_name": "nut",
            "specie_name": "good",
            "anomaly": 0,
        },
        {
            "img_path": r"D:\data\parts\nut\test\hole\1.png",
            "mask_path": r"nut\ground_truth\hole\1_mask.png",
            "cls_name": "nut",
            "specie_name": "hole",
            "anomaly": 1,
        },
    ]
    (root / "meta.json").write_text("\ufeff" + json.dumps({"train": {}, "test": {"nut": listed}}), "utf-8")
    good, hole = read_dataset(root).samples
    assert good.path == root / "nut/test/good/0.png"
    assert (hole.path, hole.mask) == (root / "nut/test/hole/1.png", root / "nut/ground_truth/hole/1_mask.png")
    listed[0]["img_path"] = r"nut\test\good\9.png"
    (root / "meta.json").write_text(json.dumps({"test": {"nut": listed}}))
    with pytest.raises(FileNotFoundError, match=r"lacks nut/test/good/9\.png"):
        read_dataset(root)


def test_the_table_of_visa_may_be_written_on_windows(tmp_path: Path) -> None:
    trees.visa(tmp_path)
    table = tmp_path / "split_csv/1cls.csv"
    table.write_text(table.read_text().replace("/", "\\"))
    assert [sample.path.is_file() for sample in read_dataset(tmp_path).samples] == [True] * 4


@pytest.mark.parametrize(
    ("path", "count"), [("test/hole/2.png", 6), ("ground_truth/hole/2_mask.png", 6), ("meta.json", 1)]
)
def test_git_lfs_pointers_are_told_with_the_remedy(tmp_path: Path, path: str, count: int) -> None:
    draw_category(tmp_path)
    (tmp_path / path).write_bytes(LFS)
    with pytest.raises(InputError) as refused:
        read_dataset(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: 1 of {count} files are Git LFS pointers, not the files themselves ({path}); "
        "run git lfs pull there"
    )


@pytest.mark.parametrize(
    "name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"]
)
def test_folders_that_systems_keep_for_themselves_are_no_products_and_no_defects(
    tmp_path: Path, name: str
) -> None:
    draw_category(tmp_path / "nut")
    before = read_dataset(tmp_path)
    for place in (tmp_path, tmp_path / "nut/test", tmp_path / "nut/ground_truth/hole", tmp_path / "nut"):
        draw(place / name / "test/good/2.png")
        draw(place / name / "2.png")
    assert read_dataset(tmp_path) == before


@pytest.mark.parametrize("ending", [".jp2", ".pgm", ".ppm", ".gif", ".jfif", ".PNG"])
def test_what_is_inspected_is_measured_too(tmp_path: Path, ending: str) -> None:
    draw(tmp_path / "good/0.png")
    draw(tmp_path / f"bad/1{ending}" if ending != ".jfif" else tmp_path / "bad/1.jpg")
    if ending == ".jfif":
        (tmp_path / "bad/1.jpg").rename(tmp_path / "bad/1.jfif")
    assert [sample.path.suffix for sample in read_dataset(tmp_path).samples] == [".png", ending]


def test_files_that_are_passed_over_are_counted_in_one_note(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    for path in ("good/3.heic", "good/4.HEIC", "hole/5.tga", "dent/6.avif", "hole/film.mp4"):
        (tmp_path / "nut/test" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "nut/test" / path).touch()
    for path in (
        "test/good/Thumbs.db",
        "test/hole/notes.txt",
        "test/hole/._x.heic",
        "ground_truth/hole/2.json",
    ):
        (tmp_path / "nut" / path).touch()
    assert read_dataset(tmp_path).notes == (
        "files of other formats are passed over: 2 .heic, 1 .avif, 1 .mp4, 1 .tga; save them as PNG or JPEG",
    )


def test_a_folder_of_other_formats_alone_says_which(tmp_path: Path) -> None:
    for path in ("good/1.heic", "bad/2.heic"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    with pytest.raises(
        InputError, match=r"holds the folders bad, good and files that are not read \(2 \.heic\);"
    ):
        read_dataset(tmp_path)
