"""How a station is: its state, faults and warnings, from what its parts say of themselves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from acl_runtime.inspection.station.camera import NOT_OPENED
from acl_runtime.inspection.station.judge import Engine
from acl_runtime.inspection.station.part_numbers import PartNumbers
from acl_runtime.inspection.station.tellers import Tellers
from acl_runtime.outputs.station import StationState

LEAST_FREE = 500_000_000  # bytes of the data folder's disk


def state_of(
    *, is_open: bool, is_stopping: bool, enabled: bool, faults: Sequence[str], cameras: Mapping[str, str]
) -> StationState:
    """The state of a station; `cameras` are problems by name, as of `Mode`."""
    if is_stopping:
        return "offline"
    if faults:
        return "fault"
    if not is_open or NOT_OPENED in cameras.values():
        return "starting"
    return "running" if enabled else "ready"


def find_faults(cameras: Mapping[str, str], engine: Engine) -> tuple[str, ...]:
    """What keeps a station from judging, a sentence each."""
    faults = [f"camera {name}: {each}" for name, each in cameras.items() if each not in ("", NOT_OPENED)]
    if engine.problem:
        faults.append(engine.problem)
    if engine.stuck_s:
        faults.append("the network gives no answer")
    return tuple(faults)


def find_warnings(tellers: Tellers, numbers: PartNumbers, data: Path, engine: Engine) -> tuple[str, ...]:
    """What an operator should know, a sentence each."""
    warnings = [*tellers.problems]
    if numbers.problem:
        warnings.append(numbers.problem)
    if shutil.disk_usage(data).free < LEAST_FREE:
        warnings.append(f"{data}: less than {LEAST_FREE // 1_000_000} MB are free")
    drift = engine.drift
    if drift is not None and drift.unusual:
        warnings.append(f"frames are unlike those of the calibration: {', '.join(drift.unusual)}")
    return tuple(warnings)
