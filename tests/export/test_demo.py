"""The demonstration, small: every step is the real one, on the embedded backbone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import MINI
from console import acl
from webs import comparable

from acl_export.demo import DemoConfig, run_demo
from acl_export.demo_report import DemoResult, summary
from acl_export.demo_web import WebDemo
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.detection.detector import Detector
from acl_runtime.inspection.web import inspect_web
from acl_runtime.sources.drawn import DrawnSource
from acl_runtime.sources.lines import parse_source
from acl_runtime.web.drawn_truth import compare, drawn_boxes, told_boxes
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.judge import TileJudge
from acl_runtime.web.plan import plan_web
from acl_runtime.web.records import Defect, Event, Scale, StateChange
from acl_runtime.web.ring import LineRing, Reader
from acl_runtime.web.settings import WebSettings

CONFIG = DemoConfig(
    learning=("wood", "nut"),
    unseen=("egg", "leather"),
    per_family=6,
    per_unseen=3,
    per_calibration=20,
    epochs=8,
    timing_s=0,
    web=WebDemo(metres=1.5, width=336, defects_per_m=4.0, segment_m=0.1, max_overkill=0.3),
)
"""Two products learned, two judged, and 1.5 m of web."""
Demo = tuple[Path, DemoResult]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The folder of a demonstration, which is not to be written to, and its result."""
    folder = tmp_path_factory.mktemp("workshop") / "demo"
    return folder, run_demo(folder, CONFIG)


def test_the_demo_inspects_a_web_and_says_what_it_found_of_what_was_drawn(demo: Demo) -> None:
    folder, result = demo
    figures = json.loads((folder / "summary.json").read_text())
    assert list(figures) == [
        *(
            "defective",
            "defective_found",
            "good",
            "good_rejected",
            "promised_overkill",
            "image_auroc",
            "image_ap",
        ),
        *("pixel_auroc", "aupro", "max_map_difference", "speed_ratio", "web"),
    ]
    web = figures["web"]
    assert list(web) == ["defects", "found", "false", "worst_error_mm"]
    assert web["found"] >= web["defects"] / 2 > 1
    assert web["false"] <= 3
    assert web["worst_error_mm"] < 30  # the patch is 8 mm
    assert result.web is not None
    assert result.web.summary.judged == result.web.summary.exposed == 3000
    assert result.web.text() in summary(result)
    page = result.report.read_text()
    assert f"{web['found']} of {web['defects']}" in page
    assert '<svg class="roll" role="img"' in page
    *_, last = (folder / "report" / "web" / "roll.jsonl").read_text().splitlines()
    assert json.loads(last)["lines"]["judged"] == 3000
    assert (folder / "report" / "web" / "index.html").is_file()
    assert load_bundle(folder / "bundle").manifest.calibration.tiling is None, "that of the web is a copy"


def test_a_webs_defects_are_found_in_their_place_whatever_its_speed_with_a_standstill_in_the_middle(
    demo: Demo,
) -> None:
    """Lines come by the clock, through ring and reader, and the network is slower than the web."""
    told: list[list[object]] = []
    for rate in ("20000", "2500@0,25000@1500", "6000@0,1500@2900"):
        text = f"drawn:8?width=336&pitch=0.5&defects_per_m=10&neps_per_m=6&lines=3000&rate={rate}"
        source = DrawnSource(parse_source(f"{text}&stop=1472:0.4&buffers=1000"))
        events, engine = inspect(demo[0] / "bundles" / "web", source)
        assert engine.exposed == 3000 == engine.tally.accounted
        assert engine.tally.lost == {"standstill": 16}
        states = [(each.line, each.state) for each in events if isinstance(each, StateChange)]
        assert states == [(1472, "standstill"), (1488, "running")]
        defects = [each for each in events if isinstance(each, Defect)]
        found = compare(drawn_boxes(source.web, 3000), told_boxes(defects), reach_mm=8)
        assert found.found >= 0.6 * len(found.truth) > 7  # measured: 8 of 12
        assert len(found.false) <= 2
        assert found.median_mm is not None
        assert found.worst_mm is not None
        assert (found.median_mm < 4, found.worst_mm < 16) == (True, True)  # a patch is 8 mm
        told.append([comparable(each) for each in events])
    assert told[1:] == told[:1] * 2


def inspect(bundle: Path, source: DrawnSource) -> tuple[list[Event], WebEngine]:
    """What is told of a web, with the thresholds of a bundle."""
    with Detector(bundle, provider="CPUExecutionProvider") as detector:
        assert detector.tiling is not None
        settings = WebSettings(
            rule=detector.rule,
            region_threshold=detector.bundle.manifest.calibration.regions_from,
            scale=Scale(mm_per_line=0.5, mm_per_pixel=0.5),
            flush_after_s=0.2,
        )
        plan = plan_web(source.width, detector.tiling, detector.bundle.manifest)
        engine, ring = WebEngine(plan, TileJudge(detector.stages), settings), LineRing(4096, waits=False)
        return [*inspect_web(engine, ring, Reader(source, ring, lambda: source))], engine


def test_the_demo_goes_the_whole_road_on_unseen_products(demo: Demo) -> None:
    folder, result = demo
    assert [row["category"] for row in result.rows] == ["egg", "leather", "mean"]
    assert all(0 <= result.rows[-1][key] <= 1 for key in ("image_auroc", "pixel_auroc", "aupro"))
    assert result.ratio > 0
    assert result.ours.candidate.anomaly_map < 1e-5
    assert result.ours.candidate.image_logits < 5e-5
    page = result.report.read_text()
    assert result.report == folder / "report" / "index.html"  # the page of an evaluation
    assert "not for inspection" in page
    assert '<a href="#d0-c0">egg</a>' in page
    assert "Each product has its own thresholds" in page
    calibrated = [load_bundle(folder / "bundles" / name).manifest.calibration for name in ("egg", "leather")]
    assert calibrated[0].score_threshold != calibrated[1].score_threshold
    assert (folder / "contact_sheet.png").stat().st_size > 10_000
    assert (folder / "bundle" / "manifest.json").is_file()
    assert len(summary(result)) <= 10
    against = acl("eval", folder / "bundle", folder / "unseen", "--against", "torch")
    worst = re.search(r"largest difference of a score (\S+), of a map (\S+)", against.stdout)
    assert worst is not None, against.output
    assert max(float(number) for number in worst.groups()) < 1e-5


def test_a_demo_of_the_users_images_replaces_the_one_before_and_uses_its_prompts(
    demo: Demo, tmp_path: Path
) -> None:
    result, said = demo[1], list[str]()
    shutil.copytree(demo[0], tmp_path / "demo")
    shutil.copytree(tmp_path / "demo" / "unseen", tmp_path / "mine")
    own = run_demo(tmp_path / "demo", CONFIG, data=tmp_path / "mine", say=said.append)
    assert "the prompts that the earlier demo here learned are used again" in said
    assert own.rows[-1]["image_auroc"] == result.rows[-1]["image_auroc"]
    assert own.manifest.prompts["sha256"] == result.manifest.prompts["sha256"]
    assert own.web is None
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["web"] is None


def test_the_demo_judges_the_users_own_folder_and_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and no demo made it; name a new or an empty folder"):
        run_demo(tmp_path, DemoConfig(), data=MINI)
    assert (tmp_path / "precious.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        run_demo(tmp_path / "demo", DemoConfig(), data=tmp_path / "none")
    assert not (tmp_path / "demo").exists()
