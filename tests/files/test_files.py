"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from acl_runtime.files.atomic import atomic_file, atomic_folder, sha256


def write(path: Path, text: str, *, error: BaseException | None = None) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text)
        if error:
            raise error


def write_folder(path: Path, text: str, *, error: BaseException | None = None) -> None:
    with atomic_folder(path, marker="manifest.json") as folder:
        (folder / "manifest.json").write_text(text)
        if error:
            raise error


def write_folder_late(path: Path) -> None:
    with atomic_folder(path, marker="manifest.json") as folder:
        (folder / "manifest.json").write_text("new")
        path.mkdir()
        (path / "thesis.txt").write_text("dear")


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_appears_with_its_parent_folders_and_replaces_an_older_one(
    tmp_path: Path, durable: bool
) -> None:
    for text in ("old", "new"):
        with atomic_file(tmp_path / "a" / "b.npy", durable=durable) as temporary:
            assert temporary.suffix == ".npy"  # numpy would append it otherwise
            temporary.write_text(text)
    assert (tmp_path / "a" / "b.npy").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.npy"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt(), ValueError("no")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "a.txt", "old")
    with pytest.raises(type(error)):
        write(tmp_path / "a.txt", "ne", error=error)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "target.txt", "old")
    (tmp_path / "link.txt").symlink_to("target.txt")
    write(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "new"


@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_what_is_not_a_regular_file_is_not_replaced(path: str) -> None:
    with pytest.raises(ValueError, match="is not a regular file; name a file"):
        write(Path(path), "text")


def test_a_folder_appears_and_replaces_an_older_one_completely(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "bundle", "old")
    (tmp_path / "a" / "bundle" / "more").write_text("stale")
    write_folder(tmp_path / "a" / "bundle", "new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["bundle"]
    assert [path.read_text() for path in (tmp_path / "a" / "bundle").iterdir()] == ["new"]


def test_an_empty_folder_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    write_folder(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "new"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    write_folder(tmp_path / "bundle", "old")
    with pytest.raises(type(error)):
        write_folder(tmp_path / "bundle", "ne", error=error)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "old"


def test_a_folder_of_someone_else_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"is not empty and holds no manifest\.json; name a new"):
        write_folder(tmp_path, "new")
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_a_folder_filled_by_someone_else_during_the_work_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not empty"):
        write_folder_late(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["thesis.txt"]


def test_a_file_and_the_current_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="is not a folder"):
        write_folder(tmp_path / "file", "new")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="the current folder; name a new folder"):
        write_folder(Path(), "new")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000  # more than one block
    (tmp_path / "data").write_bytes(data)
    assert sha256(tmp_path / "data") == hashlib.sha256(data).hexdigest()
