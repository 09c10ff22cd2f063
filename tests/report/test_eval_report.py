"""The page of an evaluation says what happened, shows the right pictures, and needs nothing but itself."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluations import BAD, GOOD, HALF, SIDE, draw_dataset, judge_by, judge_dataset
from pages import Page, texts

from acl_runtime.evaluation.evaluate import Curve, DatasetEvaluation
from acl_runtime.images.overlay import colorize
from acl_runtime.report.cards import SMALL_SIDE
from acl_runtime.report.choice import choose_images
from acl_runtime.report.evaluation import MOST_CARDS, write_eval_report
from acl_runtime.report.page import POLICY
from acl_runtime.scoring.rule import Rule

HOSTILE = "<script>alert('&\"')</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name is looked up: nothing leaves this machine
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> DatasetEvaluation:
    return judge_dataset(draw_dataset(tmp_path_factory.mktemp("parts")))


def write(
    folder: Path, evaluations: Sequence[DatasetEvaluation], *, rule: Rule = HALF, text: str = "text"
) -> str:
    judge = judge_by(rule)
    path = write_eval_report(folder, evaluations, judge, rule=rule, facts=[(text, text)], notes=[text])
    assert path == folder / "index.html"
    assert [file.name for file in folder.iterdir()] == ["index.html"]
    return path.read_text(encoding="utf-8")


def name_categories(evaluation: DatasetEvaluation, names: Sequence[str]) -> DatasetEvaluation:
    first = evaluation.categories[0]
    return replace(evaluation, categories=tuple(replace(first, category=name) for name in names))


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path, parts: DatasetEvaluation) -> None:
    text = write(tmp_path, [parts])
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "form"})
    for _, attributes in page.tags:
        assert attributes.keys().isdisjoint({"srcset", "action", "style", "onload", "onclick"})
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?:|//\w|url\(|@import|<script", re.sub(r'src="data:[^"]*"', "", text))
    assert page.all("meta")[2]["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_link_leads_to_a_part_of_the_page_and_every_name_is_used_once(
    tmp_path: Path, parts: DatasetEvaluation
) -> None:
    page = Page(write(tmp_path, [parts, parts], rule=Rule(0.5, 0.9)))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in names}
    for svg in (attributes for tag, attributes in page.tags if "aria-labelledby" in attributes):
        assert {svg["aria-labelledby"], svg["aria-describedby"]} <= set(names)


def test_the_summary_leads_to_each_category(tmp_path: Path, parts: DatasetEvaluation) -> None:
    text = write(tmp_path, [parts])
    assert re.findall(r'<td class="name"><a href="#(.*?)">(.*?)</a>', text) == [
        ("d0-c0", "nut"),
        ("d0-c1", "bolt"),
    ]
    assert re.findall(r'<section id="(d0-c\d)">\n<h2>(\w+)<', text) == [("d0-c0", "nut"), ("d0-c1", "bolt")]


def test_text_stays_text(tmp_path: Path, parts: DatasetEvaluation) -> None:
    dataset = replace(
        parts.dataset,
        name=HOSTILE,
        notes=(HOSTILE, "\udcff"),
        samples=tuple(replace(sample, defect=HOSTILE) for sample in parts.dataset.samples),
    )
    named = replace(name_categories(parts, [HOSTILE, "\udcff\n"]), dataset=dataset)
    text = write(tmp_path, [named, parts], text=HOSTILE)
    page = Page(text)
    assert page.open == []
    assert page.all("script") == []
    assert "<script" not in text
    assert any(HOSTILE in (image["alt"] or "") for image in page.all("img"))


def test_the_summary_has_the_papers_numbers_below_ours(tmp_path: Path, parts: DatasetEvaluation) -> None:
    metrics = dict.fromkeys(parts.categories[0].metrics, 0.5)
    cable = replace(parts.categories[0], category="cable", metrics=metrics)
    dataset = replace(parts.dataset, name="MVTec AD", published="MVTec AD")
    text = write(tmp_path, [DatasetEvaluation(dataset, (cable,))])
    (row,) = re.findall(r"<tr>(<td class=\"name\">.*?)</tr>", text)
    assert texts(row, "td") == [
        *("cable", "9", "50.069.8 &minus;19.8", "50.081.4 &minus;31.4", "50.0"),
        *("50.078.9 &minus;28.9", "50.0", "50.0", "50.064.4 &minus;14.4"),
        *("1 of 425.0&nbsp;%", "1 of 520.0&nbsp;%"),
    ]
    assert "Paper: AnomalyCLIP, ICLR 2024, arXiv 2310.18961" in text
    assert "<tr><td>Image AUROC</td><td>50.0</td><td>69.8</td><td>&minus;19.8</td></tr>" in text


def test_a_single_category_has_no_row_of_its_mean(tmp_path: Path, parts: DatasetEvaluation) -> None:
    single = write(tmp_path / "a", [name_categories(parts, ["nut"])])
    assert single.count('<td class="name">') == 1
    assert "<tr class=mean>" not in single
    assert write(tmp_path / "b", [parts]).count("<tr class=mean>") == 1


def test_the_circle_is_said_to_lie_on_the_curve_only_where_the_score_alone_decides(
    tmp_path: Path, parts: DatasetEvaluation
) -> None:
    plain = write(tmp_path / "a", [parts])
    both = write(tmp_path / "b", [parts], rule=Rule(0.5, 0.9))
    assert "The circle on the ROC curve is what the verdicts did." in plain
    assert "images, ○ the verdicts" in plain
    assert "The circle on the ROC curve" not in both
    assert "it need not lie on the curve" in both
    assert "score, ○ with peak" in both


def test_a_curve_that_stops_early_is_explained(tmp_path: Path, parts: DatasetEvaluation) -> None:
    pro = Curve(np.array([0.0, 0.0412]), np.array([0.2, 0.7]))
    whole = Curve(np.array([0.0, 0.29]), np.array([0.2, 0.7]))
    nut, bolt = parts.categories
    categories = (replace(nut, pro=pro), replace(bolt, pro=whole))
    text = write(tmp_path, [replace(parts, categories=categories)])
    (note,) = re.findall(r'<p class="below">(.*?)</p>', text)
    assert note.startswith("The curve stops at 4.1 %: the published definition places 200 thresholds")
    assert note.endswith("marks 30 % of the good pixels or more.")


def test_the_groups_are_what_their_titles_say(parts: DatasetEvaluation) -> None:
    category = parts.categories[1]
    groups = {group.title: group for group in choose_images(category, HALF, limit=12)}
    levels = {title: [(*GOOD, *BAD)[index - 9] for index in group.indices] for title, group in groups.items()}
    assert levels["Missed defects"] == [110]
    assert levels["False alarms"] == [150]
    assert levels["Found most clearly"] == [250, 220]
    assert levels["Closest to the threshold"] == [180, 70]
    assert groups["Found most clearly"].total == 4
    shown = [index for group in groups.values() for index in group.indices]
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize(("limit", "shown"), [(0, 0), (1, 1), (3, 3), (5, 5), (100, 6)])
def test_no_more_images_are_chosen_than_allowed(parts: DatasetEvaluation, limit: int, shown: int) -> None:
    groups = choose_images(parts.categories[0], HALF, limit=limit)
    assert sum(len(group.indices) for group in groups) == shown


def test_a_page_of_many_categories_stays_small(tmp_path: Path, parts: DatasetEvaluation) -> None:
    many = name_categories(parts, [f"part {number}" for number in range(60)])
    text = write(tmp_path, [many])
    cards = text.count("<article")
    assert cards == 60 * (MOST_CARDS // 60)
    assert len(text) < 4e6


def test_a_card_shows_truth_and_map_of_its_image(tmp_path: Path, parts: DatasetEvaluation) -> None:
    text = write(tmp_path, [parts])
    (card,) = re.findall(r"<article(?:(?!<article).)*?hole: 004\.png.*?</article>", text, re.DOTALL)[:1]
    assert "OK" in card
    assert "missed defect" in card
    assert f"score {110 / 255:.3f}" in card
    assert "threshold 0.500" in card
    assert "margin -0.28" in card  # log(110 / 145)
    sources = re.findall(r'src="data:image/jpeg;base64,(.*?)"', card)
    truth, anomaly_map = (
        cv2.imdecode(np.frombuffer(base64.b64decode(source), np.uint8), cv2.IMREAD_COLOR)
        for source in sources
    )
    assert truth is not None
    assert anomaly_map is not None
    assert truth.shape == anomaly_map.shape == (SMALL_SIDE, SMALL_SIDE, 3)
    middle = 15 * SMALL_SIDE // SIDE
    expected = colorize(np.full((1, 1), 110 / 255))[0, 0].astype(int)
    assert np.abs(anomaly_map[middle, middle] - expected).max() < 12  # JPEG
    assert truth[10 * SMALL_SIDE // SIDE, middle].min() > 180  # the white outline


def test_the_peak_is_shown_where_it_decides(tmp_path: Path, parts: DatasetEvaluation) -> None:
    plain = write(tmp_path / "a", [parts])
    both = write(tmp_path / "b", [parts], rule=Rule(0.5, 0.9))
    assert "map peak" not in plain
    assert "A part is NG from score 0.500." in plain
    assert "A part is NG from score 0.500 or map peak 0.900." in both
    assert plain.count('<svg class="chart"') == 2 * 4
    assert both.count('<svg class="chart"') == 2 * 6
    assert "map peak 0.431" in both


def test_without_masks_and_without_good_parts_what_is_undefined_is_left_out(tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path / "data", ("skin",), good=(), bad=(200, 100), has_masks=False)
    text = write(tmp_path / "page", [judge_dataset(dataset)])
    assert Page(text).open == []
    assert "PRO" not in text.replace("AUPRO", "")
    assert "ROC" not in texts(text, "figcaption")
    assert "Ground truth: defective, not outlined" in text
    assert "By the score alone" not in text


def test_the_text_says_what_no_error_of_one_kind_would_cost(tmp_path: Path, parts: DatasetEvaluation) -> None:
    text = write(tmp_path, [parts])
    assert (
        "a threshold of 0.431 misses no defect here and rejects 25.0&nbsp;% of the good parts; one above 0.588 "
        "rejects none and misses 20.0&nbsp;% of the defects."
    ) in text


def test_progress_counts_the_pictures(tmp_path: Path, parts: DatasetEvaluation) -> None:
    calls: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        calls.append((done, total))

    write_eval_report(tmp_path, [parts], judge_by(HALF), rule=HALF, facts=[], notes=[], progress=note)
    assert calls == [(number + 1, 12) for number in range(12)]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to look at the page")
@pytest.mark.parametrize(
    ("dark", "policy", "colors"),
    [(False, POLICY, ("#1f6fb2", "#c4541a")), (True, "img-src *", ("#67b2ee", "#f0934e"))],
)
def test_a_browser_shows_both_classes_and_the_policy_keeps_it_from_asking_anyone(
    tmp_path: Path, parts: DatasetEvaluation, dark: bool, policy: str, colors: tuple[str, str]
) -> None:
    """What would load a picture is put into the page; with another policy the browser does ask for it."""
    text = write(tmp_path, [parts]).replace("<footer>", '<img src="http://elsewhere.invalid/1.png"><footer>')
    assert text.count(POLICY) == 1
    (tmp_path / "index.html").write_text(text.replace(POLICY, policy), encoding="utf-8")
    picture = browse(tmp_path, dark=dark)
    assert picture.shape == (3000, 1200, 3)
    assert (picture[0, 0].mean() < 64) == dark
    for color in colors:
        blue_green_red = np.array([int(color[at : at + 2], 16) for at in (5, 3, 1)])
        assert (np.abs(picture.astype(int) - blue_green_red).max(axis=2) < 3).sum() > 500
    assert list_requests(tmp_path / "net.json") == (
        [] if policy == POLICY else ["http://elsewhere.invalid/1.png"]
    )


def browse(folder: Path, *, dark: bool) -> np.ndarray:
    """A screenshot of `folder/index.html`, (H, W, 3) BGR; what was to go over the net is in `net.json`."""
    assert CHROMIUM is not None
    files = (f"--user-data-dir={folder / 'user'}", f"--log-net-log={folder / 'net.json'}")
    shot = (f"--screenshot={folder / 'page.png'}", "--window-size=1200,3000")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    url = (folder / "index.html").as_uri()
    subprocess.run(
        [CHROMIUM, *QUIET, *files, *shot, scheme, url], check=True, capture_output=True, timeout=60
    )
    picture = cv2.imread(str(folder / "page.png"))
    assert picture is not None
    return np.asarray(picture)


def list_requests(net_log: Path) -> list[str]:
    """What a page asked for, other than itself; the browser's own requests have no page as their origin."""
    log = json.loads(net_log.read_text(encoding="utf-8"))
    kind = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    started = [event.get("params", {}) for event in log["events"] if event["type"] == kind]
    return [
        params["url"] for params in started if params.get("initiator", "not an origin") != "not an origin"
    ]
