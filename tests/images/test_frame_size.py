"""Bundles that take the camera's frame as it is: the resize in the graph is Pillow's, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import BUNDLE_SIZE, FIXTURES
from graphs import sealed
from PIL import Image
from typer.testing import CliRunner

from acl_export.config import ExportConfig, Head
from acl_export.export import export_bundle
from acl_export.resize import PillowResize, pillow_weights
from acl_runtime import Detector
from acl_runtime.bundle.bundle import load_bundle, load_golden
from acl_runtime.bundle.manifest import Tiling, manifest_from_json
from acl_runtime.cli import app
from acl_runtime.images.decode import load_frame
from acl_runtime.images.preprocess import preprocess
from acl_train.weights import Weights

FRAME_SIZE = 120, 200


@pytest.fixture(scope="module")
def framed(prompts_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("framed") / "b"
    config = ExportConfig(int8=True, frame_size=FRAME_SIZE, max_batch=2)
    export_bundle(prompts_path, path, weights, config)
    return path


def camera_frames(count: int) -> list[np.ndarray]:
    picture = load_frame(FIXTURES / "images" / "synth0.png")
    height, width = FRAME_SIZE
    tiled = np.tile(picture, (3, 3, 1))
    return [np.ascontiguousarray(tiled[k : k + height, 2 * k : 2 * k + width]) for k in range(count)]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (270, 480, 98),
        (600, 130, 98),  # rows first
        (98, 400, 98),  # one pass
        (98, 98, 98),  # none
        (50, 60, 98),  # larger
        (1, 1, 5),
        (3000, 3, 60),
    ],
)
def test_the_resize_is_pillows_bit_for_bit(height: int, width: int, size: int) -> None:
    rng = np.random.default_rng(height)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    extremes = np.where(rng.random((height, width, 3)) < 0.5, 0, 255).astype(np.uint8)  # overshoot is clipped
    frames = np.stack([noise, extremes])
    resized = PillowResize(height, width, size)(torch.from_numpy(frames)).numpy()
    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized, preprocess(list(frames), image_size=size))


def test_every_row_of_weights_sums_to_one() -> None:
    sums = pillow_weights(1920, 518).sum(axis=1) / 2**22
    np.testing.assert_allclose(sums, 1, atol=1e-5)  # each weight is rounded


def test_a_frame_whose_sums_would_not_be_exact_is_refused() -> None:
    PillowResize(1, 300, 5)
    with pytest.raises(ValueError, match="a frame of 60000 pixels is too large to be resized in a graph"):
        PillowResize(1, 60000, 5)


def test_the_graph_takes_the_frame_as_it_is(framed: Path) -> None:
    manifest = load_bundle(framed).manifest
    assert manifest.frame_size == FRAME_SIZE
    assert manifest.preprocessing.color == "BGR"
    [frames] = onnx.load(framed / "model.onnx", load_external_data=False).graph.input
    shape = [entry.dim_param or entry.dim_value for entry in frames.type.tensor_type.shape.dim]
    assert (frames.name, shape) == ("frames", ["batch", *FRAME_SIZE, 3])
    assert load_golden(load_bundle(framed))["images"].shape == (4, *FRAME_SIZE, 3)
    assert 0 < manifest.parity.image_logits < 1e-5
    assert 0 < manifest.parity.anomaly_map < 1e-5


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_verdicts_are_those_of_the_bundle_that_pillow_resizes_for(
    framed: Path, bundles: dict[Head, Path], backend: str
) -> None:
    frames = camera_frames(3)
    with Detector(framed, backend=backend) as ours, Detector(bundles[Head.map]) as pillows:
        for a, b in zip(ours.detect(frames), pillows.detect(frames), strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-6)
            np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=2e-6)
            assert a.anomaly_map.shape == (BUNDLE_SIZE, BUNDLE_SIZE)
        grey = frames[0][:, :, 0]
        assert ours(grey).score == pytest.approx(pillows(grey).score, abs=1e-6)
        deep = frames[0].astype(np.uint16) << 8
        assert ours(deep).score == ours(frames[0]).score


def test_only_the_towers_layers_become_int8(framed: Path) -> None:
    graph = onnx.load(framed / "model.int8.onnx").graph
    quantised = [node for node in graph.node if node.op_type == "MatMulInteger"]
    manifest = load_bundle(framed).manifest
    assert manifest.backbone.blocks is not None
    second = manifest.backbone.blocks - manifest.vv_from + 1
    assert len(quantised) == 4 * manifest.backbone.blocks + second
    score = Detector(framed, backend="onnxruntime")(camera_frames(1)[0]).score
    assert 0 < score < 1


def test_a_frame_of_another_size_is_told_and_the_stream_goes_on(framed: Path, tmp_path: Path) -> None:
    detector = Detector(framed)
    with pytest.raises(ValueError, match=r"frame must be 120×200 pixels \(height × width\).*got 200×120"):
        detector(np.zeros((200, 120, 3), np.uint8))
    for name, frame in zip("abc", camera_frames(3), strict=True):
        Image.fromarray(frame if name != "b" else frame[:-1]).save(tmp_path / f"{name}.png")
    done = CliRunner().invoke(app, ["run", str(framed), str(tmp_path), "--json", "-"])
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [Path(line["source"]).name for line in lines] == ["a.png", "b.png", "c.png"]
    assert ["score" in line for line in lines] == [True, False, True]
    assert "got 119×200" in lines[1]["error"]
    assert done.exit_code == 1


def test_a_graph_that_resizes_excludes_the_fast_resize(framed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="so that its graph resizes; leave --fast-resize out"):
        Detector(framed, fast_resize=True)
    Image.fromarray(camera_frames(1)[0]).save(tmp_path / "a.png")
    done = CliRunner().invoke(app, ["run", str(framed), str(tmp_path), "--fast-resize"])
    assert done.exit_code == 1
    assert "leave --fast-resize out" in " ".join(done.stderr.split())


def test_tiles_and_whole_frames_exclude_each_other(framed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was exported with --frame-size and takes whole frames"):
        Detector(framed, tiling=Tiling(98, None, None))
    shutil.copytree(framed, tmp_path / "b")
    document = json.loads((tmp_path / "b" / "manifest.json").read_text())
    document["calibration"]["tiling"] = {"tile": 98, "overlap": None, "min_defect": None}
    with pytest.raises(ValueError, match=r"calibration\.tiling must be null"):
        manifest_from_json(json.dumps(sealed(document)))


def test_a_manifest_whose_frames_have_no_size_is_refused(framed: Path) -> None:
    document = json.loads((framed / "manifest.json").read_text())
    document["graph"]["inputs"][0]["shape"][1] = "height"
    with pytest.raises(ValueError, match=r"graph\.inputs must be frames \(batch, height, width, 3\)"):
        manifest_from_json(json.dumps(sealed(document)))


@pytest.mark.parametrize("text", ["1080", "1080x", "axb", "0x5", "1x2x3"])
def test_a_size_that_is_none_is_told_before_anything_is_loaded(text: str) -> None:
    done = CliRunner().invoke(app, ["export", "missing", "-o", "b", "--frame-size", text])
    assert done.exit_code == 2
    assert "must be" in done.output
