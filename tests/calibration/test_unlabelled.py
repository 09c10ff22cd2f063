"""Frames that nobody looked at teach a memory, under an assumption that the promise names; known defects may refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import GRID, JOINT, LAYERS, write_tiny_bundle
from parts import draw_parts

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.images import judge_images
from acl_runtime.calibration.memory_fit import Shown, fit_memory
from acl_runtime.calibration.memory_images import Request, fit_memory_to_images
from acl_runtime.calibration.memory_trim import trim
from acl_runtime.calibration.record import read_record
from acl_runtime.calibration.thresholds import find_thresholds
from acl_runtime.calibration.unlabelled import allow_for, check_veto
from acl_runtime.commands.describe import describe
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.memory_kinds import outside_distances
from acl_runtime.scoring.rule import Rule
from acl_runtime.sources.files import list_sources

FRAMES, BAD = 60, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`line` holds good frames and a few defective ones, `defective` others."""
    root = draw_parts(tmp_path_factory.mktemp("images"), good=FRAMES - BAD, defective=BAD + 4)
    line = root / "line"
    shutil.copytree(root / "good", line)
    for number in range(BAD):
        shutil.move(root / "defective" / f"{number}.png", line / f"bad{number}.png")
    return root


def test_the_promise_names_its_assumption_wherever_it_is_shown(images: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", head="embeddings")
    defective = list_sources([images / "defective"])
    record = calibrate_bundle(
        Detector(bundle), list_sources([images / "line"]), defective=defective, memory=24, unlabelled=0.05
    )
    assumed = "holds only if at most 5 % of them (2) are defective, as you assumed."
    loaded = load_bundle(bundle)
    assert assumed in record.statement
    assert assumed in loaded.manifest.calibration.source
    assert assumed in describe(loaded)
    assert (record.unlabelled, record.hidden_defects, read_record(loaded)) == (0.05, 2, record)
    assert record.escapes is not None
    assert record.escapes.missed == 0


def test_what_is_far_is_left_out_of_the_memory() -> None:
    rng = np.random.default_rng(0)
    centre, bent = rng.normal(size=(2, LAYERS, JOINT))
    counted = np.ones(GRID * GRID, np.bool_)

    def draw(*, is_bad: bool) -> Shown:
        vectors = centre + rng.normal(size=(GRID * GRID, LAYERS, JOINT)) * [1, 0.5, 0.02, 0.02, 0.02, 0.02]
        vectors[:6] += 3 * bent * is_bad
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return Shown(vectors.astype(np.float32), np.zeros((GRID * GRID, LAYERS), np.float32), counted)

    good, bad = [draw(is_bad=False) for _ in range(18)], [draw(is_bad=True) for _ in range(2)]
    kept = trim([*bad, *good], 0.1, GRID * GRID, seed=0)
    assert len(kept) == 17
    assert not any(np.shares_memory(shown.embeddings, each.embeddings) for shown in kept for each in bad)
    assert 0.97 < np.mean([shown.counted.mean() for shown in kept]) < 1
    robust, plain = (
        fit_memory(images, places=GRID * GRID, subject="", seed=0).memory(("subspace",)).subspace
        for images in (kept, [*bad, *good])
    )
    assert robust is not None
    assert plain is not None
    defect = bad[0].embeddings[:6].swapaxes(0, 1)
    far, usual = (
        np.mean([outside_distances(defect, each.mean, each.directions) / each.scale.location])
        for each in (robust, plain)
    )
    assert far > 2 * usual


def test_a_share_that_is_none_is_refused() -> None:
    demand = Demand(0.05)
    assert allow_for(demand, None, 100) is demand
    assert allow_for(demand, 0.02, 101).hidden_defects == 3
    for share in (0.0, 0.21, 1.0):
        with pytest.raises(InputError, match="share of defective frames must lie above 0 and up to 20%"):
            allow_for(demand, share, 100)


def test_labelled_images_refuse_thresholds_that_let_more_pass(images: Path, tmp_path: Path) -> None:
    frames, defective = list_sources([images / "good"]), list_sources([images / "defective"])
    detector = Detector(write_tiny_bundle(tmp_path / "bundle", head="embeddings"))
    fitted = fit_memory_to_images(
        detector, frames, Request(8, ("subspace",)), seed=0, progress=lambda *at: None
    )
    detector = detector.with_memory(fitted.memory)
    judged = judge_images(detector, frames, "", lambda *at: None, excluded=fitted.digests)
    bad = judge_images(detector, defective, "", lambda *at: None)
    demand = Demand(0.1)
    good = find_thresholds(np.array(judged.images.score), np.array(judged.images.peak), demand, seed=0)
    given = detector, frames, judged, defective, bad
    check_veto(*given, good, demand, seed=0, progress=lambda *at: None)
    none = replace(good, rule=Rule(1.0, None))
    with pytest.raises(
        InputError, match="4 of 4 defective images would pass with the memory of unlabelled frames, and 0 by"
    ):
        check_veto(*given, none, demand, seed=0, progress=lambda *at: None)
