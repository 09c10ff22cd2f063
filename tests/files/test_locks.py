"""A file that one process holds is refused to another, with a sentence that says who has it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import is_held, lock, locked_folder

HOLD = """
import sys
from acl_runtime.files.locks import locked_folder
with locked_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_held_folder_is_refused_and_free_again_after_a_kill(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        with (
            pytest.raises(InputError, match=f"is in use by process {holder.pid} .*; wait"),
            locked_folder(tmp_path),
        ):
            pass
        holder.kill()
        holder.wait()
        with locked_folder(tmp_path):
            pass


def test_two_handles_of_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with path.open("a") as first, path.open("a") as second:
        lock(first, path)
        with pytest.raises(InputError, match="lines.jsonl: is in use by .*; name another file"):
            lock(second, path, "name another file")


def test_who_holds_a_folder_may_hold_it_again(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        with locked_folder(tmp_path / "." / ".." / tmp_path.name):
            pass
        assert is_held(tmp_path)  # still
    assert not is_held(tmp_path)


def test_another_thread_does_not_share_the_hold(tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(InputError, match="is in use by"),
    ):
        pool.submit(locked_folder(tmp_path).__enter__).result()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_lock_is_asked_for_through_a_file_that_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def as_nfs(descriptor: int, operation: int) -> None:  # flock(2): the file must be opened for writing
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("acl_runtime.files.locks.fcntl.flock", as_nfs)
    with locked_folder(tmp_path):
        pass
    assert not is_held(tmp_path)
