"""Two judgements of one archive."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from archives import JUDGING, HandPool, begin, judge, put_pictures, rows
from console import acl, assert_one_line
from graphs import write_tiny_bundle
from pages import Page, texts

from acl_runtime.archive.record import Judging, MapFolder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`before` and `after`: another threshold, other shards, one with maps, and one picture that was mended."""
    folder = tmp_path_factory.mktemp("compare")
    bundle = write_tiny_bundle(folder / "bundle")
    paths = put_pictures(folder / "in", 24, bad=[5])
    run = begin(folder / "before", bundle, folder / "in", shard_size=10)
    judge(folder / "before", run, HandPool(run))
    put_pictures(folder / "new", 6)[5].replace(paths[5])
    strict = Judging(**{**vars(JUDGING), "threshold": 0.05})
    maps = MapFolder(path=str(folder / "maps"), bits=8)
    run = begin(folder / "after", bundle, folder / "in", shard_size=7, judging=strict, maps=maps)
    judge(folder / "after", run, HandPool(run))
    return folder


def test_every_picture_is_counted_by_what_became_of_it(archive: Path) -> None:
    before, after = rows(archive / "before"), rows(archive / "after")
    wanted: dict[tuple[bool | None, bool | None], int] = {}
    for one, other in zip(before, after, strict=True):
        place = one["is_anomalous"], other["is_anomalous"]
        wanted[place] = wanted.get(place, 0) + 1
    assert {(False, True), (True, True)} <= wanted.keys()
    told = json.loads(acl("archive", "--compare", archive / "before", archive / "after", "--json").stdout)
    words = {None: "not judged", False: "OK", True: "NG"}
    assert {(row["before"], row["after"]): row["pictures"] for row in told["counts"]} == {
        (words[one], words[other]): count for (one, other), count in wanted.items()
    }
    assert told["changed"] == sum(count for (one, other), count in wanted.items() if one is not other)
    assert told["most_score_change"] < 1e-5  # pictures fall into other batches, and the last digits with them


def test_the_table_has_every_changed_verdict(archive: Path, tmp_path: Path) -> None:
    acl("archive", "--compare", archive / "before", archive / "after", "--csv", tmp_path / "changed.csv")
    with (tmp_path / "changed.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    before, after = rows(archive / "before"), rows(archive / "after")
    changed = [
        one["path"]
        for one, other in zip(before, after, strict=True)
        if one["is_anomalous"] is not other["is_anomalous"]
    ]
    assert [row["path"] for row in table] == changed
    mended = next(row for row in table if row["before"] == "not judged")
    assert (mended["score_before"], mended["margin_change"]) == ("", "")
    assert all(float(row["margin_change"]) > 0 for row in table if row["before"] == "OK")


def test_those_that_moved_most_come_first(archive: Path) -> None:
    lines = acl("archive", "--compare", archive / "before", archive / "after").stdout.splitlines()
    assert lines[0].startswith("24 pictures, ")
    moved = [float(line.split()[0]) for line in lines if "OK to NG  " in line]
    assert moved == sorted(moved, reverse=True)
    assert moved


def test_the_page_shows_both_judgements(archive: Path, tmp_path: Path) -> None:
    acl("archive", "--compare", archive / "before", archive / "after", "--report", tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert not parsed.open
    assert texts(text, "h2")[:2] == ["Verdicts", "OK to NG"]
    assert f"{archive}/in/" in texts(text, "h3")[0]
    assert len(parsed.all("img")) > 3
    assert all((image["src"] or "").startswith("data:image/jpeg") for image in parsed.all("img"))


def test_a_page_whose_pictures_and_maps_are_gone_still_has_the_verdicts(
    archive: Path, tmp_path: Path
) -> None:
    (archive / "in").rename(archive / "away")
    try:
        acl("archive", "--compare", archive / "before", archive / "after", "--report", tmp_path)
    finally:
        (archive / "away").rename(archive / "in")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "the picture cannot be read any more" in text
    assert 'class="badge ng"' in text


def test_what_cannot_be_compared_is_refused(archive: Path, tmp_path: Path) -> None:
    before, after = archive / "before", archive / "after"
    run = begin(tmp_path / "other", archive / "bundle", archive / "in" / "3.png")
    assert_one_line(acl("archive", "--compare", before, tmp_path / "other"), "1 of 1 shards are missing; run")
    judge(tmp_path / "other", run, HandPool(run))
    assert_one_line(
        acl("archive", "--compare", before, tmp_path / "other"), "is about other pictures than", code=1
    )
    assert_one_line(acl("archive", "--compare", tmp_path, after), "holds no _archive.json; name the folder")


def test_results_that_are_damaged_inside_are_told(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive / "before", tmp_path / "before")
    part = tmp_path / "before" / "part-0000001.parquet"
    data = part.read_bytes()
    part.write_bytes(data[:4] + bytes(400) + data[404:])  # its end, which says what it holds, is whole
    result = acl("archive", "--compare", tmp_path / "before", archive / "after")
    assert_one_line(result, "before/part-0000001.parquet: is damaged (")
    assert_one_line(result, "; delete it, and acl archive makes it again")


def test_a_name_forges_no_line(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    put_pictures(tmp_path / "in", 1)[0].rename(tmp_path / "in" / "x\n0 pictures\x1b[2K.png")
    for name, threshold in (("before", 0.9999), ("after", 0.0001)):
        judging = Judging(**{**vars(JUDGING), "threshold": threshold})
        run = begin(tmp_path / name, bundle, tmp_path / "in", judging=judging)
        judge(tmp_path / name, run, HandPool(run))
    lines = acl("archive", "--compare", tmp_path / "before", tmp_path / "after").stdout.splitlines()
    assert lines[-1].endswith(f"  OK to NG  {tmp_path}/in/x\\n0 pictures\\x1b[2K.png")
    assert "0 pictures" not in "".join(lines[:-1])


def test_the_page_counts_pictures_that_only_one_could_judge(archive: Path, tmp_path: Path) -> None:
    acl("archive", "--compare", archive / "before", archive / "after", "--report", tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Judged by one of both only: 1." in text


def test_the_page_says_which_options_differ(archive: Path, tmp_path: Path) -> None:
    acl("archive", "--compare", archive / "before", archive / "after", "--report", tmp_path)
    told = [
        text for text in texts((tmp_path / "index.html").read_text(encoding="utf-8"), "p") if "Option" in text
    ]
    assert told == ["Option threshold: None before, 0.05 after"]
