"""The head of an evaluation's page says in words what the figures were measured with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import draw_category
from graphs import write_tiny_bundle
from pages import texts
from parts import draw_parts
from typer.testing import CliRunner

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.cli import app
from acl_runtime.detection.detector import Detector
from acl_runtime.sources.files import list_sources


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("header")
    draw_category(folder / "data")
    write_tiny_bundle(folder / "bundle")
    return folder


def facts(folder: Path, *options: str) -> tuple[dict[str, str], dict[str, object]]:
    """Of the page's head, and the settings of the JSON file."""
    files = ("--report", folder / "page", "--json", folder / "eval.json")
    done = CliRunner().invoke(
        app, [str(word) for word in ("eval", folder / "bundle", folder / "data", *files, *options)]
    )
    assert done.exit_code == 0, done.output
    head = (folder / "page" / "index.html").read_text().partition("</header>")[0]
    settings: dict[str, object] = json.loads((folder / "eval.json").read_text())["settings"]
    return dict(zip(texts(head, "dt"), texts(head, "dd"), strict=True)), settings


def test_the_facts_are_words(folder: Path) -> None:
    found, settings = facts(folder)
    manifest = load_bundle(folder / "bundle").manifest
    assert found == {
        "Backbone": manifest.backbone.name,
        "Weights": settings["weights"],
        "Network": "QuickGELU, 1 heads, 1 in the text tower (told)",
        "Prompts": settings["prompts"],
        "Input": f"{manifest.image_size} × {manifest.image_size} pixels",
        "Normalised": "mean 0, 0, 0, standard deviation 1, 1, 1, of red, green and blue in 0..1",
        "Pixels": "as stored, orientation tags are not applied; 16 bits of 16-bit files count",
        "Frames": "each squashed whole",
        "Graph": f"head {manifest.head}, {manifest.precision}",
        "Computed by": "ONNX Runtime on CPU",
        "Metrics": settings["metrics"],
    }
    assert not [text for text in (*found, *found.values()) if "_" in text]
    assert {"image_size", "mask_above", "score_threshold"} <= settings.keys()
    assert settings["network"] == found["Network"]
    assert (settings["mean"], settings["std"]) == ([0, 0, 0], [1, 1, 1])
    assert settings["orientation"] == "pixels as stored"


def test_a_memory_is_told(folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", head="embeddings")
    parts = draw_parts(tmp_path / "parts", good=24, defective=0)
    calibrate_bundle(Detector(bundle), list_sources([parts / "good"]), memory=4)
    (tmp_path / "data").symlink_to(folder / "data")
    found, settings = facts(tmp_path)
    assert found["Memory"] == "good parts (calibrations/0001.npz), which judge with the text"
    assert settings["memory"] == load_bundle(bundle).manifest.files["calibrations/0001.npz"].sha256[:12]
    assert facts(folder)[1]["memory"] is None


def test_what_is_not_usual_is_told(folder: Path) -> None:
    found, settings = facts(folder, "--tile", "64", "--overlap", "8", "--mask-above", "9")
    assert found["Frames"] == "cut into tiles of 64 pixels that share 8 pixels"
    assert found["Masks"] == "a defect is above grey level 9"
    assert settings["mask_above"] == 9
