"""What folders, lists and patterns name."""

from __future__ import annotations

import errno
import io
import logging
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acl_runtime.archive.parquet import iter_paths
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
        ("list.parquet", b"-", "is no Parquet file with one column 'path'"),
        ("none.png", None, "no such file or folder"),
        ("*.bmp", None, "no picture has such a name"),
        ("hdfs://name/x", None, "addresses must begin with one of s3, "),
        (
            "memory://bucket/none.txt",
            None,
            "memory://bucket/none.txt: no such file or folder; check the name",
        ),
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


def test_an_empty_name_is_never_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="has an empty name; name what to judge"):
        pictures("")


def test_a_pattern_holds_wherever_the_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = folder.rename(folder.with_name("lot [7]*"))
    monkeypatch.chdir(odd)
    assert pictures("*.png") == [f"{odd}/2.png", f"{odd}/10.png"]
    assert pictures("./a/../*.png") == pictures("*.png")


def test_a_name_that_is_there_is_no_pattern(folder: Path, storage: str) -> None:
    (folder / "lot [7]").mkdir()
    (folder / "lot [7]" / "1.png").touch()
    fsspec.filesystem("memory").pipe_file("/bucket/in/lot [7]/1.png", b"-")
    for place in (str(folder), storage):
        assert pictures(f"{place}/lot [7]") == [f"{place}/lot [7]/1.png"]


def test_files_that_are_passed_over_are_told_as_acl_run_tells_them(
    folder: Path, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a" / "b" / "1.heic").touch()
    fsspec.filesystem("memory").pipe_file("/bucket/in/a/1.heic", b"-")
    for place in (str(folder), storage):
        caplog.clear()
        with caplog.at_level(logging.INFO, "acl"):
            pictures(place)
        assert caplog.messages == [
            f"{place}: files that are not read are passed over: 1 .heic; save pictures as PNG or JPEG, and judge "
            "videos with acl run"
        ]


def test_a_secret_in_a_list_is_not_told_but_its_line_is(folder: Path) -> None:
    (folder / "list.txt").write_text("2.png\nhttps://user:wordpass@host/1.png\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"list\.txt, line 2: https://…: addresses must begin") as refused:
        pictures(folder / "list.txt")
    assert "pass" not in str(refused.value)


def test_a_table_that_is_damaged_inside_is_told(folder: Path) -> None:
    path = folder / "list.parquet"
    pq.write_table(pa.table({"path": [f"{number}.png" for number in range(5000)]}), path, compression="zstd")
    data = path.read_bytes()
    for begin, end in ((4, 40), (200, len(data) // 2)):
        path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
        with pytest.raises(InputError, match=r"list\.parquet: is damaged \(.*\); write it anew"):
            pictures(path)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_list_on_a_share_that_is_away_is_not_called_a_wrong_one(folder: Path, calls: int) -> None:
    path = folder / "list.parquet"
    pq.write_table(pa.table({"path": [f"{number}.png" for number in range(5000)]}), path)
    with path.open("rb") as file:

        class Away(io.RawIOBase):
            left = calls

            def read(self, size: int = -1) -> bytes:
                self.left -= 1
                if self.left < 0:
                    raise OSError(errno.EIO, "Input/output error", str(path))
                return file.read(size)

            def seek(self, position: int, whence: int = 0) -> int:
                return file.seek(position, whence)

            def tell(self) -> int:
                return file.tell()

            def readable(self) -> bool:
                return True

            def seekable(self) -> bool:
                return True

        with pytest.raises(OSError, match="Input/output error"):
            list(iter_paths(cast("IO[bytes]", Away()), "list.parquet"))
