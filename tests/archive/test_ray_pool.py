"""The same shards on a Ray cluster that the command starts on this machine, its actors and the driver killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from archives import descendants, left_over, put_pictures, rows
from graphs import write_tiny_bundle
from watching import wait_for

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None, reason='ray is not installed, 79 MB: pip install -e ".[ray]"'
)
ACL = [sys.executable, "-c", "import sys; from acl_runtime.cli import app; app(sys.argv[1:])", "archive"]


def actors(process: int) -> list[int]:
    return descendants(process, b"ray::_Worker")


def test_actors_and_driver_are_killed_and_the_rows_are_those_of_processes(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    put_pictures(tmp_path / "in", 400, bad=range(50, 400, 100))
    ray, local = tmp_path / "ray", tmp_path / "local"
    command = [*ACL, str(bundle), str(tmp_path / "in"), "--shard", "10"]
    on_ray = ["--ray", "local", "--threads", "1", "-o", str(ray)]
    with subprocess.Popen([*command, *on_ray], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None

        def parts() -> int:
            return len(list(ray.glob("part-*.parquet")))

        wait_for(lambda: parts() >= 2, seconds=120)
        os.kill(actors(process.pid)[0], signal.SIGKILL)
        killed_at = parts()
        wait_for(lambda: parts() >= killed_at + 3, seconds=120)
        alive = actors(process.pid)
        process.kill()
        errors = process.stderr.read()
    assert "a worker is gone (" in errors
    assert 0 < parts() < 40
    wait_for(lambda: not any(Path(f"/proc/{actor}").exists() for actor in alive), seconds=60)
    subprocess.run([*ACL, str(bundle), *on_ray], check=True, timeout=300)
    subprocess.run([*command, "-o", str(local), "--workers", "1"], check=True, timeout=300)
    assert rows(ray) == rows(local)
    assert not left_over(ray)


def test_a_cluster_that_is_away_is_told(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    put_pictures(tmp_path / "in", 2)
    command = [*ACL, *map(str, (bundle, tmp_path / "in", "-o", tmp_path / "out", "--ray", "127.0.0.1:9"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 1
    assert "error: 127.0.0.1:9: no Ray cluster answers (" in ended.stderr
    assert "Traceback" not in ended.stderr
