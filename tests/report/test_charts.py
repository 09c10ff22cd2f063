"""Charts are to scale: the figures can be read back from them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from acl_runtime.report.charts import Line, curves, histogram, rejected_share, threshold_chart
from acl_runtime.scoring.rule import log_odds

RNG = np.random.default_rng(0)
GOOD = np.concatenate([RNG.beta(2, 6, 37), [0.0]])
BAD = np.concatenate([RNG.beta(6, 2, 61), [1.0, 1.0]])


def parse(chart: str) -> ET.Element:
    return ET.fromstring(chart)


def number(element: ET.Element, name: str) -> float:
    return float(element.attrib[name])


def fit_line(pairs: Sequence[tuple[float, float]]) -> np.ndarray:
    """(2,) coefficients that turn the first of each pair into the second."""
    return np.polyfit([first for first, _ in pairs], [second for _, second in pairs], 1)


def scales(
    svg: ET.Element, *, odds: bool = False
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From places to values, read off the labels of the axes: x (its log-odds), and y without its sign."""
    texts = [text for text in svg.iter("text") if re.fullmatch(r"[\d.]+", text.text or "")]
    named = [(number(text, "x"), float(text.text or "")) for text in texts if text.get("class") == "middle"]
    across = [(place, log_odds(value) if odds else value) for place, value in named]
    up = [(number(text, "y") - 4, float(text.text or "")) for text in texts if text.get("class") == "end"]
    x = fit_line(across)
    top, zero = up[-1], next(place for place in up if place[1] == 0)
    y = fit_line([top, zero])
    return lambda place: float(np.polyval(x, place)), lambda place: float(np.polyval(y, place))


def bars(svg: ET.Element, style: str) -> list[ET.Element]:
    return [bar for bar in svg.iter("rect") if bar.get("class") == style]


def path(svg: ET.Element, style: str, *, odds: bool = False) -> np.ndarray:
    """(P, 2) x and y of a curve's points, in the values of the axes."""
    x, y = scales(svg, odds=odds)
    (line,) = [line for line in svg.iter("path") if line.get("class") == style]
    points = [point.split(",") for point in line.attrib["d"].removeprefix("M").split()]
    return np.array([(x(float(a)), y(float(b))) for a, b in points])


def draw_histogram(good: np.ndarray = GOOD, bad: np.ndarray = BAD, threshold: float = 0.4) -> ET.Element:
    return parse(histogram(good, bad, threshold=threshold, title="Scores", x_title="score", name="c0-score"))


def clipped_odds(values: np.ndarray) -> np.ndarray:
    return np.array([max(-17.0, min(17.0, log_odds(value))) for value in values])


@pytest.mark.parametrize(("style", "values"), [("good", GOOD), ("bad", BAD)])
@pytest.mark.parametrize("threshold", [0.4, 0.9951])
def test_the_bars_are_the_shares_of_the_values_in_them(
    style: str, values: np.ndarray, threshold: float
) -> None:
    svg = draw_histogram(threshold=threshold)
    x, y = scales(svg, odds=True)
    counted = 0
    for bar in bars(svg, style):
        low, high = x(number(bar, "x") - 0.5), x(number(bar, "x") + number(bar, "width") + 0.5)
        count = int((bar[0].text or "").split()[0])
        assert count == sum(low - 1e-3 <= odds < high + 1e-3 for odds in clipped_odds(values))
        height = abs(y(number(bar, "y")) - y(number(bar, "y") + number(bar, "height")))  # percent
        assert height * len(values) / 100 == pytest.approx(count, abs=0.02)
        counted += count
    assert counted == len(values)


def test_no_bar_lies_on_both_sides_of_the_threshold() -> None:
    """What is right of the line is what is rejected, also of values that lie close together near 1."""
    good = np.array([0.99, 0.9945, 0.99509, 0.9951])
    svg = draw_histogram(good, np.array([0.9952, 0.999901, 0.9999999]), threshold=0.9951)
    (line,) = [line for line in svg.iter("line") if line.get("class") == "limit"]
    at = number(line, "x1")
    right = [bar for bar in bars(svg, "good") if number(bar, "x") >= at]
    left = [bar for bar in bars(svg, "good") if number(bar, "x") + number(bar, "width") <= at]
    assert [bar[0].text[0] for bar in right if bar[0].text] == ["1"]
    assert sum(int((bar[0].text or "").split()[0]) for bar in left) == 3


@pytest.mark.parametrize("values", [(0.5,), (0.9951, 0.999901), (0.0, 1.0), (0.97,), (1e-5, 2e-3), (1.0,)])
def test_the_axis_names_two_probabilities_that_do_not_overlap_at_least(values: tuple[float, ...]) -> None:
    svg = draw_histogram(np.array(values), np.empty(0), threshold=values[0])
    texts = [text for text in svg.iter("text") if re.fullmatch(r"0\.\d+|[01]\.0+", text.text or "")]
    labels = sorted((number(text, "x"), text.text or "") for text in texts if text.get("class") == "middle")
    assert len(labels) > 1
    ends = [(place - 3.3 * len(label), place + 3.3 * len(label)) for place, label in labels]
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert ends[-1][1] <= float(svg.attrib["viewBox"].split()[2])
    assert [float(label) for _, label in labels] == sorted(float(label) for _, label in labels)


def test_good_parts_are_above_the_axis_and_defective_ones_below() -> None:
    svg = draw_histogram()
    _, y = scales(svg)
    assert all(
        y(number(bar, "y") + number(bar, "height")) == pytest.approx(0, abs=0.1) for bar in bars(svg, "good")
    )
    assert all(y(number(bar, "y")) == pytest.approx(0, abs=0.1) for bar in bars(svg, "bad"))


def test_a_bar_says_what_it_counts() -> None:
    svg = draw_histogram(np.array([0.1101, 0.1102]), np.array([0.99]))
    (good,), (bad,) = bars(svg, "good"), bars(svg, "bad")
    for bar, words, values in ((good, "2 good", (0.1101, 0.1102)), (bad, "1 defective", (0.99,))):
        found = re.fullmatch(r"(.*), (.*) to (.*)", bar[0].text or "")
        assert found is not None
        assert found[1] == words
        assert all(float(found[2]) <= value < float(found[3]) for value in values)


@pytest.mark.parametrize("threshold", [0.0, 0.123, 0.87654, 1.0])
def test_the_threshold_is_a_line_at_its_place(threshold: float) -> None:
    svg = draw_histogram(threshold=threshold)
    (line,) = [line for line in svg.iter("line") if line.get("class") == "limit"]
    assert line.attrib["x1"] == line.attrib["x2"]
    expected = clipped_odds(np.array([threshold]))[0]
    assert scales(svg, odds=True)[0](number(line, "x1")) == pytest.approx(expected, abs=5e-3)


def test_a_class_without_parts_has_no_bars_and_the_description_says_so() -> None:
    svg = draw_histogram(good=np.empty(0))
    assert not bars(svg, "good")
    assert "No good parts. 63 defective parts from" in (svg[1].text or "")


@pytest.mark.parametrize(("style", "sign"), [("good", 1), ("bad", -1)])
def test_the_errors_of_every_threshold_are_counted(style: str, sign: int) -> None:
    svg = parse(threshold_chart(GOOD, BAD, threshold=0.4, title="Errors", x_title="threshold", name="c0"))
    points = path(svg, style, odds=True)
    assert points[0, 0] < -17
    assert points[-1, 0] > 17  # there are values of 0 and of 1
    good, bad = clipped_odds(GOOD), clipped_odds(BAD)
    for at, share in points:
        values = good if sign > 0 else bad
        near = np.abs(values - at) < 5e-3  # the place is rounded
        wrong = values >= at if sign > 0 else values < at
        assert abs(share / 100 - np.mean(wrong)) <= np.mean(near) + 2e-4


def test_the_description_tells_the_errors_at_the_threshold() -> None:
    chart = threshold_chart(
        np.array([0.1, 0.5, 0.6, 0.2]),
        np.array([0.9, 0.3]),
        threshold=0.5,
        title="Errors",
        x_title="t",
        name="c",
    )
    assert parse(chart)[1].text == (
        "Errors. The threshold is 0.500. There: good rejected 50.0 %, defective missed 50.0 %."
    )


def test_rejected_is_what_is_not_below_the_threshold() -> None:
    thresholds = np.array([0.0, 0.1, 0.2, 1.0])
    np.testing.assert_array_equal(rejected_share(np.array([0.2, 0.1]), thresholds), [1, 1, 0.5, 0])


def test_a_curve_runs_through_its_points() -> None:
    x, y = np.array([0.0, 0.05, 0.2, 0.29]), np.array([0.1, 0.5, 0.7, 0.95])
    line = Line("overlap", x, y, "third")
    chart = curves(
        [line], x_limit=0.3, title="PRO", x_title="rate", y_title="% found", name="c0", point=(0.1, 0.6)
    )
    svg = parse(chart)
    np.testing.assert_allclose(path(svg, "third"), np.stack([x, 100 * y], 1), atol=0.02)
    (circle,) = svg.iter("circle")
    to_x, to_y = scales(svg)
    assert to_x(number(circle, "cx")) == pytest.approx(0.1, abs=1e-4)
    assert to_y(number(circle, "cy")) == pytest.approx(60, abs=0.01)


def test_everything_lies_inside_the_picture() -> None:
    for svg in (draw_histogram(), draw_histogram(threshold=1.0), draw_histogram(np.empty(0), np.empty(0))):
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        for bar in svg.iter("rect"):
            assert 0 <= number(bar, "x") <= number(bar, "x") + number(bar, "width") <= width
            assert 0 <= number(bar, "y") <= number(bar, "y") + number(bar, "height") <= height


def test_a_chart_has_a_title_and_a_description_for_who_cannot_see_it() -> None:
    svg = draw_histogram()
    assert svg.attrib["role"] == "img"
    assert (svg[0].tag, svg[0].text, svg[0].attrib["id"]) == (
        "title",
        "Scores",
        svg.attrib["aria-labelledby"],
    )
    assert (svg[1].tag, svg[1].attrib["id"]) == ("desc", svg.attrib["aria-describedby"])
    assert (svg[1].text or "").endswith("The threshold is 0.400.")


def test_text_stays_text() -> None:
    hostile = "<script>&\"'"
    line = Line(hostile, np.array([0.0, 1.0]), np.array([0.0, 1.0]), "good")
    chart = curves([line], x_limit=1, title=hostile, x_title=hostile, y_title=hostile, name="c0")
    assert "<script" not in chart
    assert [text.text for text in parse(chart).iter("text")].count(hostile) == 3
