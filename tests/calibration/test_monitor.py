"""A change of light or focus is told once, chance and single defects are not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from acl_runtime.calibration.monitor import QUANTITIES, WINDOW, DriftMonitor

Quantities = dict[str, float]


def draw(rng: np.random.Generator, count: int, **shift: float) -> list[Quantities]:
    """Frames whose quantities are normal around 0.5, moved by so many standard deviations."""
    values = {name: 0.5 + 0.05 * (rng.normal(size=count) + shift.get(name, 0)) for name in QUANTITIES}
    return [{name: float(values[name][i]) for name in QUANTITIES} for i in range(count)]


def columns(frames: list[Quantities]) -> Mapping[str, list[float]]:
    return {name: [frame[name] for frame in frames] for name in QUANTITIES}


def feed(monitor: DriftMonitor, frames: list[Quantities]) -> list[str]:
    return [message for frame in frames for message in monitor.add(frame)]


@pytest.mark.parametrize("images", [20, 120, 1000])
def test_frames_like_those_of_the_calibration_are_never_reported(images: int) -> None:
    rng = np.random.default_rng(images)
    monitor = DriftMonitor(columns(draw(rng, images)))
    assert feed(monitor, draw(rng, 20_000)) == []
    assert monitor.unusual == ()


@pytest.mark.parametrize("images", [20, 120, 1000])
@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("shift", [-4.0, 4.0])
def test_a_change_is_told_once_and_its_end_too(images: int, name: str, shift: float) -> None:
    rng = np.random.default_rng(images)
    monitor = DriftMonitor(columns(draw(rng, images)))
    assert feed(monitor, draw(rng, 100)) == []
    (message,) = feed(monitor, draw(rng, 200, **{name: shift}))
    assert f"({name} " in message
    assert "; " in message  # what to do
    assert list(monitor.unusual) == [name]
    assert feed(monitor, draw(rng, 100)) == [f"the frames are as usual in {name} again"]
    assert list(monitor.unusual) == []


def test_it_is_told_within_a_window() -> None:
    rng = np.random.default_rng(3)
    monitor = DriftMonitor(columns(draw(rng, 100)))
    feed(monitor, draw(rng, 100))
    dark = draw(rng, WINDOW, brightness=-6)
    assert feed(monitor, dark[: WINDOW // 4]) == []  # some odd frames
    (message,) = feed(monitor, dark[WINDOW // 4 :])
    assert message.startswith(f"the last {WINDOW} frames are darker than those of the calibration")


def test_a_change_at_the_limit_is_told_once() -> None:
    rng = np.random.default_rng(6)
    monitor = DriftMonitor(columns(draw(rng, 200)))
    messages = feed(
        monitor, draw(rng, 1000, brightness=-2.1)
    )  # about half of the frames are beyond the usual
    assert 1 <= len(messages) <= 3


def test_a_part_that_stays_at_one_end_of_the_usual_is_no_change() -> None:
    rng = np.random.default_rng(4)
    calibration = columns(draw(rng, 200))
    still = {name: float(np.quantile(values, 0.95)) for name, values in calibration.items()}
    assert feed(DriftMonitor(calibration), [still] * 200) == []


def test_a_defect_now_and_then_is_no_change() -> None:
    rng = np.random.default_rng(5)
    monitor = DriftMonitor(columns(draw(rng, 200)))
    frames = draw(rng, 2000)
    for frame in frames[::4]:
        frame["score"] = frame["peak"] = 0.99
    assert feed(monitor, frames) == []
