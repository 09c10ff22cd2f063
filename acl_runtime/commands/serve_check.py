"""`acl serve --check`: what a station would do, and whether all that it needs answers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from acl_runtime.commands.plan import plan_lines
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import FrameError, UserError
from acl_runtime.images.frame import Frame
from acl_runtime.inspection.station.camera import open_camera
from acl_runtime.inspection.station.judge import open_detector_of
from acl_runtime.inspection.station.outputs import OutputEntry, open_output
from acl_runtime.inspection.station.station_file import CameraSection, StationFile, WebSection
from acl_runtime.outputs.station import BusyError
from acl_runtime.sources.block import LineSource
from acl_runtime.web.capacity import MEASURE_S, WebDemand, largest_tile, measure_tiles_per_s, weigh
from acl_runtime.web.judge import TileJudge
from acl_runtime.web.records import Scale

WATCH_S = 2.0  # a camera is looked at for so long
ANSWER_S = 5.0  # an output's other side may take so long to answer
LEAST_BUSY = 0.8  # load from which on a box does not keep up when anything else happens

Say = Callable[[str], None]
Opened = TypeVar("Opened")


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a camera gave while it was looked at.

    Attributes:
        frame: The last, (H, W) or (H, W, 3); None where none came.
        per_s: Frames a second; None for a recording, which has no pace, and where fewer than two came.
    """

    frame: np.ndarray | None
    per_s: float | None


class NoControl:
    """Stands for the station while its outputs are tried: a PLC that writes to them changes nothing."""

    thresholds = strip = None

    def set_enabled(self, enabled: bool) -> None:
        """Nothing."""

    def set_part_id(self, part_id: str) -> None:
        """Nothing."""

    def begin_roll(self) -> None:
        """Nothing."""

    def reset_counters(self) -> None:
        """Nothing."""

    def inspect(self, frame: Frame) -> Result:
        """Refuse."""
        raise BusyError("the station is being tried; start it")


def check_station(file: StationFile, say: Say) -> bool:
    """Say in plain words what a station would do, and whether cameras, outputs and disk answer; whether all is well."""
    station = file.station
    say(
        f"station     {station.name}: a verdict per {'part' if station.mode == 'part' else 'defect of a web'}"
    )
    is_well = _check_disk(file, say)
    detector = _try(lambda: open_detector_of(station), "bundle     ", say)
    if detector is not None:
        rule = detector.rule
        peak = "" if rule.peak_threshold is None else f", or its peak from {rule.peak_threshold:.3g}"
        machine = f"{detector.backend} {detector.provider}".strip()
        say(
            f"bundle      {station.bundle}: {machine}; NG from a score of {rule.score_threshold:.3g}{peak} on"
        )
    seen = {camera.name: _check_camera(camera, say) for camera in file.cameras}
    is_well &= detector is not None and all(
        each is not None and each.frame is not None for each in seen.values()
    )
    if detector is not None:
        try:
            is_well &= _check_load(file, detector, seen, say)
        finally:
            detector.close()
    _say_gate(file, say)
    for entry in file.outputs:
        is_well &= _check_output(entry, say)
    if not file.outputs:
        say("output      none: nobody would be told; add an [[output]]")
    say("all answers" if is_well else "not ready: see above")
    return is_well


def _check_disk(file: StationFile, say: Say) -> bool:
    folder = file.station.data
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".check"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        say(f"disk        {folder}: cannot be written ({error.strerror}); allow it, or name another folder")
        return False
    say(f"disk        {folder}: {shutil.disk_usage(folder).free / 1e9:.1f} GB free")
    return True


def _check_camera(section: CameraSection, say: Say) -> Seen | None:
    source = _try(lambda: open_camera(section), f"camera      {section.name}", say)
    if source is None:
        return None
    try:
        seen = _look(source)
    except UserError as error:
        say(f"camera      {section.name}: {error}")
        return None
    finally:
        source.close()
    if seen.frame is None:
        say(
            f"camera      {section.name}: is there, and gave nothing in {WATCH_S:g} s; see whether it is triggered"
        )
    else:
        pace = "" if seen.per_s is None else f", {seen.per_s:.3g} a second"
        say(f"camera      {section.name}: {source.width}×{source.height} {seen.frame.dtype}{pace}")
    return seen


def _look(source: LineSource) -> Seen:
    """Look at what a camera gives for a while."""
    until, times, frame = time.monotonic() + WATCH_S, list[float](), None
    while time.monotonic() < until:
        try:
            block = source.read(0.1)
        except EOFError:
            break
        if block is not None and block.complete:
            frame = np.array(block.lines)
            times.append(block.received_ns / 1e9)
            if not source.is_live:
                break
    spans = len(times) - 1
    return Seen(
        frame=frame, per_s=spans / (times[-1] - times[0]) if spans > 0 and times[-1] > times[0] else None
    )


def _check_load(file: StationFile, detector: Detector, seen: dict[str, Seen | None], say: Say) -> bool:
    if file.web is not None:
        return _check_web_load(file.web, detector, next(iter(seen.values())), say)
    frames = {name: each.frame for name, each in seen.items() if each is not None and each.frame is not None}
    if not frames:
        return True
    took_ms = {name: _measure_ms(detector, frame) for name, frame in frames.items()}
    load, is_known, is_well = 0.0, True, True
    for camera in file.cameras:
        if camera.name not in took_ms:
            continue
        look, took = seen[camera.name], took_ms[camera.name]
        per_s = 1000 / camera.interval_ms if camera.interval_ms else None if look is None else look.per_s
        is_known &= per_s is not None
        load += (per_s or 0.0) * took / 1000
        if took > camera.deadline_ms:
            is_well = False
            say(
                f"deadline    {camera.name}: a frame takes {took:.3g} ms of {camera.deadline_ms:g} it has: "
                "every part would be NOT JUDGED; see acl bench for a faster backend"
            )
        if took > 500 * file.station.stuck_s:
            is_well = False
            say(
                f"watchdog    {camera.name}: a frame takes {took:.3g} ms; set stuck_s to more than twice that"
            )
    words = ", ".join(f"{name} {ms:.3g} ms" for name, ms in took_ms.items())
    if not is_known:
        say(f"load        a frame takes: {words}; how often parts come is not known")
        return is_well
    say(f"load        a frame takes: {words}; parts as often as now take {100 * load:.0f} % of the time")
    if load > LEAST_BUSY:
        say("load        does not keep up: give a longer interval, or a faster backend")
    return is_well and load <= LEAST_BUSY


def _measure_ms(detector: Detector, frame: np.ndarray) -> float:
    """The median of judging a frame."""
    took: list[float] = []
    until = time.perf_counter() + MEASURE_S
    while len(took) < 7 and (len(took) < 2 or time.perf_counter() < until):
        started = time.perf_counter()
        with suppress(FrameError):  # takes its time all the same
            detector(frame)
        took.append(1000 * (time.perf_counter() - started))
    return float(np.median(took[1:]))


def _check_web_load(web: WebSection, detector: Detector, seen: Seen | None, say: Say) -> bool:
    if seen is None or seen.frame is None or seen.per_s is None:
        say("load        how fast lines come is not known; acl plan says what this box follows")
        return True
    frame = seen.frame
    per_line = web.mm_per_pixel if web.mm_per_line is None else web.mm_per_line
    color = frame.shape[2:]
    demand = WebDemand(
        width=frame.shape[1],
        lines_per_s=seen.per_s * len(frame),
        scale=Scale(mm_per_line=per_line, mm_per_pixel=web.mm_per_pixel),
        bytes_per_pixel=3 if color else frame.itemsize,
        height=len(frame),
    )
    manifest = detector.bundle.manifest
    side, batch = largest_tile(demand, manifest), manifest.max_batch
    measured = measure_tiles_per_s(TileJudge(detector.stages), side=side, batch=batch, shape=color)
    capacity = weigh(demand, manifest, measured)
    for line in plan_lines(demand, capacity, f"measured here, {batch} at a time"):
        say(line)
    return capacity.finest is not None


def _say_gate(file: StationFile, say: Say) -> None:
    gate = file.gate
    if gate is None:
        return
    way = f"{gate.distance_ms:g} ms" if gate.distance_ms is not None else f"{gate.distance_counts} counts"
    say(
        f"gate        {', '.join(gate.outputs)}: told of a part {way} after its exposure; NOT JUDGED is rejected"
    )


def _check_output(entry: OutputEntry, say: Say) -> bool:
    name = f"output      {entry.name}"
    output = _try(lambda: open_output(entry, NoControl()), name, say)
    if output is None:
        return False
    try:
        until = time.monotonic() + ANSWER_S
        while output.problem and time.monotonic() < until:
            time.sleep(0.05)
        problem = output.problem
    finally:
        output.close(1.0)
    say(f"{name} ({entry.kind}): {problem or 'answers'}")
    return not problem


def _try(call: Callable[[], Opened], what: str, say: Say) -> Opened | None:
    try:
        return call()
    except (UserError, OSError) as error:
        say(f"{what}: {error}")
        return None
