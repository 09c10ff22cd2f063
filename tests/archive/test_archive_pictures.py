"""What folders, lists and patterns name."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acl_runtime.archive.pictures import MOST_LINE, iter_pictures
from acl_runtime.files.errors import InputError
from acl_runtime.sources.folders import list_folder

NAMES = ("2.png", "10.png", "a/3.jpg", "a/b/1.png", "c.tif", "a.txt", ".hidden.png", "__MACOSX/x.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"-")
    return tmp_path / "in"


@pytest.fixture
def storage() -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for name in NAMES:
        files.pipe_file(f"/bucket/in/{name}", b"-")
    yield "memory://bucket/in"
    files.rm("/bucket", recursive=True)


def pictures(*manifests: object) -> list[str]:
    return list(iter_pictures([str(manifest) for manifest in manifests]))


def test_a_folder_gives_its_pictures_in_the_order_of_acl_run(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "a")
    assert pictures(folder) == list_folder(str(folder)).images
    assert pictures(folder)[-2:] == [f"{folder}/2.png", f"{folder}/10.png"]


def test_paths_are_absolute_wherever_the_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert pictures("a") == pictures(folder / "a")


def test_a_folder_in_storage_gives_the_same(storage: str) -> None:
    names = [path.removeprefix(f"{storage}/") for path in pictures(storage)]
    assert names == ["a/b/1.png", "a/3.jpg", "c.tif", "2.png", "10.png"]


def test_a_text_is_read_line_by_line_beside_itself(folder: Path) -> None:
    lines = "\ufeff2.png\r\n\r\na//3.jpg\n/far/away/ü.png\ns3://bucket/x.png"
    (folder / "list.txt").write_text(lines, encoding="utf-8")
    assert pictures(folder / "list.txt") == [
        f"{folder}/2.png",
        f"{folder}/a/3.jpg",
        "/far/away/ü.png",
        "s3://bucket/x.png",
    ]


def test_names_need_not_be_text(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"\xff.png\n")
    assert [os.fsencode(path) for path in pictures(folder / "list.txt")] == [
        os.fsencode(folder) + b"/\xff.png"
    ]


def test_parquet_gives_its_column(folder: Path) -> None:
    pq.write_table(pa.table({"path": ["c.tif", "2.png"], "day": [1, 2]}), folder / "list.parquet")
    assert pictures(folder / "list.parquet") == [f"{folder}/c.tif", f"{folder}/2.png"]


def test_a_pattern_gives_pictures_in_natural_order(folder: Path, storage: str) -> None:
    assert pictures(folder / "**" / "*.png") == [
        *(f"{folder}/{name}" for name in ("__MACOSX/x.png", "a/b/1.png", "2.png", "10.png"))
    ]
    assert pictures(f"{storage}/*.png")[-2:] == [f"{storage}/2.png", f"{storage}/10.png"]


def test_manifests_come_in_their_order(folder: Path) -> None:
    assert pictures(folder / "c.tif", folder / "a", folder / "2.png") == [
        *(f"{folder}/{name}" for name in ("c.tif", "a/b/1.png", "a/3.jpg", "2.png"))
    ]


@pytest.mark.parametrize("line", ["../x.png", "a/../../x.png"])
def test_a_list_names_nothing_outside_by_chance(folder: Path, line: str) -> None:
    (folder / "list.txt").write_text(f"2.png\n{line}\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"list\.txt, line 2: .* leads out of the list's folder; write the whole"
    ):
        pictures(folder / "list.txt")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("film.mp4", b"-", "is a video; judge it with acl run"),
        ("model.onnx", b"a\0b", "is no list of pictures (line 1 is no text)"),
        ("list.parquet", b"-", "is no Parquet file with a column 'path'"),
        ("none.png", None, "no such file or folder"),
        ("*.bmp", None, "no picture has such a name"),
        ("hdfs://name/x", None, "addresses must begin with one of s3, "),
    ],
)
def test_what_is_no_list_is_refused(folder: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises((InputError, FileNotFoundError)) as refused:
        pictures(name if "://" in name else folder / name)
    assert message in str(refused.value)


def test_a_file_without_line_ends_is_never_in_memory_as_a_whole(folder: Path, storage: str) -> None:
    data = b"2.png\n" + b"a" * (32 << 20)
    (folder / "list.txt").write_bytes(data)
    fsspec.filesystem("memory").pipe_file("/bucket/in/list.txt", data)
    del data
    for name in (f"{folder}/list.txt", f"{storage}/list.txt"):
        tracemalloc.start()
        with pytest.raises(InputError, match=rf"line 2 is longer than {MOST_LINE} bytes\); name a text"):
            pictures(name)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 4 << 20


def test_a_list_in_storage_is_read_like_one_on_a_disk(storage: str) -> None:
    fsspec.filesystem("memory").pipe_file(
        "/bucket/in/list.txt", b"2.png\n" + b"a" * (MOST_LINE - 1) + b"\n10.png"
    )
    assert pictures(f"{storage}/list.txt") == [
        *(f"{storage}/{name}" for name in ("2.png", "a" * (MOST_LINE - 1), "10.png"))
    ]


def test_a_table_without_names_is_refused(folder: Path) -> None:
    for column, values in (("path", [1]), ("file", ["2.png"])):
        pq.write_table(pa.table({column: values}), folder / "list.parquet")
        with pytest.raises(InputError, match="column 'path'"):
            pictures(folder / "list.parquet")


def test_storage_whose_package_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(InputError, match=r"s3://bucket/in: .*s3fs.*install it with pip"):
        pictures("s3://bucket/in")
