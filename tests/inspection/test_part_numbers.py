"""Numbers of parts over kills and power cuts."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from acl_runtime.files.errors import InputError
from acl_runtime.inspection.station.part_numbers import AHEAD, PartNumbers


def test_numbers_go_on_after_a_clean_end_and_after_a_kill(tmp_path: Path) -> None:
    first = PartNumbers(tmp_path)
    assert [first.reserve("a") for _ in range(3)] == [1, 2, 3]
    for number in (1, 3):
        first.told(number)
    killed = PartNumbers(tmp_path)  # the first one was never closed
    assert killed.left == ((2, "a"),)
    assert killed.reserve("b") == 4
    for number in (2, 4):
        killed.told(number)
    killed.close()
    killed.close()
    last = PartNumbers(tmp_path)
    assert (last.left, last.reserve("a")) == ((), 5)


def test_after_a_power_cut_no_number_is_given_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = PartNumbers(tmp_path / "a", boot="1")
    shutil.copytree(tmp_path / "a", tmp_path / "disk")  # what the disk has; the rest is in the cache
    for _ in range(AHEAD * 2):
        before.told(before.reserve("a"))
    shutil.copy(tmp_path / "a" / "numbers.ceiling", tmp_path / "disk")  # synced before it counts
    after = PartNumbers(tmp_path / "disk", boot="2")
    assert after.reserve("a") > before.last == AHEAD * 2
    assert "are not used, because the machine stopped without warning" in caplog.text


def test_a_clean_end_leaves_no_hole_over_a_restart_of_the_machine(tmp_path: Path) -> None:
    first = PartNumbers(tmp_path, boot="1")
    first.told(first.reserve("a"))
    first.close()
    assert PartNumbers(tmp_path, boot="2").reserve("a") == 2


@pytest.mark.parametrize("seed", range(6))
def test_a_write_that_was_torn_loses_one_step_at_most(tmp_path: Path, seed: int) -> None:
    numbers, rng = PartNumbers(tmp_path, boot="1"), random.Random(seed)
    for _ in range(rng.randint(1, 30)):
        numbers.told(numbers.reserve("a"))
    last = numbers.last
    data = bytearray((tmp_path / "numbers").read_bytes())
    at = rng.randrange(2) * (1 << 20)  # one of the two records
    data[at + 5 : at + 40] = bytes(35)
    (tmp_path / "numbers").write_bytes(data)
    again = PartNumbers(tmp_path, boot="1")
    assert again.last == last
    assert [number for number, _ in again.left] in ([], [last])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_nothing_and_is_told_until_there_is_room_again(small_disk: Path) -> None:
    numbers = PartNumbers(small_disk)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(4_000_000))
    for number in range(1, AHEAD + 100):
        assert numbers.reserve("a") == number
        numbers.told(number)
    assert numbers.problem == "numbers are not safe from a power cut: No space left on device"
    (small_disk / "filler").unlink()
    numbers.keep_ahead()
    assert numbers.problem == ""
    numbers.close()
    again = PartNumbers(small_disk)
    assert again.reserve("a") == AHEAD + 100
    again.close()


def test_a_ceiling_that_is_no_number_is_refused(tmp_path: Path) -> None:
    PartNumbers(tmp_path).close()
    (tmp_path / "numbers.ceiling").write_text("x")
    with pytest.raises(
        InputError, match=r"numbers.ceiling: is damaged; write the number of the last part into it"
    ):
        PartNumbers(tmp_path)
