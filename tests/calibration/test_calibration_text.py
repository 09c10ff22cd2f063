"""What a user is told after a calibration, to the letter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parts import judged, make_record
from scipy.special import expit

from acl_runtime.calibration.conformal import Demand, allowed_rejections, promised_overkill
from acl_runtime.calibration.record import Finding
from acl_runtime.calibration.report import HARDLY, histogram_lines, make_statement, report_lines


def state(calibrating: int, demand: Demand, *, copies: int = 0, peak_decides: bool = True) -> str:
    promised = promised_overkill(calibrating, allowed_rejections(calibrating, demand), demand)
    return make_statement(
        demand,
        promised=promised,
        calibrating=calibrating,
        scale_images=20,
        copies=copies,
        peak_decides=peak_decides,
    )


def test_a_promise_that_cannot_be_kept_says_what_can_and_what_it_needs() -> None:
    assert state(280, Demand()) == (
        "With 280 good images (20 others only put score and peak on one scale): at most 1.1 % of good parts are "
        "rejected, at 95 % confidence. 300 images cannot prove more; for the 1 % that you asked give 319 images or "
        "more."
    )
    assert state(120, Demand(0.005)) == (
        "With 120 good images (20 others only put score and peak on one scale): at most 2.5 % of good parts are "
        "rejected, at 95 % confidence. 140 images cannot prove more; for the 0.5 % that you asked give 618 images or "
        "more."
    )


def test_a_promise_that_is_kept_is_said_in_one_sentence() -> None:
    assert state(299, Demand()) == (
        "With 299 good images (20 others only put score and peak on one scale): at most 1 % of good parts are "
        "rejected, at 95 % confidence."
    )
    assert "at most 0.76 % of good parts" in state(397, Demand())  # better than asked: one less would not be


def test_hidden_defects_copies_and_a_saturated_map_are_told() -> None:
    assert state(1000, Demand(0.02, 0.9, 1)).endswith("at 90 % confidence, even if 1 of them is defective.")
    assert "even if 3 of them are defective" in state(1000, Demand(0.02, 0.9, 3))
    told = state(299, Demand(), copies=2, peak_decides=False)
    assert told.endswith(
        " The map reaches its largest value on good parts, so the score alone decides. 2 images with the very "
        "pixels of another were left out."
    )
    assert state(299, Demand(), copies=1).endswith(" 1 image with the very pixels of another was left out.")


@pytest.mark.parametrize("calibrating", [16, 59, 280, 299, 400, 473, 1999])
@pytest.mark.parametrize("asked", [0.1, 0.01, 0.0099])
def test_the_share_that_is_told_is_never_less_than_the_one_promised(calibrating: int, asked: float) -> None:
    demand = Demand(asked)
    promised = promised_overkill(calibrating, allowed_rejections(calibrating, demand), demand)
    told = float(state(calibrating, demand).split("at most ")[1].split(" %")[0]) / 100
    assert promised - 1e-9 <= told < 1.11 * promised
    assert (told <= asked + 1e-12) == (promised <= asked)


def test_the_report_names_what_was_missed() -> None:
    good = judged([0.1, 0.2, 0.6], [0.1, 0.2, 0.3])
    assert report_lines(make_record(good, threshold=0.5, peak=0.4)) == [
        "the promise.",
        "anomalous from score 0.500 or map peak 0.400; 1 of these 3 good images are rejected",
    ]
    record = make_record(good, judged([0.4, 0.9, 0.3], [0.1, 0.1, 0.1], "bad"), threshold=0.5)
    assert report_lines(record)[1:] == [
        "anomalous from score 0.500; 1 of these 3 good images are rejected",
        "2 of 3 defective images are missed: bad0.png, bad2.png",
        HARDLY,
    ]
    none = make_record(good, judged([0.9], [0.1]), threshold=0.5)
    assert report_lines(none)[2] == "0 of 1 defective images are missed"


def test_a_threshold_close_to_1_is_not_called_1() -> None:
    record = make_record(judged([0.1], [0.1]), threshold=0.5, peak=0.9999991)
    assert "map peak 0.999999;" in report_lines(record)[1]
    assert "peak, ^ marks 0.999999" in histogram_lines(record)


def test_findings_follow_the_promise() -> None:
    finding = Finding(kind="dark", text="60 of 60 good images are nearly black", images=())
    record = replace(make_record(judged([0.1], [0.1]), threshold=0.5), findings=(finding,))
    assert report_lines(record)[-1] == finding.text


def test_the_histogram_is_this() -> None:
    good = judged(expit([-4.0, -2.0, -2.0, -2.0, 0.0]).tolist(), [0.1] * 5)
    record = make_record(good, judged([0.9], [0.1]), threshold=0.5)
    assert histogram_lines(record, width=41, ascii_only=True) == [
        "score, ^ marks 0.500",
        "      good -         @        -",
        " defective                              @",
        "                              ^",
        "                    0.1       0.5     0.9",
    ]


def test_every_image_is_seen_and_every_line_fits() -> None:
    rng = np.random.default_rng(0)
    good = judged(expit(rng.normal(-3, 1, 300)).tolist(), expit(rng.normal(-5, 2, 300)).tolist())
    bad = judged([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], "bad")
    lines = histogram_lines(make_record(good, bad, threshold=0.7, peak=0.6), width=60)
    assert [line.split(",")[0] for line in lines if "marks" in line] == ["score", "peak"]
    assert max(map(len, lines)) <= 60
    assert [sum(c in "▁▂▃▄▅▆▇█" for c in line) for line in lines if line.strip().startswith("defective")] == [
        3,
        3,
    ]
    assert sum(line.strip() == "^" for line in lines) == 2


def test_images_that_are_all_alike_have_a_histogram() -> None:
    lines = histogram_lines(make_record(judged([0.5] * 20, [0.0] * 20), threshold=0.5), width=40)
    assert len(lines) == 4
