"""`acl serve` as systemd runs it: started, told to stop, killed, and started again."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from console import acl, assert_one_line
from graphs import drawn_frame, write_tiny_bundle
from pymodbus.client import ModbusTcpClient
from serving import read_events, start_service
from station_events import free_port
from stations import wait_until, write_station

from acl_runtime.inspection.station.outputs import KINDS
from acl_runtime.inspection.station.station_file import load_station

TEXT = """
[[camera]]
name = "top"
source = "drawn:7?width=120&height=90&rate=2700"
deadline_ms = 5000
[[output]]
kind = "recording"
path = "parts.jsonl"
"""  # 30 parts a second


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "recording", "recording_output")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("serve") / "bundle")


def test_killed_and_told_to_stop_it_tells_every_part_once_and_numbers_have_no_hole(
    bundle: Path, tmp_path: Path
) -> None:
    station, lines = write_station(tmp_path, bundle, TEXT), tmp_path / "parts.jsonl"

    def told() -> int:
        return len(read_events(lines, "PartResult"))

    for number in (signal.SIGKILL, signal.SIGTERM):
        before = told()
        process = start_service(station, stdout=tmp_path / "log")
        try:
            wait_until(lambda before=before: told() >= before + 12, "parts")  # type: ignore[misc]
            process.send_signal(number)
            code = process.wait(10)
        finally:
            process.kill()
        assert code == (0 if number == signal.SIGTERM else -number)
    parts = read_events(lines, "PartResult")
    assert sorted(part["number"] for part in parts) == list(range(1, len(parts) + 1))
    not_judged = [part["reason"] for part in parts if part["verdict"] == "not judged"]
    assert set(not_judged) <= {"the station was stopped before it was told", "the station stopped"}
    assert len(not_judged) < len(parts) / 4
    assert read_events(lines, "StationStatus")[-1]["state"] == "offline"
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["message"] for line in log].count("station station: started") == 2
    assert {line["level"] for line in log} <= {"info", "warning"}


def test_the_example_runs_beside_a_bundle_and_a_plc_reads_each_part(bundle: Path, tmp_path: Path) -> None:
    text = acl("serve", "--example").stdout
    port = free_port()
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "bundle").symlink_to(bundle)
    station = tmp_path / "station.toml"
    station.write_text(f'{text}\n[[output]]\nkind = "modbus-server"\nport = {port}\n')
    process = start_service(station, stdout=tmp_path / "log")
    read: list[tuple[int, int]] = []
    plc = ModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
    try:
        wait_until(plc.connect, "the station's port")
        while len(read) < 3:
            wait_until(lambda: plc.read_coils(16 * 16 + 3, count=1).bits[0], "a result")
            words = plc.read_input_registers(19, count=3).registers
            read.append((words[0] << 16 | words[1], words[2]))
            plc.write_register(0, 0b11)
            plc.write_register(0, 0b01)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        plc.close()
        process.kill()
    assert [number for number, _ in read] == [1, 2, 3]
    (lines,) = (tmp_path / "station-data" / "parts").glob("*.jsonl")
    rows = [row for row in map(json.loads, lines.read_text().splitlines()) if row["event"] == "part"]
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    words_of = {"ok": 1, "ng": 2, "not judged": 3}
    assert [words_of[row["verdict"]] for row in rows[:3]] == [verdict for _, verdict in read]


def test_what_the_example_has_as_comments_is_right_too(tmp_path: Path) -> None:
    text = acl("serve", "--example").stdout
    parts = re.sub(r"^# (\[\[?\w+|\w+ = )", r"\1", text.partition("# [web]")[0], flags=re.MULTILINE)
    station = tmp_path / "station.toml"
    station.write_text(parts.replace('source = "aravis', '# source = "aravis').replace("# # ", "# "))
    file = load_station(station)
    assert [output.kind for output in file.outputs] == [
        "json-lines",
        "page",
        "modbus-server",
        "modbus-client",
        "mqtt",
    ]
    assert file.gate is not None
    assert len(file.cameras) == 2
    web = "[web]" + text.partition("# [web]")[2].replace("\n# ", "\n")
    station.write_text(f'[station]\nbundle = "b"\nmode = "web"\n[[camera]]\nsource = "drawn:1"\n{web}')
    assert load_station(station).web is not None


def test_check_says_what_would_happen_and_what_does_not_answer(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acl_runtime.commands.serve_check.WATCH_S", 0.4)
    well = acl("serve", write_station(tmp_path, bundle, TEXT), "--check")
    assert well.exit_code == 0, well.output
    assert re.search(r"^camera      top: 120×90 uint8, [23]\d(.\d)? a second$", well.stdout, re.MULTILINE)
    assert "output      recording (recording): answers" in well.stdout
    assert well.stdout.splitlines()[-1] == "all answers"
    text = TEXT.replace("drawn:7?width=120&height=90&rate=2700", "opencv:77?open_s=0.1")
    ill = acl("serve", write_station(tmp_path, bundle / "x", text), "--check")
    assert ill.exit_code == 1
    assert "bundle     : " in ill.stdout
    assert "camera      top: opencv:77" in ill.stdout
    assert ill.stdout.splitlines()[-1] == "not ready: see above"


def test_the_unit_starts_this_python_with_the_files_own_path(tmp_path: Path) -> None:
    folder = tmp_path / "line 1"
    folder.mkdir()
    result = acl("serve", folder / "press.toml", "--print-unit")
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(result.stdout)
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["ExecStart"].endswith(f'-m acl_runtime.cli serve "{folder / "press.toml"}"')
    assert float(unit["Service"]["WatchdogSec"]) == 20
    assert "/etc/systemd/system/acl-press.service" in result.stdout


def test_a_mistake_is_one_line(bundle: Path, tmp_path: Path) -> None:
    path = write_station(tmp_path, bundle, TEXT.replace("deadline_ms", "deadlin_ms"))
    assert_one_line(acl("serve", path), "[[camera]] has no key deadlin_ms; did you mean deadline_ms?")
    assert_one_line(acl("serve", tmp_path / "none.toml"), "none.toml: no such file")
    assert "name the station's file" in acl("serve").output


def start_run(bundle: Path, source: str, lines: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "acl_runtime.cli", "run", str(bundle), source, "--json", str(lines)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_run_ends_cleanly_on_sigterm(bundle: Path, tmp_path: Path) -> None:
    lines = tmp_path / "run.jsonl"
    source = "drawn:7?width=120&height=90&rate=2700"
    process = start_run(bundle, source, lines)
    wait_until(lambda: lines.exists() and lines.read_bytes().count(b"\n") > 5, "frames")
    process.terminate()
    started = time.monotonic()
    stdout, stderr = process.communicate(timeout=10)
    assert time.monotonic() - started < 5
    assert process.returncode == 0, stderr
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert f"{len(rows)} frames" in stdout
    assert "stopped by SIGTERM" in stderr


def test_run_that_is_stopped_among_files_says_that_it_did_not_see_all(bundle: Path, tmp_path: Path) -> None:
    lines, parts = tmp_path / "run.jsonl", tmp_path / "parts"
    parts.mkdir()
    cv2.imwrite(str(tmp_path / "part.png"), drawn_frame(height=400, width=400))
    for number in range(1000):
        os.link(tmp_path / "part.png", parts / f"{number}.png")
    process = start_run(bundle, str(parts), lines)
    wait_until(lambda: lines.exists() and lines.read_bytes().count(b"\n") > 5, "frames")
    process.terminate()
    stdout, _ = process.communicate(timeout=10)
    seen = len(lines.read_text().splitlines())
    assert 5 < seen < 1000
    assert (process.returncode, f"{seen} frames" in stdout) == (1, True)
