"""The benchmark of the calibration counts what it says, and would notice a wrong rank."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.calibration.conformal import Demand
from acl_runtime.scoring.rule import Rule
from benchmarks.calibration import HEADER, Measured, count_anomalous, deviation, split, to_record, to_row


@pytest.fixture(scope="module")
def measured() -> Measured:
    rng = np.random.default_rng(0)
    return Measured("drawn", "paper", expit(rng.normal(-3, 1, (200, 2))), expit(rng.normal(-1, 1, (30, 2))))


def test_a_split_is_as_predicted(measured: Measured) -> None:
    case = split(measured, Demand(0.1), splits=100)
    assert (case.calibrating, case.scale_images, case.left, case.rejections) == (120, 20, 60, 6)
    assert deviation(case) > 0.01
    spoiled = tuple(replace(each, rejected=each.rejected + 1) for each in case.splits)
    assert deviation(replace(case, splits=spoiled)) < 1e-3
    assert any(0 < each.missed < 30 for each in case.splits)


def test_a_case_has_a_line_and_a_record(measured: Measured) -> None:
    case = split(measured, Demand(0.01), splits=3)
    assert len(to_row(case)) == len(HEADER)
    assert to_row(case)[:5] == ["drawn", "paper", "1.0 %", "120 + 20, 60 left", "2.5 %"]
    assert to_record(case)["max_overkill"] == 0.01


def test_either_value_makes_an_image_anomalous() -> None:
    rows = np.array([[0.1, 0.1], [0.6, 0.1], [0.1, 0.6], [0.5, 0.5]])
    assert count_anomalous(Rule(0.5, 0.6), rows) == 3
    assert count_anomalous(Rule(0.5, None), rows) == 2
