"""A table, a list or a label that is nearly right says in one sentence where it is wrong and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trees
from folders import draw

from acl_runtime.data.datasets import read_dataset

TABLES: dict[Callable[[Path], Path], str] = {trees.visa: "split_csv/1cls.csv", trees.head_ct: "labels.csv"}
CASES: dict[str, tuple[Callable[[Path], Path], bytes, str]] = {
    "visa with a short row": (
        trees.visa,
        b"object,split,label,image,mask\ncandle,test\n",
        "1cls.csv: row 2 has 2 cells, not 5; take the file that comes with VisA",
    ),
    "visa with a comma in a name": (
        trees.visa,
        b"object,split,label,image,mask\ncandle,test,normal,a,b.png,\n",
        "1cls.csv: row 2 has 6 cells, not 5; take the file that comes with VisA",
    ),
    "visa in Latin-1": (
        trees.visa,
        "object,split,label,image,mask\nknöpfe,test,normal,a,\n".encode("latin-1"),
        "1cls.csv: row 2 is not UTF-8; save the file as UTF-8, or take the file that comes with VisA",
    ),
    "visa with another word for good": (
        trees.visa,
        b"object,split,label,image,mask\ncandle,test,Normal,a,\n",
        "1cls.csv: row 2 has the label 'Normal', not normal or anomaly; take the file that comes with VisA",
    ),
    "visa with another table": (
        trees.visa,
        b"a,b\n1,2\n",
        "has no column image, label",
    ),
    "head ct with less rows": (
        trees.head_ct,
        b"id, hemorrhage\n0,1\n",
        "has no row for the image 001, 010",
    ),
    "head ct with odd rows": (
        trees.head_ct,
        b"id, hemorrhage\n0,yes\n",
        "labels.csv: row 2 is no id with 0 or 1; take HeadCT's own",
    ),
    "head ct with a short row": (
        trees.head_ct,
        b"id, hemorrhage\n0,1\n\n1\n10,0\n",
        "labels.csv: row 4 has 1 cells, not 2; take HeadCT's own table",
    ),
    "head ct with an id twice": (
        trees.head_ct,
        b"id, hemorrhage\n0,1\n1,0\n10,0\n000,0\n",
        "labels.csv: row 5 has the id 000 a second time; take HeadCT's own table",
    ),
    "head ct in Latin-1": (
        trees.head_ct,
        "id, hemorrhage\n0,1\n1,größe\n10,0\n".encode("latin-1"),
        "labels.csv: row 3 is not UTF-8; save the file as UTF-8, or take HeadCT's own table",
    ),
    "head ct with an endless cell": (
        trees.head_ct,
        b"id, hemorrhage\n0,1\n" + b"1" * 200_000 + b",0\n",
        "labels.csv: row 3 cannot be read (field larger than field limit (131072)); take HeadCT's own table",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_table_says_which_row_is_wrong(tmp_path: Path, case: str) -> None:
    build, table, message = CASES[case]
    root = build(tmp_path / "data")
    path = root / TABLES[build]
    path.write_bytes(table)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_dataset(root)
    text = str(caught.value)
    assert str(path) in text
    assert "; " in text  # and what to do
    assert "\n" not in text


@pytest.mark.parametrize(
    "text",
    [
        *("{", '{"tests": {}}', '{"test": {"a": [{"anomaly": 0}]}}', '{"test": []}', '{"test": {"a": [1]}}'),
        *("[" * 100_000, '{"test": 1' + "0" * 5000 + "}", "null", "[1]"),
    ],
    ids=lambda text: text[:20],
)
def test_another_json_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=r"meta\.json: is not the published code's list .*remove it"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("anomaly", "0", "anomaly must be 0 or 1, got '0'"),
        ("anomaly", None, "anomaly must be 0 or 1, got None"),
        ("anomaly", [], "anomaly must be 0 or 1, got []"),
        ("img_path", 5, "img_path must be a text, got 5"),
        ("mask_path", None, "mask_path must be a text, got None"),
        ("cls_name", ["a"], "cls_name must be a text, got ['a']"),
        ("specie_name", {"a": 1}, "specie_name must be a text, got {'a': 1}"),
    ],
)
def test_a_list_with_values_of_other_types_is_not_guessed_at(
    tmp_path: Path, key: str, value: object, problem: str
) -> None:
    draw(tmp_path / "a.png")
    record = {"img_path": "a.png", "mask_path": "", "cls_name": "a", "specie_name": "", "anomaly": 1}
    (tmp_path / "meta.json").write_text(json.dumps({"test": {"a": [record | {key: value}]}}))
    with pytest.raises(ValueError, match=re.escape(f"(TypeError: {problem}); write it anew, or remove it")):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (b"BM", "cannot be decoded (its header is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "cannot be decoded (its header is damaged"),
        (b"P5 20000 20000 255\n", "has 20000×20000 pixels, 400 megapixels where at most 200 are decoded"),
        (b"P2 10 11 255\n1 2 x", "cannot be decoded"),
    ],
)
def test_a_broken_label_of_sdd_is_named(tmp_path: Path, broken: bytes, problem: str) -> None:
    trees.sdd(tmp_path)
    (tmp_path / "kos01/Part1_label.bmp").write_bytes(broken)
    with pytest.raises(ValueError, match=re.escape(f"kos01/Part1_label.bmp: {problem}")) as caught:
        read_dataset(tmp_path)
    assert "; " in str(caught.value)  # and what to do


def test_tables_of_others_named_as_head_ct_s_are_passed_over(tmp_path: Path) -> None:
    draw(tmp_path / "parts/good/1.png")
    draw(tmp_path / "parts/bad/2.png")
    draw(tmp_path / "parts/3.png")
    for table in (b"gr\xf6\xdfe,farbe\n", b"\xff\xfei\x00d\x00", b"", b"x" * 200_000):
        (tmp_path / "labels.csv").write_bytes(table)
        assert read_dataset(tmp_path / "parts").layout == "good-and-bad"


def test_columns_of_head_ct_may_stand_in_quotes_after_a_mark_of_the_encoding(tmp_path: Path) -> None:
    trees.head_ct(tmp_path)
    rows = '"id","hemorrhage"\r\n"0","1"\r\n1,0\r\n10,0\r\n,\r\n\r\n'
    (tmp_path / "labels.csv").write_text(rows, "utf-8-sig", newline="")
    assert [sample.label for sample in read_dataset(tmp_path).samples] == [1, 0, 0]
