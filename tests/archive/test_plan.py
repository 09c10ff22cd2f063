"""The list of pictures, and its shards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from graphs import write_tiny_bundle

from acl_runtime.archive import plan as module
from acl_runtime.archive.folder import LocalFolder
from acl_runtime.archive.plan import digest_pictures, open_plan, write_plan
from acl_runtime.files.errors import InputError

PATHS = [f"/in/{number}.png" for number in range(10)]


def test_shards_are_pieces_of_the_list(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    plan = write_plan(folder, PATHS, 4)
    assert (plan.pictures, plan.shards) == (10, 3)
    assert [plan.size(number) for number in range(3)] == [4, 4, 2]
    with open_plan(folder, plan) as pictures:
        assert pictures.shard(1) == [path.encode() for path in PATHS[4:8]]
        assert [path.decode() for shard in pictures.shards() for path in shard] == PATHS


def test_a_folder_of_results_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (b"lot:7", b"\xff", b"a\nb", b"s3:x"):
        folder = LocalFolder(Path(os.fsdecode(name)))
        with open_plan(folder, write_plan(folder, PATHS, 4)) as pictures:
            assert pictures.shard(2) == [b"/in/8.png", b"/in/9.png"]


@pytest.mark.parametrize(("paths", "size"), [(PATHS[::-1], 4), (PATHS[:9], 4), (PATHS, 5)])
def test_a_list_that_is_not_the_one_that_was_begun_with_is_refused(
    tmp_path: Path, paths: list[str], size: int
) -> None:
    plan = write_plan(LocalFolder(tmp_path), PATHS, 4)
    write_plan(LocalFolder(tmp_path), paths, size)  # as a run may that begins at the same time in storage
    with (
        pytest.raises(
            InputError, match=r"_pictures\.pq: is not the list of pictures that was begun with; name"
        ),
        open_plan(LocalFolder(tmp_path), plan),
    ):
        pass


@pytest.mark.parametrize("kept", [slice(20), slice(-4)])
def test_a_list_that_is_damaged_is_told(tmp_path: Path, kept: slice) -> None:
    plan = write_plan(LocalFolder(tmp_path), PATHS, 4)
    path = tmp_path / "_pictures.pq"
    path.write_bytes(path.read_bytes()[kept])
    with (
        pytest.raises(InputError, match=r"_pictures\.pq: is damaged \(.*; put it back from a copy, or name"),
        open_plan(LocalFolder(tmp_path), plan),
    ):
        pass


def test_the_digest_is_that_of_the_list_whatever_the_shards(tmp_path: Path) -> None:
    plans = [write_plan(LocalFolder(tmp_path), PATHS, size) for size in (1, 4, 100)]
    assert {plan.sha256 for plan in plans} == {digest_pictures(PATHS)[1]}
    assert digest_pictures(PATHS[::-1])[1] != plans[0].sha256
    assert digest_pictures(["a", "b"])[1] != digest_pictures(["ab"])[1]


def test_a_picture_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"2 pictures are named more than once, such as /in/2.png, /in/7.png"
    ):
        write_plan(LocalFolder(tmp_path), [*PATHS, "/in/7.png", "/in/2.png", "/in/2.png"], 4)
    assert not list(tmp_path.iterdir())


def test_pictures_whose_keys_are_alike_by_chance_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_key", lambda path: 7)
    assert write_plan(LocalFolder(tmp_path), PATHS, 4).pictures == 10


def test_a_list_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no pictures"):
        write_plan(LocalFolder(tmp_path), [], 4)
    assert not list(tmp_path.iterdir())


def test_a_million_paths_are_never_in_memory(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from archives import HandPool, begin, judge, rows

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

for count in (50_000, 1_000_000):
    listed = Path(sys.argv[1], "list.txt")
    with listed.open("w") as file:
        file.writelines(f"line 7/2026-11-28/station 3/part {number:09d}.png\\n" for number in range(count))
    out = Path(sys.argv[1], str(count))
    run = begin(out, Path(sys.argv[2]), listed)
    pool = HandPool(run)
    judge(out, run, pool, stopped=lambda: len(pool.judged) == 2)  # a part of it
    print(peak(), run.plan.pictures, len(rows(out)), rows(out)[-1]["path"])
"""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    paths = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert ended.returncode == 0, ended.stderr
    small, large = (line.split(maxsplit=3) for line in ended.stdout.splitlines())
    assert large[1:] == ["1000000", "1000", f"{tmp_path}/line 7/2026-11-28/station 3/part 000000999.png"]
    assert (
        int(large[0]) - int(small[0]) < 45e6
    )  # their texts alone take 120 MB; keys of 8 bytes, twice, are 16
