"""A spot of twelve pixels in a large frame: lost when the frame is squashed, found when it is cut into tiles."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_export.config import ExportConfig
from acl_export.export import export_bundle
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_train.config import LearnConfig, Recipe
from acl_train.methods import make_vision_config
from acl_train.tiny.corpus import LEARNING_DEFECTS, LEARNING_FAMILIES, draw_dataset
from acl_train.train import TrainFiles, train
from acl_train.weights import load_weights
from benchmarks.tiling import (
    DEFECT,
    SURFACES,
    WAYS,
    draw_surface,
    find_spot,
    found_table,
    measure_memory,
    memory_table,
    with_spot,
)

SIZE = (768, 1536)  # 32 tiles of 252 pixels


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The embedded backbone with prompts learned for a few seconds."""
    folder, weights = tmp_path_factory.mktemp("large"), load_weights("tiny")
    settings = {"families": LEARNING_FAMILIES[:4], "defects": LEARNING_DEFECTS, "good": 3, "defective": 3}
    draw_dataset(folder / "data", **settings, size=168, seed=111)  # type: ignore[arg-type]
    vision = make_vision_config("tiny", weights.architecture.vision_layers, recipe=Recipe.paper)
    prompts = folder / "prompts.safetensors"
    config = LearnConfig(recipe=Recipe.paper, epochs=4)
    train([folder / "data"], TrainFiles(prompts, folder / "cache"), weights, vision, config)
    export_bundle(prompts, folder / "bundle", weights, ExportConfig())
    return load_bundle(folder / "bundle")


def test_a_spot_that_squashing_loses_is_found_in_tiles(bundle: Bundle) -> None:
    """On the embedded backbone; the benchmark has more surfaces, and frames four times as large."""
    squashed, tiled = (find_spot(bundle, "cloudy", way, size=SIZE, seed=0) for way in WAYS)
    assert squashed.peaks[1] < squashed.peaks[0] + 0.1
    assert squashed.scores[1] < squashed.scores[0] + 0.1
    assert tiled.tiles == 32
    assert tiled.distance <= DEFECT / 2  # the peak lies in the spot
    assert tiled.peaks[0] < 0.05
    assert tiled.peaks[1] > 0.4
    assert tiled.scores[1] > tiled.scores[0] + 0.9
    assert "| tiled |" in found_table([tiled])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_measured_beyond_frame_and_map(bundle: Bundle) -> None:
    memory = measure_memory(bundle, height=1600, width=2400)
    assert memory.frame == 3 * 1600 * 2400
    assert memory.anomaly_map == 4 * 1067 * 1600
    held = memory.frame + memory.anomaly_map
    assert held / 2 < memory.peak < held + 30e6  # below what is held: pages that the process already had
    assert "2400×1600" in memory_table([memory])


@pytest.mark.parametrize("surface", SURFACES)
def test_the_spot_is_as_large_as_it_says_and_nothing_else_changes(surface: str) -> None:
    frame = draw_surface(surface, height=100, width=200, seed=0)
    assert frame.dtype == np.uint8
    assert frame.shape == (100, 200, 3)
    rows, columns = np.nonzero((with_spot(frame, 30, 50) != frame).any(axis=2))
    assert (rows.min(), rows.max() + 1) == (30, 30 + DEFECT)
    assert (columns.min(), columns.max() + 1) == (50, 50 + DEFECT)
