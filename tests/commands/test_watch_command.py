"""`acl watch` as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from console import acl, assert_one_line
from graphs import write_tiny_bundle
from watching import judged, lines, put, wait_for

from acl_runtime.outputs.text import HEADER

ACL = [sys.executable, "-c", "import sys; from acl_runtime.cli import app; app(sys.argv[1:])"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("watch") / "bundle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.jsonl"


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ACL, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_watches_until_it_is_told_to_stop(bundle: Path, folder: Path, journal: Path) -> None:
    for name in ("a.png", "b.png"):
        put(folder / name)
        with started("watch", bundle, folder, "--json", journal) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{HEADER}\n"
            assert process.stdout.readline().endswith(f"{folder / name}\n")
            process.terminate()
            closing = process.stdout.read()
        assert closing.startswith("1 frame: ")
        assert float(closing.split("; ")[1].split()[0]) > 2  # the seconds of waiting do not count
        assert process.returncode == 0
    assert judged(journal) == ["a.png", "b.png"]


def test_run_and_watch_name_a_file_alike(bundle: Path, folder: Path, journal: Path, tmp_path: Path) -> None:
    put(folder / "deep" / "a.png")
    acl("run", bundle, folder, "--json", tmp_path / "run.jsonl")
    with started("watch", bundle, folder, "--json", journal) as process:
        wait_for(lambda: journal.exists() and journal.stat().st_size > 0)
        process.terminate()
    assert lines(journal)[0]["source"] == lines(tmp_path / "run.jsonl")[0]["source"]


def test_tiles_in_batches_are_all_judged(bundle: Path, folder: Path, journal: Path) -> None:
    names = [f"{i}.png" for i in range(9)]
    for name in names:
        put(folder / name)
    with started("watch", bundle, folder, "--json", journal, "--batch", 2, "--tile", 60) as process:
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") == len(names))
        process.terminate()
        assert process.wait() == 0
    assert judged(journal) == names


def test_a_watched_folder_drops_nothing(bundle: Path, folder: Path, journal: Path) -> None:
    result = acl("watch", bundle, folder, "--json", journal, "--drop", "oldest")
    assert result.exit_code == 2
    assert "No such option: --drop" in result.stderr


def test_run_leaves_the_file_of_a_watch_alone(
    bundle: Path, folder: Path, journal: Path, tmp_path: Path
) -> None:
    put(tmp_path / "one.png")
    with started("watch", bundle, folder, "--json", journal) as process:
        wait_for(journal.exists)
        wait_for(lambda: acl("run", bundle, tmp_path / "one.png", "--json", journal).exit_code == 1)
        result = acl("run", bundle, tmp_path / "one.png", "--json", journal)
        assert "results.jsonl: is in use by process" in result.stderr
        put(folder / "a.png")
        wait_for(lambda: journal.stat().st_size > 0)
        process.terminate()
        assert process.wait() == 0
    assert judged(journal) == ["a.png"]
    result = acl("run", bundle, tmp_path / "one.png", "--json", journal)
    assert "remembers what was judged of a watched folder" in result.stderr
    assert judged(journal) == ["a.png"]


def test_a_second_watch_is_told_who_holds_the_file(bundle: Path, folder: Path, journal: Path) -> None:
    with started("watch", bundle, folder, "--json", journal) as process:
        wait_for(journal.exists)
        assert process.stderr is not None
        while "watching" not in process.stderr.readline():
            pass
        result = acl("watch", bundle, folder, "--json", journal)
        assert result.exit_code == 1
        assert f"results.jsonl: is in use by process {process.pid} (" in result.stderr
        assert "; stop it, or name another file" in result.stderr
        process.terminate()


@pytest.mark.parametrize("place", ["in", "in/deep", "."])
def test_overlays_never_come_to_lie_in_the_watched_folder(
    bundle: Path, folder: Path, journal: Path, tmp_path: Path, place: str
) -> None:
    result = acl("watch", bundle, folder, "--json", journal, "--save-overlays", tmp_path / place)
    assert result.exit_code == 1
    assert "in, " in result.stderr or "in, where" in result.stderr
    assert "parts; name a folder" in result.stderr


def test_a_json_file_named_as_a_picture_is_refused(bundle: Path, folder: Path) -> None:
    result = acl("watch", bundle, folder, "--json", folder / "a.PNG")
    assert_one_line(result, "a.PNG: is named as a picture of the watched folder; name it .jsonl")


def test_usage_errors_are_two(bundle: Path, folder: Path) -> None:
    for wrong in ([folder], [folder, "--json", "-"], ["--json", "a.jsonl"]):
        assert acl("watch", bundle, *wrong).exit_code == 2


def test_too_large_a_batch_is_refused_before_the_first_file(
    bundle: Path, folder: Path, journal: Path
) -> None:
    result = acl("watch", bundle, folder, "--json", journal, "--batch", 999)
    assert result.exit_code == 1
    assert "batch must lie in 1.." in result.stderr
