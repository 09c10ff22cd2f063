"""An export over an earlier bundle keeps what holds for the new one and loses nothing without a word."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES
from console import acl, assert_one_line
from graphs import write_tiny_bundle
from standin_trt import make_standin_engine

from acl_export.commands.export import next_line
from acl_export.config import ExportConfig, Head
from acl_export.earlier import carry_over, check_earlier
from acl_export.export import export_bundle
from acl_runtime import Detector
from acl_runtime.bundle.bundle import Bundle, load_bundle, replace_manifest
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import locked_folder
from acl_runtime.images.decode import load_frame
from acl_runtime.sources.files import list_sources
from acl_train.tiny.corpus import draw_dataset
from acl_train.weights import Weights

FRAME = FIXTURES / "images" / "synth1.png"
Export = Callable[..., object]


@pytest.fixture(scope="module")
def calibrated(bundles: dict[Head, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a calibration, what stands for an engine, and a file of the user's."""
    root = tmp_path_factory.mktemp("calibrated")
    shutil.copytree(bundles[Head.map], root / "b")
    draw_dataset(root / "parts", families=["wood"], defects=[], good=30, defective=0, size=64, seed=3)
    calibrate_bundle(Detector(root / "b"), list_sources([root / "parts"]))
    (root / "b" / "engines").mkdir(exist_ok=True)
    (root / "b" / "engines" / "a.engine").write_text("for one GPU")
    (root / "b" / "notes").mkdir()
    (root / "b" / "notes" / "mine.txt").write_text("dear")
    return root / "b"


@pytest.fixture
def folder(calibrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated, tmp_path / "b"))


@pytest.fixture
def export(prompts_path: Path, weights: Weights) -> Export:
    def run(output: Path, config: ExportConfig, **settings: object) -> object:
        return export_bundle(prompts_path, output, weights, config, **settings)  # type: ignore[arg-type]

    return run


@pytest.fixture
def graphs_at_hand(bundles: dict[Head, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of the tests' bundles are taken, where the same would be traced again."""

    def copy(
        bundle: Bundle, clip: object, vectors: object, config: ExportConfig, progress: object, memory: object
    ) -> None:
        shutil.copy(bundles[config.head] / "model.onnx", bundle.path / "model.onnx")

    monkeypatch.setattr("acl_export.export.write_graphs", copy)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_the_same_graph_keeps_calibration_engine_and_the_users_files(
    folder: Path, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    before, verdict = load_bundle(folder).manifest, Detector(folder, backend="onnxruntime")(load_frame(FRAME))
    with caplog.at_level(logging.INFO, logger="acl"):
        export(folder, ExportConfig(max_batch=3), frames=[FRAME])
    after = load_bundle(folder)
    assert after.manifest.calibration == before.calibration
    assert after.manifest.created >= before.created
    assert after.manifest.parity.frames == 1
    assert "kept 1 calibration and 1 engine, which hold for the new graph too" in caplog.text
    assert (folder / "engines" / "a.engine").read_text() == "for one GPU"
    assert (folder / "notes" / "mine.txt").read_text() == "dear"
    assert "notes/mine.txt" not in after.manifest.files  # it stays the user's, who may change it
    again = Detector(after, backend="onnxruntime")(load_frame(FRAME))
    assert (again.score, again.is_anomalous) == (verdict.score, verdict.is_anomalous)
    np.testing.assert_array_equal(again.anomaly_map, verdict.anomaly_map)


@pytest.mark.usefixtures("graphs_at_hand")
def test_another_graph_is_refused_with_what_would_be_lost_and_replaced_on_demand(
    folder: Path, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(folder)
    config = ExportConfig(head=Head.embeddings, max_batch=3)
    with pytest.raises(
        InputError, match=r"b: holds 1 calibration and 1 engine, which do not .* or pass --replace"
    ):
        export(folder, config)
    assert contents(folder) == before
    with caplog.at_level(logging.INFO, logger="acl"):
        export(folder, config, may_lose=True)
    assert "1 calibration and 1 engine of the bundle before were removed" in caplog.text
    assert load_bundle(folder).manifest.calibration.record is None
    assert not (folder / "calibrations").exists()
    assert (folder / "notes" / "mine.txt").read_text() == "dear"


def test_a_graph_with_other_bytes_is_refused_after_the_work(folder: Path, export: Export) -> None:
    bundle = load_bundle(folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(
            b"\x92\x01\x00"
        )  # an empty field that no reader knows: made by other versions of the tools
    replace_manifest(bundle, bundle.manifest, added=["model.onnx"])
    before = contents(folder)
    with pytest.raises(InputError, match="holds 1 calibration and 1 engine, which do not hold"):
        export(folder, ExportConfig(max_batch=3))
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["b"]


@pytest.mark.usefixtures("graphs_at_hand")
def test_a_damaged_bundle_is_not_replaced_while_it_holds_calibrations(folder: Path, export: Export) -> None:
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="holds 1 calibration and 1 engine"):
        export(folder, ExportConfig(max_batch=3))
    export(folder, ExportConfig(max_batch=3), may_lose=True)
    assert load_bundle(folder).manifest.calibration.record is None


@pytest.mark.usefixtures("graphs_at_hand")
def test_a_bundle_in_use_is_not_replaced(folder: Path, export: Export) -> None:
    with ThreadPoolExecutor(1) as pool:  # holds it as another process would, such as acl calibrate
        held = locked_folder(folder)
        pool.submit(held.__enter__).result()
        with pytest.raises(InputError, match="b: is in use by process .*; wait until it has ended"):
            export(folder, ExportConfig(max_batch=3))
        pool.submit(held.__exit__, None, None, None).result()


@pytest.mark.parametrize("change", ["gone", "other", "same"])
def test_engines_of_eight_bits_are_kept_with_their_graph_and_lost_with_it_on_demand_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    before = load_bundle(write_tiny_bundle(tmp_path / "b", ladder=("fp16", "fp32", "int8")))
    engine, own = (make_standin_engine(before, arithmetic=each).path for each in ("int8", "fp16"))
    unfinished = before.path / "engines" / ".build-x" / "a.engine"  # of a builder that was killed
    unfinished.parent.mkdir()
    unfinished.write_text("half")
    new = Path(shutil.copytree(before.path, tmp_path / "new", ignore=shutil.ignore_patterns("engines")))
    manifest = replace(before.manifest, files={})
    if change == "gone":
        (new / "model.int8.onnx").unlink()
        manifest = replace(manifest, ladder=manifest.ladder[:1])
        with pytest.raises(InputError, match="b: holds 1 engine, which do not hold for the new bundle"):
            check_earlier(before.path, manifest, may_lose=False)
    else:
        check_earlier(before.path, manifest, may_lose=False)
    if change == "other":
        (new / "model.int8.onnx").write_bytes(b"scaled by other samples")
    if change == "same":
        carry_over(before.path, new, manifest, may_lose=False)
        assert (new / "engines" / engine.name).is_file()
    else:
        with pytest.raises(InputError, match="b: holds 1 engine, which do not hold for the new bundle"):
            carry_over(before.path, new, manifest, may_lose=False)
        with caplog.at_level(logging.INFO, logger="acl"):
            carry_over(before.path, new, manifest, may_lose=True)
        assert "1 engine of the bundle before were removed" in caplog.text
        assert "kept 1 engine, which hold" in caplog.text
        assert not list((new / "engines").glob(f"{engine.stem}*"))
    assert (new / "engines" / own.name).is_file()
    assert not (new / "engines" / ".build-x").exists()


@pytest.mark.usefixtures("graphs_at_hand")
def test_the_command_says_what_would_be_lost_and_what_comes_next(
    folder: Path, prompts_path: Path, clip_path: Path, tmp_path: Path
) -> None:
    arguments = ("export", prompts_path, "--weights", clip_path, "--max-batch", 3)
    assert_one_line(acl(*arguments, "-o", folder, "--head", "embeddings"), "or pass --replace to lose them")
    assert next_line(folder, load_bundle(folder).manifest) == f"next: acl run {folder} IMAGES"
    fresh = acl(*arguments, "-o", tmp_path / "new")
    assert fresh.stdout.splitlines()[-1].startswith(f"next: acl calibrate {tmp_path / 'new'} GOOD_IMAGES")
