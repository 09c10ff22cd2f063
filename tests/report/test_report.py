"""The report is one page, true and harmless."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from cards import draw_card
from pages import Page, texts

from acl_runtime.report.inspection import Card, write_report
from acl_runtime.report.pictures import draw_panels

METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
TIMING = {"PyTorch reference": {"tower": 90.0, "blur": 10.0}, "exported": {"tower": 24.5, "maps": 0.5}}


def draw_row(category: str, value: float | None, dataset: str = "parts") -> dict[str, object]:
    return {"dataset": dataset, "category": category, "images": 24} | dict.fromkeys(METRICS, value)


def write(
    path: Path,
    *,
    text: str = "text",
    cards: Sequence[Card] = (),
    rows: Sequence[Mapping[str, object]] = (),
    timing: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    write_report(
        path,
        title=text,
        lead=text,
        facts=[(text, text)],
        cards=cards,
        rows=rows,
        timing=timing or {},
        notes=[text],
    )
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = write(tmp_path / "r.html", cards=[draw_card()], rows=[draw_row("nut", 0.5)], timing=TIMING)
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "form"})
    for _, attributes in page.tags:
        assert attributes.keys().isdisjoint({"href", "srcset", "action", "style", "onload", "onclick"})
        assert (attributes.get("src") or "data:").startswith("data:")
    assert not re.search(r"https?:|//\w|url\(|@import", re.sub(r'src="data:[^"]*"', "", text))
    assert page.all("meta")[2]["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_text_stays_text(tmp_path: Path) -> None:
    hostile = "<script>alert('&\"')</script>"
    rows = [draw_row(hostile, 0.5, hostile), draw_row("other", 0.5)]
    timing = {hostile: {hostile: 1.0}}
    text = write(tmp_path / "r.html", text=hostile, cards=[draw_card(hostile)], rows=rows, timing=timing)
    page = Page(text)
    assert page.open == []
    assert page.all("script") == []
    assert "<script" not in text
    assert any(hostile in (image["alt"] or "") for image in page.all("img"))


def test_every_card_shows_its_four_pictures(tmp_path: Path) -> None:
    cards = [draw_card(f"part {index}") for index in range(3)]
    text = write(tmp_path / "r.html", cards=cards)
    page = Page(text)
    assert texts(text, "h3") == ["part 0", "part 1", "part 2"]
    assert len(page.all("article")) == 3
    views = [image for image in page.all("img") if "part" in (image["alt"] or "")]
    assert len(views) == 12
    panels = draw_panels(cards[0], side=480)
    for image, panel in zip(
        views, (panels.frame, panels.truth, panels.anomaly_map, panels.overlay), strict=False
    ):
        data = base64.b64decode((image["src"] or "").removeprefix("data:image/jpeg;base64,"))
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert decoded.shape == panel.shape == (240, 480, 3)
        assert np.abs(decoded.astype(int) - panel).mean() < 4  # JPEG


@pytest.mark.parametrize(
    ("score", "label", "verdict", "judgement"),
    [
        (0.9, 1, "NG", "&#10003; right"),
        (0.1, 0, "OK", "&#10003; right"),
        (0.5, 0, "NG", "&#10007; false alarm"),
        (0.4999, 1, "OK", "&#10007; missed defect"),
        (0.7, None, "NG", "? not labelled"),
    ],
)
def test_a_verdict_and_whether_it_is_right_are_said_in_words(
    tmp_path: Path, score: float, label: int | None, verdict: str, judgement: str
) -> None:
    text = write(tmp_path / "r.html", cards=[draw_card(score=score, label=label)])
    article = texts(text, "article")[0]
    assert f"{verdict}{judgement}" in article
    assert f"score {score:.3f}threshold 0.500" in article


def test_a_card_shows_its_peak_only_where_that_decides(tmp_path: Path) -> None:
    card = draw_card(score=0.4)
    assert "map peak" not in write(tmp_path / "r.html", cards=[card])
    article = texts(write(tmp_path / "r.html", cards=[replace(card, peak_threshold=0.7)]), "article")[0]
    assert "NG&#10003; right" in article
    assert "map peak 0.750threshold 0.700" in article


def test_the_summary_counts_the_cards(tmp_path: Path) -> None:
    cards = [draw_card(score=score, label=1) for score in (0.9, 0.8, 0.1)]
    cards += [draw_card(score=score, label=0) for score in (0.1, 0.6)]
    text = write(tmp_path / "r.html", cards=[*cards, draw_card(label=None)])
    assert "6 frames shown: 2 of 3 defective parts found, 1 of 2 good parts rejected." in text


@pytest.mark.parametrize(
    ("label", "marked", "caption"),
    [
        (1, True, "Ground truth, outlined"),
        (1, False, "Ground truth: defective, not outlined"),
        (0, False, "Ground truth: good"),
        (None, False, "Ground truth: unknown"),
    ],
)
def test_the_caption_says_what_is_known(
    tmp_path: Path, label: int | None, marked: bool, caption: str
) -> None:
    text = write(tmp_path / "r.html", cards=[draw_card(label=label, marked=marked)])
    assert texts(text, "figcaption")[2] == caption


def test_metrics_are_percent_and_the_mean_is_last(tmp_path: Path) -> None:
    rows = [draw_row("mean", 0.75), draw_row("nut", 0.98765), draw_row("bolt", None)]
    table = write(tmp_path / "r.html", rows=rows)
    lines = [texts(row, "td") for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]]
    assert lines == [
        ["nut", "24", *["98.8"] * 7],
        ["bolt", "24", *["&ndash;"] * 7],
        ["mean", "24", *["75.0"] * 7],
    ]


def test_several_data_sets_keep_their_means_apart(tmp_path: Path) -> None:
    rows = [draw_row(category, 0.5, dataset) for category in ("mean", "nut") for dataset in ("a", "b")]
    table = write(tmp_path / "r.html", rows=rows)
    lines = [texts(row, "td")[:2] for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]]
    assert lines == [["a", "nut"], ["a", "mean"], ["b", "nut"], ["b", "mean"]]


def test_bars_are_to_scale_and_the_ratio_is_of_the_totals(tmp_path: Path) -> None:
    text = write(tmp_path / "r.html", timing=TIMING)
    widths = [bar["width"] for bar in Page(text).all("rect")]
    assert widths == ["90.000%", "10.000%", "0.000%", "24.500%", "0.000%", "0.500%"]
    assert "100 ms per frame, the reference" in text
    assert "25.0 ms per frame, 4.0&times; as fast" in text


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "r.html"), "h2") == ["Notes"]


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), "0.5"])
def test_a_metric_out_of_range_leaves_no_page(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match=r"metrics must be None or lie in 0\.\.1"):
        write(tmp_path / "r.html", rows=[draw_row("nut", value)])
    assert list(tmp_path.iterdir()) == []


def test_time_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="timing must be positive milliseconds"):
        write(tmp_path / "r.html", timing={"reference": {"tower": -1.0}})
