"""The loop: every shard once, whatever dies, whatever is there already."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from archives import HandPool, begin, judge, left_over, put_pictures, rows
from graphs import write_tiny_bundle
from watching import wait_for

from acl_runtime.archive.begin import MAPS_OF, check_places
from acl_runtime.archive.folder import open_folder
from acl_runtime.archive.record import ArchiveRun, Judging, MapFolder, read_run
from acl_runtime.archive.run import find_done, result_name
from acl_runtime.archive.status import read_status, status_text
from acl_runtime.files.errors import BackendError, InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("archive") / "bundle")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    put_pictures(folder, 11, bad=[4])
    return folder


@pytest.fixture
def run(tmp_path: Path, bundle: Path, pictures: Path) -> ArchiveRun:
    """Six shards."""
    return begin(tmp_path / "out", bundle, pictures, shard_size=2)


def names(folder: Path) -> list[str]:
    return [Path(row["path"]).name for row in rows(folder)]


WHOLE = [f"{number}.png" for number in range(11)]


def test_every_picture_has_one_row(tmp_path: Path, run: ArchiveRun) -> None:
    pool, advanced = HandPool(run), list[int]()
    assert judge(tmp_path / "out", run, pool, advance=advanced.append) == []
    assert pool.judged == [0, 1, 2, 3, 4, 5]
    assert names(tmp_path / "out") == WHOLE
    assert not left_over(tmp_path / "out")
    assert len(pq.read_table(tmp_path / "out")) == 11  # the folder is one table to those who read it


def test_a_stopped_run_goes_on(tmp_path: Path, run: ArchiveRun, bundle: Path) -> None:
    pool = HandPool(run)
    judge(tmp_path / "out", run, pool, stopped=lambda: len(pool.judged) == 2)
    assert len(rows(tmp_path / "out")) == 4
    again = HandPool(begin(tmp_path / "out", bundle))
    judge(tmp_path / "out", run, again)
    assert pool.judged + again.judged == [0, 1, 2, 3, 4, 5]
    assert names(tmp_path / "out") == WHOLE


def test_a_shard_whose_worker_died_is_judged_again(
    tmp_path: Path, run: ArchiveRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "acl"):
        assert judge(tmp_path / "out", run, HandPool(run, dies_at=[1, 1, 3])) == []
    assert names(tmp_path / "out") == WHOLE
    assert caplog.messages.count("a worker was killed by SIGKILL; shard 1 is judged again") == 2


def test_a_picture_that_kills_every_worker_stops_nothing_else(
    tmp_path: Path, run: ArchiveRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "acl"):
        assert judge(tmp_path / "out", run, HandPool(run, dies_at=[2] * 3)) == [2]
    assert names(tmp_path / "out") == [name for name in WHOLE if name not in ("4.png", "5.png")]
    assert "shard 2 is left out: its worker died 3 times" in caplog.text
    assert not read_status(open_folder(str(tmp_path / "out"))).is_complete


def test_workers_that_always_die_end_the_run(tmp_path: Path, run: ArchiveRun) -> None:
    with pytest.raises(
        BackendError, match="workers die again and again, 9 in a row by now; give fewer --workers"
    ):
        judge(tmp_path / "out", run, HandPool(run, dies_at=[*range(6)] * 3))


def test_a_few_pictures_that_kill_every_worker_do_not_keep_the_others_from_their_turn(
    tmp_path: Path, run: ArchiveRun
) -> None:
    assert judge(tmp_path / "out", run, HandPool(run, dies_at=[0, 1, 2] * 3)) == [0, 1, 2]
    assert names(tmp_path / "out") == WHOLE[6:]


def test_results_that_cannot_be_read_now_are_not_judged_again(
    tmp_path: Path, bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    run = begin("memory://results/away", bundle, pictures, shard_size=2)
    judge("memory://results/away", run, HandPool(run))

    def away(*arguments: object) -> object:
        raise TimeoutError("no answer")

    try:
        with monkeypatch.context() as patched:
            patched.setattr("fsspec.implementations.memory.MemoryFile.read", away)
            with pytest.raises(TimeoutError):
                find_done(open_folder("memory://results/away"), run)
        assert len(find_done(open_folder("memory://results/away"), run)) == 6
    finally:
        fsspec.filesystem("memory").rm("/results", recursive=True)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def swap(path: Path) -> None:
    shutil.copy(path.with_name(result_name(3)), path)


@pytest.mark.parametrize("harm", [damage, swap, Path.unlink])
def test_results_that_are_not_whole_are_made_again(tmp_path: Path, run: ArchiveRun, harm: object) -> None:
    judge(tmp_path / "out", run, HandPool(run))
    assert callable(harm)
    harm(tmp_path / "out" / result_name(1))
    pool = HandPool(run)
    judge(tmp_path / "out", run, pool)
    assert pool.judged == [1]
    assert names(tmp_path / "out") == WHOLE


def test_results_of_other_shards_of_the_same_list_are_made_again(
    tmp_path: Path, run: ArchiveRun, bundle: Path, pictures: Path
) -> None:
    judge(tmp_path / "out", run, HandPool(run))
    other = begin(tmp_path / "other", bundle, pictures, shard_size=3)
    shutil.copy(tmp_path / "out" / result_name(3), tmp_path / "other")  # 6 and 7, in place of 9 and 10
    judge(tmp_path / "other", other, pool := HandPool(other))
    assert pool.judged == [0, 1, 2, 3]
    assert names(tmp_path / "other") == WHOLE


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path, run: ArchiveRun) -> None:
    (tmp_path / "out" / ".0123456789ab.parquet").write_bytes(b"half")
    judge(tmp_path / "out", run, HandPool(run))
    assert not left_over(tmp_path / "out")


def test_a_full_disk_is_said_and_the_run_goes_on_later(tmp_path: Path, bundle: Path, pictures: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        run = begin(disk / "out", bundle, pictures, shard_size=2)
        (disk / "filler").write_bytes(bytes(28 << 10))
        (tmp_path / "list.txt").write_text("".join(f"{number:.20f}\n" for number in range(20_000)))
        with pytest.raises(OSError, match=r"No space left on device: '.*/disk/out/part-"):
            judge(disk / "out", run, HandPool(run))
        assert not left_over(disk / "out")
        with pytest.raises(OSError, match=r"No space left on device: '.*/disk/other/_pictures\.pq"):
            begin(disk / "other", bundle, tmp_path / "list.txt")
        assert 0 < len(rows(disk / "out")) < 11
        (disk / "filler").unlink()
        judge(disk / "out", run, HandPool(run))
        assert names(disk / "out") == WHOLE
    finally:
        # A thread of pyarrow may let go of a file that was read a moment later.
        wait_for(lambda: subprocess.run(["umount", str(disk)], check=False).returncode == 0)


def test_results_in_storage_are_the_same(
    tmp_path: Path, run: ArchiveRun, bundle: Path, pictures: Path
) -> None:
    import fsspec

    judge(tmp_path / "out", run, HandPool(run))
    there = begin("memory://results/one", bundle, pictures, shard_size=2)
    judge("memory://results/one", there, HandPool(there, dies_at=[4]))
    files = fsspec.filesystem("memory")
    for number in range(6):
        path = tmp_path / "out" / result_name(number)
        assert files.cat_file(f"/results/one/{result_name(number)}") == path.read_bytes()
    assert read_status(open_folder("memory://results/one")).is_complete
    files.rm("/results", recursive=True)


def changed(run: ArchiveRun, **settings: object) -> Judging:
    return Judging(**{**vars(run.judging), **settings})


def test_another_bundle_is_refused_unless_again(
    tmp_path: Path, run: ArchiveRun, pictures: Path, bundle: Path
) -> None:
    judge(tmp_path / "out", run, HandPool(run))
    other = write_tiny_bundle(tmp_path / "other", head="embeddings")
    with pytest.raises(
        InputError, match="was judged with another bundle, .*put that back, .*or pass --again"
    ):
        begin(tmp_path / "out", other, pictures)
    new = begin(tmp_path / "out", other, pictures, again=True)
    pool = HandPool(new)
    judge(tmp_path / "out", new, pool, stopped=lambda: len(pool.judged) == 4)
    with pytest.raises(InputError, match="another bundle"):  # the half that is new is not mixed with the old
        begin(tmp_path / "out", bundle)
    last = HandPool(begin(tmp_path / "out", other))
    judge(tmp_path / "out", new, last)
    assert pool.judged + last.judged == [0, 1, 2, 3, 4, 5]
    digests = {
        pq.read_schema(path).metadata[b"acl.bundle_sha256"] for path in (tmp_path / "out").glob("part-*")
    }
    assert digests == {new.bundle_sha256.encode()}
    assert names(tmp_path / "out") == WHOLE


def test_a_bundle_may_be_moved(tmp_path: Path, run: ArchiveRun, bundle: Path) -> None:
    moved = shutil.copytree(bundle, tmp_path / "moved")
    assert begin(tmp_path / "out", moved).bundle == str(moved)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold": 0.2}, "threshold None, and now it is 0.2"),
        ({"max_megapixels": 2.0}, "max megapixels 1.0, and now it is 2.0"),
    ],
)
def test_other_options_are_refused(
    tmp_path: Path, run: ArchiveRun, bundle: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        begin(tmp_path / "out", bundle, judging=changed(run, **settings))


def test_another_list_is_refused_and_none_goes_on(
    tmp_path: Path, run: ArchiveRun, bundle: Path, pictures: Path
) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{pictures}/{number}.png\n" for number in range(12)))
    with pytest.raises(
        InputError, match=r"another list of pictures \(11 then, 12 now\); name another folder"
    ):
        begin(tmp_path / "out", bundle, tmp_path / "list.txt")
    with pytest.raises(InputError, match="was begun with 2 pictures a shard, got 3; leave --shard out"):
        begin(tmp_path / "out", bundle, pictures, shard_size=3)
    assert begin(tmp_path / "out", bundle) == run == read_run(open_folder(str(tmp_path / "out")))


def test_a_folder_of_something_else_is_refused(tmp_path: Path, bundle: Path, pictures: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(
        InputError, match="holds letter.txt and no _archive.json; name a new or an empty folder"
    ):
        begin(tmp_path / "mine", bundle, pictures)
    with pytest.raises(InputError, match="nothing was begun here; name the pictures"):
        begin(tmp_path / "new", bundle)
    with pytest.raises(InputError, match="lies in the bundle"):
        check_places(str(bundle / "out"), bundle, [str(pictures)], None)
    for manifest in (pictures, pictures / "**" / "*.png", pictures / "maps" / "*" / "0*.png"):
        with pytest.raises(InputError, match="where maps would be judged as pictures"):
            check_places("memory://out", bundle, [str(manifest)], pictures / "maps")
    for pattern in ("*.png", "**/*.jpg", "other/**/*.png"):
        check_places("memory://out", bundle, [str(pictures / pattern)], pictures / "maps")
    maps = MapFolder(path=str(tmp_path / "new" / "maps"), bits=8)
    with pytest.raises(InputError, match="lies in the folder of the results, which is one table"):
        begin(tmp_path / "new", bundle, pictures, maps=maps)
    (tmp_path / "file").touch()
    for name, message in (("", "has an empty name; name one"), (str(tmp_path / "file"), "is a file; name a")):
        with pytest.raises(InputError, match=message):
            open_folder(name)


def test_again_says_that_the_pictures_themselves_are_not_looked_at(
    tmp_path: Path, run: ArchiveRun, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "acl"):
        assert begin(tmp_path / "out", bundle, again=True) == run
    assert "--again judges nothing twice; name another folder where the pictures" in caplog.text


def test_status_tells_how_far_it_is(tmp_path: Path, run: ArchiveRun) -> None:
    pool = HandPool(run)
    judge(tmp_path / "out", run, pool, stopped=lambda: len(pool.judged) == 3)
    status = read_status(open_folder(str(tmp_path / "out")))
    lines = status_text(status).splitlines()
    assert lines[0] == "stopped: 6 of 11 pictures, 3 of 6 shards"
    assert lines[1].endswith(", 1 could not be judged")
    assert lines[3] == "judged by onnxruntime CPUExecutionProvider fp32: 3 shards"
    judged = [row["is_anomalous"] for row in rows(tmp_path / "out")]
    assert status.counts.anomalous == judged.count(True)
    with open_folder(str(tmp_path / "out")).held():
        assert status_text(read_status(open_folder(str(tmp_path / "out")))).startswith("under way: ")


def test_maps_of_other_results_are_not_written_over(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    maps = MapFolder(path=str(tmp_path / "maps"), bits=8)
    first = begin(tmp_path / "out", bundle, pictures, maps=maps)
    with pytest.raises(InputError, match=r"has the maps of .*/out; name another folder for these"):
        begin(tmp_path / "out2", bundle, pictures, maps=maps)
    assert begin(tmp_path / "out", bundle, maps=maps) == first
    (tmp_path / "maps" / MAPS_OF).unlink()
    begin(tmp_path / "out2", bundle, pictures, maps=maps)
