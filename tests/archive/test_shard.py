"""A shard: a row for each of its pictures."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from archives import JUDGING, begin, put_pictures
from console import acl
from graphs import drawn_frame, write_tiny_bundle
from watching import encoded

from acl_runtime.archive import shard as shard_module
from acl_runtime.archive.plan import Shard
from acl_runtime.archive.record import MapFolder
from acl_runtime.archive.shard import ShardJudge, ShardResult, load_map, map_path
from acl_runtime.calibration.change import set_by_hand
from acl_runtime.calibration.record import ByHand
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BundleError
from acl_runtime.scoring.rule import Rule


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("archive") / "bundle")


@pytest.fixture
def judge(bundle: Path, tmp_path: Path) -> Iterator[ShardJudge]:
    put_pictures(tmp_path / "first", 1)
    with ShardJudge(begin(tmp_path / "results", bundle, tmp_path / "first"), threads=1) as opened:
        yield opened


def shard(*paths: object, number: int = 0) -> Shard:
    return Shard(number, tuple(os.fsencode(str(path)) for path in paths))


def rows(result: ShardResult) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(BytesIO(result.data)).to_pylist()
    return found


def test_verdicts_are_those_of_acl_run(bundle: Path, judge: ShardJudge, tmp_path: Path) -> None:
    paths = put_pictures(tmp_path / "in", 7, bad=[3])
    acl("run", bundle, *paths, "--json", tmp_path / "run.jsonl", "--batch", 2, "--max-latency-ms", 60_000)
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    judged = rows(judge(shard(*paths)))
    assert (
        [row["path"] for row in judged] == [line["source"] for line in lines] == [str(path) for path in paths]
    )
    for row, line in zip(judged, lines, strict=True):
        if "error" in line:
            assert row["error"] == line["error"]
            assert {row[name] for name in row if name not in ("path", "error")} == {None}
        else:
            names = ("score", "peak", "is_anomalous", "threshold", "peak_threshold")
            assert {name: row[name] for name in names} == {name: line[name] for name in names}
            assert json.loads(row["regions"]) == line["regions"]
            assert row["error"] is None
    assert {row["is_anomalous"] for row in judged} == {True, False, None}


def test_the_file_says_what_judged_it(bundle: Path, judge: ShardJudge, tmp_path: Path) -> None:
    paths = put_pictures(tmp_path / "in", 3, bad=[0])
    judged = shard(*paths, number=7)
    told = pq.read_schema(BytesIO(judge(judged).data)).metadata
    assert {key: told[key] for key in (b"acl.backend", b"acl.precision", b"acl.shard", b"acl.errors")} == {
        b"acl.backend": b"onnxruntime",
        b"acl.precision": b"fp32",
        b"acl.shard": b"7",
        b"acl.errors": b"1",
    }
    assert told[b"acl.shard_sha256"].decode() == judged.sha256
    assert {b"acl.bundle_sha256", b"acl.provider", b"acl.version", b"acl.plan_sha256"} <= told.keys()


def test_whatever_a_picture_is_it_has_a_row(judge: ShardJudge, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "half.png").write_bytes(encoded()[:200])
    (tmp_path / "good.png").write_bytes(encoded())
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    cv2.imwrite(str(tmp_path / "huge.png"), np.zeros((1100, 1000), np.uint8))
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    names = ("empty", "folder", "half", "good", "loop", "huge", "none")
    paths = shard(*(tmp_path / f"{name}.png" for name in names)).paths
    judged = rows(judge(Shard(0, (*paths, odd, *paths))))
    assert [row["error"] is None for row in judged].count(True) == 2
    for row, said in zip(
        judged,
        (
            "is empty",
            "no regular file",
            "cannot be decoded",
            None,
            "no such file",
            "1 megapixels",
            "no such file",
        ),
        strict=False,
    ):
        assert (row["error"] is None) if said is None else (said in row["error"])
    assert judged[7]["path"] == f"{tmp_path}/\\xff.png"


def test_a_shard_is_judged_alike_each_time(judge: ShardJudge, tmp_path: Path) -> None:
    judged = shard(*put_pictures(tmp_path / "in", 5, bad=[2]))
    assert judge(judged).data == judge(judged).data


def test_pictures_in_storage_are_judged_as_on_a_disk(judge: ShardJudge, tmp_path: Path) -> None:
    paths = put_pictures(tmp_path / "in", 4, bad=[1])
    files = fsspec.filesystem("memory")
    for path in paths:
        files.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    here = rows(judge(shard(*paths)))
    there = rows(
        judge(shard(*(f"memory://bucket/{path.name}" for path in paths), "memory://bucket/none.png"))
    )
    files.rm("/bucket", recursive=True)
    assert there.pop()["error"] == "memory://bucket/none.png: no such file; check the name"
    for row, other in zip(here, there, strict=True):
        assert other == {
            name: value.replace(f"{tmp_path}/in", "memory://bucket") if isinstance(value, str) else value
            for name, value in row.items()
        }


def test_storage_that_is_away_makes_no_errors_of_pictures(
    judge: ShardJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object, **settings: object) -> bytes:
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", away)
    with pytest.raises(TimeoutError):
        judge(shard("memory://bucket/0.png"))


def test_credentials_that_expire_make_no_errors_of_pictures_either(
    judge: ShardJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"Error": {"Code": "AccessDenied"}}

    def forbidden(*arguments: object, **settings: object) -> bytes:
        cause = RuntimeError()
        cause.response = answer  # type: ignore[attr-defined]
        raise PermissionError("no") from cause

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", forbidden)
    (row,) = rows(judge(shard("memory://bucket/0.png")))
    assert row["error"] == "memory://bucket/0.png: may not be read; allow it"
    answer["Error"]["Code"] = "ExpiredToken"
    with pytest.raises(OSError, match="renew the credentials, and the same command goes on"):
        judge(shard("memory://bucket/0.png"))


@pytest.mark.parametrize(("bits", "within"), [(8, 1 / 510 + 1e-6), (16, 1 / 131070 + 1e-6)])
def test_maps_are_kept_to_half_a_level(bundle: Path, tmp_path: Path, bits: Any, within: float) -> None:
    paths = put_pictures(tmp_path / "in", 3, bad=[1])
    maps = MapFolder(path=str(tmp_path / "maps"), bits=bits)
    left = map_path(maps, 4, 0).with_name(".0123456789ab.png")
    left.parent.mkdir(parents=True)
    left.touch()  # by a worker that was killed
    with ShardJudge(begin(tmp_path / "results", bundle, *paths, maps=maps), threads=1) as judge:
        judge(shard(*paths, number=4))
    kept = sorted(file.relative_to(tmp_path / "maps") for file in (tmp_path / "maps").rglob("*.png"))
    assert kept == [Path("0000004/0000000.png"), Path("0000004/0000002.png")]
    wanted = Detector(bundle)(drawn_frame(2)).anomaly_map
    assert np.abs(load_map(map_path(maps, 4, 2)) - wanted).max() < within


def test_notes_of_a_worker_are_handed_over(judge: ShardJudge, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((60, 80), 100, np.uint16))
    before = logging.getLogger("acl").handlers[:]
    result = judge(shard(*[tmp_path / "dark.png"] * 3))
    assert len(result.notes) == 1
    assert "its 16-bit pixels stay below" in result.notes[0]
    assert logging.getLogger("acl").handlers == before


def test_another_bundle_in_its_place_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    put_pictures(tmp_path / "in", 1)
    run = begin(tmp_path / "results", bundle, tmp_path / "in", judging=JUDGING)
    shutil.rmtree(bundle)
    write_tiny_bundle(bundle, head="embeddings")
    with pytest.raises(BundleError, match="is another bundle than the run began with"):
        ShardJudge(run)


def test_a_calibration_just_before_the_bundle_is_loaded_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    put_pictures(tmp_path / "in", 1)
    run = begin(tmp_path / "results", bundle, tmp_path / "in")

    def open_later(path: Path, **settings: Any) -> Detector:
        set_by_hand(Detector(path), Rule(0.9, None), ByHand(by="Ana", parts=0, changed=0))
        return Detector(path, **settings)

    monkeypatch.setattr(shard_module, "Detector", open_later)
    with pytest.raises(BundleError, match="another bundle than the run began with"):
        ShardJudge(run, threads=1)
