"""Prompts by name: from a folder or a URL of the user's choosing, and only with the hash that they must have."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
from typer.testing import CliRunner

from acl_runtime.cli import app
from acl_runtime.files.errors import InputError
from acl_train import shared_prompts
from acl_train.shared_prompts import find_shared

PLACE = "https://prompts.example/shelf/"
CONTENT = b"a prompts file"
HASH = hashlib.sha256(CONTENT).hexdigest()


def serving(content: bytes, asked: list[str]) -> Callable[[str], io.BytesIO]:
    def open_url(url: str) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    return open_url


def test_a_file_is_fetched_once_and_kept_by_its_hash(tmp_path: Path) -> None:
    asked: list[str] = []
    for _ in range(2):
        path = find_shared(f"visa@{HASH}", PLACE, cache=tmp_path, open_url=serving(CONTENT, asked))
        assert path.read_bytes() == CONTENT
    assert asked == ["https://prompts.example/shelf/visa.safetensors"]


def test_a_kept_file_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    path = find_shared(f"visa@{HASH}", PLACE, cache=tmp_path, open_url=serving(CONTENT, []))
    path.write_bytes(b"damaged")
    path = find_shared(f"visa@{HASH}", PLACE, cache=tmp_path, open_url=serving(CONTENT, []))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"another file", CONTENT + b" and more", b""])
def test_a_file_of_another_hash_is_refused_and_not_kept(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing was kept"):
        find_shared(f"visa@{HASH}", PLACE, cache=tmp_path, open_url=serving(content, []))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prompts, "MOST_BYTES", 1 << 20)
    read: list[int] = []

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(size or 0)
            return bytes(size or 0)

    with pytest.raises(InputError, match="more than 1 MB"):
        find_shared(f"visa@{HASH}", PLACE, cache=tmp_path, open_url=lambda url: Endless())
    assert len(read) == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "place", "why"),
    [
        ("visa", PLACE, "need the hash"),
        (f"visa@{HASH}", "http://prompts.example", "by https only"),
        (f"visa@{HASH}", "file:///etc", "by https only"),
        ("visa@12ab", PLACE, "64 hexadecimal digits"),
        (f"../visa@{HASH}", PLACE, "must be NAME"),
        (f"a/b@{HASH}", PLACE, "must be NAME"),
    ],
)
def test_what_is_no_name_no_https_or_has_no_hash_is_refused(
    name: str, place: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=why):
        find_shared(name, place, cache=tmp_path, open_url=lambda url: pytest.fail("asked"))


def test_a_place_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    def refuse(url: str) -> io.BytesIO:
        raise URLError("connection refused")

    with pytest.raises(InputError, match="could not be fetched .*pass its folder with --from"):
        find_shared(f"visa@{HASH}", PLACE, cache=tmp_path, open_url=refuse)


def test_a_redirection_away_from_https_is_refused() -> None:
    from urllib.request import Request

    handler = shared_prompts._HttpsOnly()
    request = Request(PLACE)
    with pytest.raises(InputError, match="no https"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://elsewhere.example/x")  # type: ignore[no-untyped-call]


def test_a_folder_gives_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "visa.safetensors").write_bytes(CONTENT)
    assert find_shared("visa", str(tmp_path), cache=tmp_path / "cache") == tmp_path / "visa.safetensors"
    with pytest.raises(FileNotFoundError, match="the folder's are visa"):
        find_shared("mvtec", str(tmp_path), cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"sha256 must be 0{64}, got"):
        find_shared(f"visa@{'0' * 64}", str(tmp_path), cache=tmp_path / "cache")


def test_export_asks_for_a_place_and_for_one_source_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "visa.safetensors").write_bytes(CONTENT)
    bundle = str(tmp_path / "bundle")
    alone = CliRunner().invoke(app, ["export", "--prompts", "visa", "-o", bundle])
    assert (alone.exit_code, "go together" in alone.output) == (2, True)
    found = CliRunner().invoke(app, ["export", "--prompts", "visa", "--from", str(tmp_path), "-o", bundle])
    assert (found.exit_code, "not a prompts file" in found.output) == (1, True)
