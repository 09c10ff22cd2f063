"""A file that one process holds is refused to another, with a sentence that says who has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import lock, locked_folder

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
