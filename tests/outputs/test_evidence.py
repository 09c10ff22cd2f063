"""Evidence survives kills, full disks, lost and damaged indices, and never stops the line."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from station_events import defect, part, status, wait_until

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.outputs.evidence import store as evidence
from acl_runtime.outputs.evidence.files import days, files_of
from acl_runtime.outputs.evidence.index import INDEX
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.rebuild import rebuild
from acl_runtime.outputs.evidence.record import Evidence, from_row, from_sidecar, to_row, to_sidecar
from acl_runtime.outputs.evidence.store import EvidenceStore, Options
from acl_runtime.outputs.station import StationEvent, WebRecord
from acl_runtime.web.account import Lost
from acl_runtime.web.records import event_dict

DAY = "2027-01-15"  # of `part`
TESTS = Path(__file__).parents[1]


@contextmanager
def opened(folder: Path, **given: Any) -> Iterator[EvidenceStore]:
    store = EvidenceStore(Options(folder=folder, **{"keep_free_gb": 0.0, "sample_every": 0, **given}))
    try:
        yield store
    finally:
        store.close(10)


def tell(store: EvidenceStore, *events: StationEvent) -> None:
    """Tell events, and wait until the disk has them."""
    for event in events:
        store(event)
    wait_until(lambda: not store.waiting)


def numbers(folder: Path, **wanted: Any) -> list[int]:
    return [record.number for record in EvidenceReader(folder).records(**{"limit": 1000, **wanted})]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_agree(folder: Path) -> None:
    """Each record has the files that it says, and each file is of a record."""
    with closing(sqlite3.connect(folder / INDEX)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found, after = set[Path](), 0
    while records := EvidenceReader(folder).records(after=after, limit=1000):
        for record in records:
            if record.size:
                found.update(files_of(folder, record))
                assert record.size == sum(path.stat().st_size for path in files_of(folder, record))
        after = records[-1].number
    assert found == {path for day in days(folder) for path in day.iterdir()}
    counts = EvidenceReader(folder).counts()
    assert counts.size == sum(path.stat().st_size for path in found)


def test_a_record_says_what_was_seen_and_its_files_show_it(tmp_path: Path) -> None:
    with opened(tmp_path, sample_every=3) as store:
        tell(
            store,
            status(bundle="feed1234"),
            part(1),
            part(2, "ng", part_id="A"),
            part(3, "not judged"),
            part(4),
        )
        tell(store, defect(5))
    reader = EvidenceReader(tmp_path)
    found = reader.record(2)
    assert found is not None
    assert (found.part_id, found.verdict, found.score, found.threshold, found.bundle) == (
        "A",
        "ng",
        0.9,
        0.5,
        "feed1234",
    )
    assert found.regions[0]["area"] == 12
    picture = cv2.imread(str(reader.picture_path(2)))
    assert picture is not None
    assert np.array_equal(picture, np.full((8, 8, 3), 2))
    assert reader.picture_path(2, "overlay") == tmp_path / DAY / "0000000002.overlay.jpg"
    assert [(record.number, record.picture) for record in reader.records(after=0)] == [
        *((1, "png"), (2, "png"), (3, ""), (4, "png"), (5, "png"))  # 1 and 4: of every three parts one
    ]
    assert reader.record(3).reason == "late"  # type: ignore[union-attr]
    web = reader.record(5)
    assert web is not None
    assert (web.kind, web.roll, web.y_mm, web.verdict, web.detail["lanes"]) == (
        "defect",
        "R1",
        123.4,
        "ng",
        ["lane 3"],
    )
    assert_agree(tmp_path)


def test_records_of_a_web_that_are_no_evidence_are_left_out(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        rolls = WebRecord(number=1, camera="web", roll="R1", record={"event": "roll"})
        gap = event_dict(Lost(first=10, stop=20, reason="packets"))
        tell(store, rolls, WebRecord(number=2, camera="web", roll="R1", record=gap))
    (record,) = EvidenceReader(tmp_path).records()
    assert (record.number, record.verdict, record.reason) == (2, "not judged", "packets")


def test_a_record_is_the_same_in_the_index_and_beside_its_picture() -> None:
    record = Evidence(
        number=7,
        time=1.8e9,
        camera="tøp",
        kind="part",
        verdict="ng",
        regions=({"x": 1},),
        unusual=("a",),
        score=0.1,
    )
    assert from_row(to_row(record)) == record
    assert from_sidecar(to_sidecar(record)) == record
    for wrong in ({"number": "7"}, {"regions": "x"}, {"score": "high"}):
        text = json.dumps({**json.loads(to_sidecar(record)), **wrong}).encode()
        with pytest.raises(InputError, match="wrong ones"):
            from_sidecar(text)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_twenty_times_every_reported_record_is_there_and_files_agree(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(TESTS / "evidence_killed.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    reported = json.loads(run.stdout)
    assert len(reported) >= 20
    with opened(folder) as store:
        wait_until(lambda: not store.problem)
    there, after = list[int](), 0
    while more := numbers(folder, after=after):
        there, after = there + more, more[-1]
    assert set(reported) <= set(there)
    rebuilt = rebuild(folder)
    assert rebuilt.without_files == 0
    assert_agree(folder)
    again = list[int]()
    after = 0
    while more := numbers(folder, after=after):
        again, after = again + more, more[-1]
    assert again == there  # the old index could be read, so that nothing was lost


def test_the_quota_takes_the_oldest_good_ones_then_ng_that_nobody_reviewed_and_no_review(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, sample_every=1) as store:
        tell(store, *(part(number, "ng" if number <= 4 else "ok", side=64) for number in range(1, 9)))
        store.review(1, "defect", "Ana")
        store.review(5, "unsure", "Ana")
    size = EvidenceReader(tmp_path).counts().size
    taken: list[list[int]] = []
    for room in (0.99, 0.7, 0.4, 0.26):
        with opened(tmp_path, sample_every=1, quota_gb=room * size / 1e9, most_waiting=1) as store:
            tell(store, part(100 + len(taken), "not judged"), defect(200 + len(taken)))
        reader = EvidenceReader(tmp_path)
        assert reader.counts().size <= room * size + 2000  # a review's sidecar may pass it
        taken.append([number for number in range(1, 9) if reader.picture_path(number) is None])
    for gone in taken:
        rejects, good = [n for n in gone if n <= 4], [n for n in gone if n > 4]
        assert good == [6, 7, 8][: len(good)]  # 5 is reviewed
        assert rejects == [2, 3, 4][: len(rejects)]  # 1 is reviewed
        assert not rejects or len(good) == 3
    assert taken[0] == [6]
    assert taken[-1] == [2, 3, 4, 6, 7, 8]
    assert numbers(tmp_path, before=100) == [8, 7, 6, 5, 4, 3, 2, 1]  # what was seen stays in the index
    assert_agree(tmp_path)


def test_where_only_reviewed_ones_are_left_that_is_said_and_records_go_on_without_pictures(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as store:
        tell(store, part(1, "ng", side=64))
        store.review(1, "defect", "Ana")
    size = EvidenceReader(tmp_path).counts().size
    with opened(tmp_path, quota_gb=(size + 900) / 1e9) as store:
        tell(store, part(2, "ng", side=64))
        assert "only reviewed ones are left" in store.problem
        assert store.dropped == 1
        tell(store, part(3))
    assert [bool(record.picture) for record in EvidenceReader(tmp_path).records(after=0)] == [
        True,
        False,
        False,
    ]


def test_rows_are_bounded_and_reviews_are_not_among_those_that_go(tmp_path: Path) -> None:
    with opened(tmp_path, most_rows=5) as store:
        tell(store, part(1, "not judged"), part(2))
        store.review(2, "defect", "Ana")
        tell(store, *(part(number) for number in range(3, 12)))
    assert numbers(tmp_path) == [11, 10, 9, 2, 1]


def test_a_clock_that_is_set_back_changes_no_order(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        late, early = part(1, "ng", side=64), part(2, "ng", side=64)
        tell(store, late, replace(early, exposed_at=late.exposed_at - 10 * 86_400))
    assert [day.name for day in days(tmp_path)] == ["2027-01-05", DAY]
    assert numbers(tmp_path) == [2, 1]
    with opened(tmp_path, quota_gb=1.1 * EvidenceReader(tmp_path).counts().size / 1e9) as store:
        tell(store, part(3, "ng", side=64))
    reader = EvidenceReader(tmp_path)
    assert [reader.picture_path(number) is not None for number in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize("how", ["gone", "damaged", "empty", "damaged while it runs", "gone while it runs"])
def test_an_index_that_is_lost_is_made_again_from_the_files_and_nothing_is_deleted(
    tmp_path: Path, how: str
) -> None:
    def spoil() -> None:
        path = tmp_path / INDEX
        if "gone" in how:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "damaged":
            path.write_bytes(b"no database" * 1000)
        else:
            with path.open("r+b") as file:
                for page in range(1, path.stat().st_size // 4096):
                    file.seek(4096 * page)
                    file.write(b"\xff" * 4096)

    pictures = [part(number, "ng", side=64) for number in range(1, 6)]
    with opened(tmp_path) as store:
        tell(store, *pictures)
        store.review(3, "good", "Ana")
        if "runs" in how:
            spoil()
            tell(store, part(6, "ng"))
            wait_until(lambda: not store.problem and not store.waiting)
    before = names(tmp_path / DAY)
    if "runs" not in how:
        spoil()
        with opened(tmp_path) as store:
            tell(store, part(6, "ng"))
    assert set(before) <= set(names(tmp_path / DAY))
    assert numbers(tmp_path) == [6, 5, 4, 3, 2, 1]
    assert numbers(tmp_path, review="good") == [3]
    assert_agree(tmp_path)


def test_what_is_not_ours_is_moved_aside_and_keeps_its_bytes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        tell(store, part(1, "ng"), part(2, "ng"))
    day = tmp_path / DAY
    (day / "holiday.png").write_bytes(b"mine")
    (day / "0000000009.png").write_bytes(b"of a process that was killed")
    (day / "0000000002.json").write_bytes(b'{"torn')
    (tmp_path / "notes.txt").write_bytes(b"mine")
    found = rebuild(tmp_path)
    assert (found.added, found.aside, found.from_old) == (
        1,
        5,
        1,
    )  # of 2 the sidecar, the picture and the overlay
    assert (tmp_path / "aside" / f"{DAY}-holiday.png").read_bytes() == b"mine"
    assert (tmp_path / "aside" / f"{DAY}-0000000002.png").is_file()
    assert (tmp_path / "notes.txt").is_file()
    assert numbers(tmp_path) == [2, 1]
    assert_agree(tmp_path)


def test_two_services_do_not_write_one_folder(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        wait_until(lambda: not first.problem)
        with opened(tmp_path) as second:
            second(part(1))
            wait_until(lambda: "is in use by" in second.problem)
            first.close(5)
            wait_until(lambda: not second.problem and not second.waiting)
    assert numbers(tmp_path) == [1]


def test_numbers_that_begin_again_replace_nothing_and_are_said(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        tell(store, part(1, "ng"), part(2, "ng"))
        told_twice = replace(part(2, "not judged"), exposed_at=1.9e9)  # as after a kill
        tell(store, told_twice)
        assert (store.problem, store.dropped) == ("", 0)
        tell(store, replace(part(1), exposed_at=1.9e9))
        assert "numbers began again" in store.problem
        assert store.dropped == 1
    assert [record.verdict for record in EvidenceReader(tmp_path).records()] == ["ng", "ng"]


def test_a_review_lasts_when_it_is_answered_from_any_thread(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        tell(store, *(part(number, "ng") for number in range(1, 9)))
        threads = [threading.Thread(target=store.review, args=(n, "good", f"P{n}")) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(numbers(tmp_path, review="good")) == list(range(1, 9))
        store.review(3, "defect", "Bo")
        record = EvidenceReader(tmp_path).record(3)
        assert record is not None
        assert (record.review, record.reviewed_by) == ("defect", "Bo")
        with pytest.raises(InputError, match="number 99 is not in"):
            store.review(99, "good", "Ana")
        with pytest.raises(InputError, match="mark must be one of good, defect, unsure"):
            store.review(1, "fine", "Ana")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="must name who"):
            store.review(1, "good", "")
    with pytest.raises(SourceError, match="the station stops"):
        store.review(1, "good", "Ana")
    assert_agree(tmp_path)


def test_too_many_pictures_in_memory_cost_pictures_and_no_record(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    folder.write_bytes(b"")  # no folder can be made there
    with opened(folder, most_waiting=2) as store:
        wait_until(lambda: "away" in store.problem)
        for number in range(1, 7):
            store(part(number, "ng"))
        assert store.dropped == 4
        with pytest.raises(SourceError):
            _review_soon(store)
        folder.unlink()
        wait_until(lambda: not store.waiting)
        assert store.dropped == 4
    assert [bool(record.picture) for record in EvidenceReader(folder).records(after=0)] == [True] * 2 + [
        False
    ] * 4


def _review_soon(store: EvidenceStore) -> None:
    patience, evidence.REVIEW_S = evidence.REVIEW_S, 0.05
    try:
        store.review(1, "good", "Ana")
    finally:
        evidence.REVIEW_S = patience


def test_telling_takes_microseconds_while_the_disk_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acl_runtime.outputs.evidence import writer

    is_free = threading.Event()
    monkeypatch.setattr(writer, "sync", lambda paths: is_free.wait(20))
    with opened(tmp_path, most_waiting=10) as store:
        took = []
        for number in range(1, 201):
            event = part(number, "ng" if number % 5 == 0 else "ok", side=256)
            began = time.perf_counter()
            store(event)
            took.append(time.perf_counter() - began)
        is_free.set()
        wait_until(lambda: not store.waiting)
    assert sorted(took)[len(took) // 2] < 0.000_5  # 0.04 ms on a machine that is not busy
    assert len(numbers(tmp_path)) == 200


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    assert shutil.disk_usage(path).free == 0


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk: needs root on Linux"
)
def test_a_full_disk_costs_pictures_then_patience_and_no_record(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        folder = disk / "evidence"
        rng = np.random.default_rng(0)
        with opened(folder, overlays=False) as store:
            for first in range(1, 101, 10):
                pictures = (
                    rng.integers(0, 256, (180, 180, 3), dtype=np.uint8) for _ in range(10)
                )  # 100 kB each
                tell(
                    store, *(replace(defect(n), picture=each) for n, each in enumerate(pictures, start=first))
                )
            reader = EvidenceReader(folder)
            there = [n for n in range(1, 101) if reader.picture_path(n)]
            assert there == list(range(101 - len(there), 101))
            assert 10 < len(there) < 60
            fill_up(disk / "of others")
            tell(store, *(part(number, "not judged") for number in range(101, 1001)))
            assert "nothing is left to delete; make room" in store.problem
            assert not any(reader.picture_path(n) for n in range(1, 101))  # they made what room they could
            fill_up(disk / "of others, too")
            for number in range(1001, 4101):
                store(part(number, "not judged", part_id="x" * 100))
            wait_until(lambda: "cannot be written" in store.problem)
            (disk / "of others").unlink()
            wait_until(lambda: not store.waiting)
            assert store.dropped == 0
        assert_agree(folder)
        assert EvidenceReader(folder).counts().total() == 4100
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_path_of_a_picture_is_made_of_the_index_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        tell(store, part(1, "ng"))
    reader = EvidenceReader(tmp_path)
    with pytest.raises(InputError, match="a picture and an overlay"):
        reader.picture_path(1, "../index.db")  # type: ignore[arg-type]
    assert reader.picture_path(2) is None
    assert store.picture_path(1) == reader.picture_path(1) == tmp_path / DAY / "0000000001.png"
    shutil.rmtree(tmp_path / DAY)
    assert reader.picture_path(1) is None
    (tmp_path / INDEX).unlink()
    assert store.picture_path(1) is None


def test_a_reader_chooses_and_refuses_what_cannot_be(tmp_path: Path) -> None:
    reader = EvidenceReader(tmp_path)
    with pytest.raises(InputError, match="holds no index.db"):
        reader.records()
    with opened(tmp_path) as store:
        verdicts = ["ok", "ng", "not judged"] * 4
        tell(store, *(part(n, v, part_id=f"P{n % 2}") for n, v in enumerate(verdicts, start=1)))  # type: ignore[arg-type]
        store.review(2, "good", "Ana")
        assert numbers(tmp_path, verdict="rejected", review="") == [12, 11, 9, 8, 6, 5, 3]
    assert numbers(tmp_path, verdict="ng", after=2, limit=2) == [5, 8]
    assert numbers(tmp_path, part_id="P1", verdict="ok", before=7) == [1]
    assert numbers(tmp_path, verdict="ng", review="good") == [2]
    counts = reader.counts()
    assert (counts.total(), counts.total(verdict="ng"), counts.total(review="good")) == (12, 4, 1)
    with pytest.raises(InputError, match="limit must be 1"):
        reader.records(limit=0)
    (tmp_path / INDEX).write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="acl evidence rebuild makes it again"):
        reader.counts()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="becomes another user: needs root")
def test_who_may_only_read_reads_while_a_service_runs_and_while_none_does() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "evidence"
        Path(name).chmod(0o755)
        reader = EvidenceReader(folder)
        with opened(folder) as store:
            tell(store, part(1, "ng"))
            assert _count_as_nobody(reader) == 1
        assert not (folder / f"{INDEX}-wal").exists()
        assert _count_as_nobody(reader) == 1


def _count_as_nobody(reader: EvidenceReader) -> int:
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            (reader.folder / "mine").touch()
        return reader.counts().total()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Options(folder=Path("x"), quota_gb=0.0), "quota_gb must be above 0"),
        (lambda: Options(folder=Path("x"), sample_every=-1), "sample_every must be 0"),
        (lambda: Options(folder=Path("x"), most_waiting=0), "most_waiting must be 1"),
        (lambda: Options(folder=Path("x"), most_rows=0), "most_rows must be 1"),
    ],
)
def test_options_that_cannot_be_are_refused(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        make()
