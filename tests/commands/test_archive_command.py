"""`acl archive` as a user types it: real workers, killed at random."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from archives import JUDGING, HandPool, begin, children, judge, left_over, put_pictures, rows
from console import acl, assert_one_line
from graphs import write_tiny_bundle
from watching import wait_for

from acl_runtime.archive.local_pool import divide_cores, usable_cores, visible_gpus
from acl_runtime.archive.record import ArchiveRun

ACL = [sys.executable, "-c", "import sys; from acl_runtime.cli import app; app(sys.argv[1:])", "archive"]
COUNT, SHARD = 240, 10


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("archive") / "bundle")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    put_pictures(folder, COUNT, bad=range(50, COUNT, 100))
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, object]]:
    """Rows of a run that nothing interrupted, in this process."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    as_command = replace(JUDGING, max_megapixels=200.0, batch=3)
    run: ArchiveRun = begin(folder, bundle, pictures, shard_size=SHARD, judging=as_command)
    judge(folder, run, HandPool(run))
    return rows(folder)


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ACL, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def parts(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=120)
    return process.returncode, out, errors


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_workers_and_driver_are_killed_and_the_rows_are_those_of_an_undisturbed_run(
    bundle: Path, pictures: Path, out: Path, undisturbed: list[dict[str, object]]
) -> None:
    command = (bundle, pictures, "-o", out, "--shard", SHARD, "--workers", 2, "--threads", 1)
    process = started(*command)
    wait_for(lambda: parts(out) >= 2, seconds=90)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    before = parts(out)
    wait_for(lambda: parts(out) >= before + 2, seconds=90)
    orphans = children(process.pid)
    process.kill()
    _, _, errors = end(process)
    assert "a worker was killed by SIGKILL; shard " in errors
    wait_for(
        lambda: not any(Path(f"/proc/{orphan}").exists() for orphan in orphans)
    )  # nobody works for nobody
    assert 0 < parts(out) < COUNT // SHARD
    (out / ".0123456789ab.parquet").write_bytes(b"what it was writing")
    code, said, errors = end(started(bundle, "-o", out, "--workers", 1))
    assert (code, said) == (0, f"{summary(undisturbed)}; results in {out}\n"), errors
    assert rows(out) == undisturbed
    assert not left_over(out)


def summary(judged: list[dict[str, object]]) -> str:
    verdicts = [row["is_anomalous"] for row in judged]
    found, good, errors = (verdicts.count(each) for each in (True, False, None))
    return f"{COUNT} of {COUNT} pictures: {found} NG, {good} OK, {errors} could not be judged"


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (
            signal.SIGTERM,
            1,
            "note: stopped by SIGTERM: what was judged by then is kept, and the same command",
        ),
        (signal.SIGINT, 130, "interrupted\n"),
    ],
)
def test_it_ends_cleanly_when_told_to(
    bundle: Path, pictures: Path, out: Path, number: signal.Signals, code: int, words: str
) -> None:
    process = started(
        *(bundle, pictures, "-o", out, "--shard", SHARD, "--workers", 1, "--maps", out.parent / "maps")
    )
    wait_for(lambda: parts(out) >= 1, seconds=90)
    workers = children(process.pid)
    if number == signal.SIGTERM:
        second = acl("archive", bundle, pictures, "-o", out)
        assert second.exit_code == 1
        assert f"error: {out}: is in use by process {process.pid}" in second.stderr
        assert json.loads(acl("archive", "--status", out, "--json").stdout)["running"]
    for each in (*workers, process.pid):  # as a terminal, or systemd, does
        os.kill(each, number)
    ended, _, errors = end(process)
    assert ended == code, errors
    assert words in errors
    assert "Traceback" not in errors
    assert not left_over(out)
    assert not list((out.parent / "maps").rglob(".*"))
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_worker_that_cannot_work_ends_the_run_in_one_sentence(
    bundle: Path, pictures: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = acl("archive", bundle, pictures, "-o", out, "--workers", 1, "--maps", tmp_path / "file" / "maps")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"error: {tmp_path}/file: file exists"


def test_an_archive_that_is_not_there_is_told_although_every_picture_has_its_row(
    bundle: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("in/0.png\nin/1.png\n", encoding="utf-8")
    result = acl("archive", bundle, tmp_path / "list.txt", "-o", out, "--workers", 1)
    assert result.stdout == f"2 of 2 pictures: 0 NG, 0 OK, 2 could not be judged; results in {out}\n"
    assert result.stderr.splitlines()[-1] == (
        "note: no picture could be judged; once that is mended, name another folder for the results, which stay as "
        f"they are: {tmp_path}/in/0.png: no such file; check the name"
    )


def test_wrong_use_is_told(bundle: Path, pictures: Path, out: Path) -> None:
    for arguments in ((), (bundle,), ("-o", out)):
        assert "give BUNDLE MANIFEST... -o DIR, or --status DIR" in acl("archive", *arguments).stderr
    refused: list[tuple[tuple[object, ...], str]] = [
        ((bundle, "--status", out), "--status looks at results alone, got it with BUNDLE;"),
        (("--status", out, "--csv", out), "got it with --csv;"),
        (("--status", out, "--compare", out, out), "got it with --compare;"),
        (("--compare", out, out, "-o", out), "got it with --output;"),
        ((bundle, pictures, "-o", out, "--map-bits", 16), "--map-bits is for --maps"),
        (
            (bundle, pictures, "-o", out, "--maps", "s3://key:pass@b/maps"),
            "--maps must be on a disk, not in storage;",
        ),
        (
            ("--compare", out, out, "--report", "gs://bucket/page"),
            "--report must be on a disk, not in storage;",
        ),
        (("s3://bucket/bundle", pictures, "-o", out), "BUNDLE must be on a disk, not in storage;"),
    ]
    for given, words in refused:
        result = acl("archive", *given)
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "are for --compare" in acl("archive", bundle, pictures, "-o", out, "--json").stderr
    assert_one_line(acl("archive", pictures, bundle, "-o", out), "the bundle comes first")
    assert_one_line(
        acl("archive", bundle, pictures, "-o", bundle / "out"), "lies in the bundle; name another"
    )
    assert not (bundle / "out").exists()


def test_cores_are_divided_and_never_given_twice() -> None:
    cores = usable_cores()
    for workers in (None, 1, 2, 3):
        count, threads = divide_cores(workers, None, 0)
        assert count == (workers or min(4, cores))
        assert threads == max(1, cores // count)
    assert divide_cores(None, None, 8)[0] == 8
    assert divide_cores(5, 6, 0) == (5, 6)


def test_each_gpu_has_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA L4 (UUID: GPU-2)'\n"
    )
    tool.chmod(0o755)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-3")
    assert visible_gpus() == ["2", "GPU-3"]
