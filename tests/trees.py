"""The data sets of the paper in miniature, named file by file as they are downloaded, with their traps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from folders import draw
from PIL import Image


def draw_noisy(path: Path, *, size: tuple[int, int] = (24, 16)) -> Path:
    """A mask as a JPEG leaves it: grey levels 1 to 8 where it should be black, 255 in the upper left quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(1, 9, (size[1], size[0]), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255
    Image.fromarray(pixels).save(path, format="JPEG", quality=100)
    return path


def clutter(*folders: Path) -> None:
    """What Windows and macOS leave in folders."""
    for folder in folders:
        (folder / "Thumbs.db").write_bytes(b"Explorer")
        (folder / ".DS_Store").write_bytes(b"Finder")


def draw_rows(path: Path, marked: list[int], *, height: int, mode: str = "L") -> Path:
    """A picture whose marked rows are white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, 10), np.uint8)
    pixels[marked] = 255
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def mvtec(root: Path) -> Path:
    """A colour and a single-channel category; stems begin at 000 in every folder; two defects in one."""
    for category, mode, defects in (
        ("bottle", "RGB", ("broken_large", "contamination")),
        ("grid", "L", ("bent",)),
    ):
        draw(root / category / "train/good/000.png", mode=mode)
        draw(root / category / "test/good/000.png", mode=mode)
        draw(root / category / "test/good/001.png", mode=mode)
        for defect in defects:
            draw(root / category / f"test/{defect}/000.png", mode=mode)
            draw(root / category / f"ground_truth/{defect}/000_mask.png")
        (root / category / "license.txt").write_text("CC BY-NC-SA 4.0")
        clutter(root / category / "test/good", root / category / "ground_truth" / defects[0])
    (root / "readme.txt").write_text("MVTec AD")
    return root


def visa(root: Path) -> Path:
    """Normal stems of 4 digits in candle and 3 in fryum; masks hold class indices, 0 and 3."""
    lines = ["object,split,label,image,mask"]
    for category, normal in (("candle", "0000"), ("fryum", "000")):
        images, masks = f"{category}/Data/Images", f"{category}/Data/Masks"
        for number, split in ((0, "train"), (1, "test")):
            image = f"{images}/Normal/{number:0{len(normal)}}.JPG"
            draw(root / image, mode="RGB")
            lines.append(f"{category},{split},normal,{image},")
        image, mask = f"{images}/Anomaly/000.JPG", f"{masks}/Anomaly/000.png"
        draw(root / image, mode="RGB")
        draw(root / mask, color=3)
        lines.append(f"{category},test,anomaly,{image},{mask}")
        (root / category / "image_anno.csv").write_text("image,label,mask\n")
    for name in ("1cls", "2cls_fewshot", "2cls_highshot"):
        (root / "split_csv").mkdir(exist_ok=True)
        (root / f"split_csv/{name}.csv").write_text("\r\n".join(lines) + "\r\n")
    return root


def visa_reorganised(root: Path) -> Path:
    """After `prepare_data`: other splits lie beside the one that is read."""
    for split in ("1cls", "2cls_fewshot"):
        draw(root / split / "candle/train/good/0000.JPG", mode="RGB")
        draw(root / split / "candle/test/good/0001.JPG", mode="RGB")
        draw(root / split / "candle/test/bad/000.JPG", mode="RGB")
        draw(root / split / "candle/ground_truth/bad/000.png")
    return root


def mpdd(root: Path) -> Path:
    for category, defect in (("bracket_black", "hole"), ("tubes", "anomalous")):
        draw(root / category / "train/good/000.png", mode="RGB")
        draw(root / category / "test/good/000.png", mode="RGB")
        draw(root / category / f"test/{defect}/000.png", mode="RGB")
        draw(root / category / f"ground_truth/{defect}/000_mask.png")
    return root


def btad(root: Path) -> Path:
    """Class 01 has bmp images with png masks and a gap in the numbers; 03 has bmp masks."""
    inner = root / "BTech_Dataset_transformed"
    for category, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        draw(inner / category / f"train/ok/0000.{image}", mode="RGB")
        draw(inner / category / f"test/ok/0000.{image}", mode="RGB")
        for stem in ("0026", "0028"):
            draw(inner / category / f"test/ko/{stem}.{image}", mode="RGB")
            draw(inner / category / f"ground_truth/ko/{stem}.{mask}")
    return root


def sdd(root: Path) -> Path:
    """An odd height; a defect in the upper half, one across the cut and none at all."""
    for part, marked in (("kos01/Part0", [2]), ("kos01/Part1", [4, 5]), ("kos02/Part0", [])):
        draw_rows(root / f"{part}.jpg", [0], height=11)
        draw_rows(root / f"{part}_label.bmp", marked, height=11)
    clutter(root / "kos01")
    return root


def sdd_prepared(root: Path) -> Path:
    """As the published code expects it, with a space in the category's name."""
    inner = root / "electrical commutators"
    draw(inner / "train/good/kos01_Part0_0.png")
    draw(inner / "test/good/kos01_Part0_1.png")
    draw(inner / "test/defect/kos01_Part5_0.png")
    draw(inner / "ground_truth/defect/kos01_Part5_0_mask.png")
    return root


def dagm(root: Path) -> Path:
    """Labels lie in a folder inside the images', with a list of them; the last class has two digits."""
    inner = root / "DAGM_KaggleUpload"
    for category in ("Class1", "Class2", "Class10"):
        for split, stems in (("Train", ("0001", "0002")), ("Test", ("0003", "0004", "0005"))):
            for stem in stems:
                draw(inner / category / split / f"{stem}.PNG")
            draw(inner / category / split / f"Label/{stems[1]}_label.PNG")
            (inner / category / split / "Label/Labels.txt").write_text("1\n")
        clutter(inner / category / "Test", inner / category / "Test/Label")
    return root


def dtd(root: Path) -> Path:
    """Stems without zeros before them: 10 comes before 2 among images and after `1_mask` among masks."""
    for category in ("Woven_001", "Mesh_114"):
        draw(root / category / "train/good/1.png", mode="RGB")
        draw(root / category / "test/good/1.png", mode="RGB")
        for stem in ("1", "2", "10"):
            draw(root / category / f"test/bad/{stem}.png", mode="RGB")
            draw(root / category / f"ground_truth/bad/{stem}_mask.png")
    return root


def isic(root: Path) -> Path:
    """Sizes differ and are odd; the training part and tables lie beside."""
    name = "ISBI2016_ISIC_Part1"
    for part, stems in (("Test", ("0000003", "0012086")), ("Training", ("0000000",))):
        for stem, size in zip(stems, ((31, 17), (13, 19)), strict=False):
            draw(root / f"{name}_{part}_Data/ISIC_{stem}.jpg", mode="RGB", size=size)
            draw(root / f"{name}_{part}_GroundTruth/ISIC_{stem}_Segmentation.png", size=size)
    (root / f"{name}_Test_GroundTruth.csv").write_text("ISIC_0000003,0\n")
    (root / f"{name}_Test_Data/list.csv").write_text("ISIC_0000003\n")
    return root


def isic_nested(root: Path) -> Path:
    """As the published code expects it, with the ending of later years."""
    inner, name = root / "skin", "ISBI2016_ISIC_Part1_Test"
    draw(inner / f"test/{name}_Data/ISIC_0000003.jpg", mode="RGB", size=(31, 17))
    draw(inner / f"{name}_GroundTruth/ISIC_0000003_segmentation.png", size=(31, 17))
    return root


def clinic_db_original(root: Path) -> Path:
    for stem in ("1", "2", "10"):
        draw(root / f"Original/{stem}.tif", mode="RGB")
        draw(root / f"Ground Truth/{stem}.tif")
    clutter(root / "Original", root / "Ground Truth")
    return root


def polyps(root: Path) -> Path:
    """As the published code expects CVC-ClinicDB, CVC-ColonDB and Kvasir: masks are in colour."""
    for stem in ("1", "2", "10"):
        draw(root / f"images/{stem}.png", mode="RGB")
        draw(root / f"masks/{stem}.png", mode="RGB")
    clutter(root / "images", root / "masks")
    return root


def kvasir_original(root: Path) -> Path:
    for stem in ("cju2rz4k434s70855wwx3ddtx", "cju0qkwl35piu0993l0dewei2"):
        draw(root / f"images/{stem}.jpg", mode="RGB", size=(24, 16))
        draw_noisy(root / f"masks/{stem}.jpg")
    (root / "kavsir_bboxes.json").write_text("{}")
    return root


def endo(root: Path) -> Path:
    for stem in ("a1", "b2"):
        draw(root / f"images/{stem}.jpg", mode="RGB")
        draw(root / f"masks/{stem}.png")
    return root


def tn3k(root: Path) -> Path:
    inner = root / "Thyroid Dataset/tn3k"
    for part, stems in (("trainval", ("0000",)), ("test", ("0", "2", "10"))):
        for stem in stems:
            draw(inner / f"{part}-image/{stem}.jpg", mode="RGB", size=(24, 16))
            draw_noisy(inner / f"{part}-mask/{stem}.jpg")
    (inner / "tn3k-trainval-fold0.json").write_text("{}")
    return root


def head_ct(root: Path) -> Path:
    """The table is above both folders of images, its header has a space; one picture has an alpha channel."""
    draw(root / "head_ct/head_ct/000.png", mode="RGBA")
    draw(root / "head_ct/head_ct/001.png")
    draw(root / "head_ct/head_ct/010.png", mode="RGB")
    (root / "labels.csv").write_text("id, hemorrhage\n0,1\n1,0\n10,0\n")
    return root


def head_ct_converted(root: Path) -> Path:
    for path in ("good/001.png", "good/010.png", "hemorrhage/000.png"):
        draw(root / "brain/test" / path)
    return root


def brain_mri(root: Path) -> Path:
    """The archive holds everything twice; extensions and modes are of all kinds."""
    for inner in (root, root / "brain_tumor_dataset"):
        draw(inner / "no/1 no.jpeg")
        draw(inner / "no/N2.jpg", mode="RGB")
        draw(inner / "no/no.png", mode="P", color=1)
        draw(inner / "yes/Y1.JPG")
        draw(inner / "yes/Y2.jpg", mode="RGB")
        clutter(inner / "no")
    return root


def br35h(root: Path) -> Path:
    for path in ("no/no0.jpg", "no/no10.jpg", "yes/y0.jpg", "pred/pred0.jpg"):
        draw(root / path)
    for part in ("TRAIN", "TEST", "VAL"):
        draw(root / f"Br35H-Mask-RCNN/{part}/y0.jpg")
        (root / f"Br35H-Mask-RCNN/{part}/annotations_{part.lower()}.json").write_text("{}")
    return root


def covid_first(root: Path) -> Path:
    inner = root / "COVID-19 Radiography Database"
    for name in ("NORMAL", "COVID-19", "Viral Pneumonia"):
        for number in (1, 2):
            draw(inner / name / f"{name} ({number}).png")
    (inner / "README.md.txt").write_text("219 COVID-19")
    return root


def covid_current(root: Path) -> Path:
    """The masks are lungs."""
    inner = root / "COVID-19_Radiography_Dataset"
    for name in ("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia"):
        draw(inner / name / f"images/{name}-1.png")
        draw(inner / name / f"masks/{name}-1.png", mode="RGB")
        (inner / f"{name}.metadata.xlsx").write_bytes(b"table")
    return root


def colon_db_and_endo(root: Path) -> Path:
    """Good ones of Endo beside CVC-ColonDB; one has a blank mask."""
    draw(root / "good/0a1b.jpg", mode="RGB")
    draw(root / "masks/0a1b.png", color=0)
    return polyps(root)
