"""A memory of good parts says how far patches are from all of them, in units of how far good parts are."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import GRID, JOINT, LAYERS, SIDE, drawn_frame, write_tiny_bundle

from acl_runtime.bundle.bundle import Bundle, load_bundle, replace_manifest
from acl_runtime.calibration.conformal import Demand, allowed_rejections, scale_images
from acl_runtime.calibration.memory_fit import LEAST_DISTANCE_SPREAD, Fitted, Shown
from acl_runtime.calibration.memory_fit import fit_memory as fit_kinds
from acl_runtime.calibration.memory_statistics import save_memory
from acl_runtime.calibration.thresholds import draw_scale_images, find_rule
from acl_runtime.detection.detector import Detector
from acl_runtime.images.preprocess import preprocess
from acl_runtime.scoring.maps import patches_to_map, sigmoid
from acl_runtime.scoring.memory import Memory, memory_maps, patch_evidence, share_peaks
from acl_runtime.scoring.memory_file import load_memory
from acl_runtime.scoring.memory_kinds import (
    Floats,
    GaussianScale,
    Kind,
    NearestPatches,
    nearest_distances,
)
from acl_runtime.scoring.rule import log_odds

FILE = "calibrations/0001.npz"


def unit(rng: np.random.Generator, *shape: int) -> Floats:
    vectors = rng.normal(size=shape)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def unit_patches() -> Floats:
    return unit(np.random.default_rng(8), LAYERS, 4, JOINT)


def damaged_archive() -> bytes:
    """A zip whose compressed array cannot be expanded."""
    file = io.BytesIO()
    np.savez_compressed(file, patch_embeddings=np.zeros(9999), text=np.zeros(2), distance=np.zeros(2))
    data = bytearray(file.getvalue())
    data[60:100] = b"\xff" * 40
    return bytes(data)


def as_halves(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


def ones(*shape: int) -> Floats:
    return np.ones(shape, np.float32)


def shown(embeddings: Floats, logits: Floats) -> Shown:
    return Shown(embeddings, logits, np.ones(len(logits), np.bool_))


def fit(
    embeddings: list[Floats], logits: list[Floats], *, patches: int = 1024, places: int = 0, seed: int = 0
) -> Fitted:
    images = [shown(*pair) for pair in zip(embeddings, logits, strict=True)]
    return fit_kinds(images, places=places or len(logits[0]), subject="00", patches=patches, seed=seed)


def fit_memory(
    embeddings: list[Floats],
    logits: list[Floats],
    *,
    patches: int = 1024,
    seed: int,
    kinds: tuple[Kind, ...] = ("patches",),
) -> Memory:
    return fit(embeddings, logits, patches=patches, seed=seed).memory(kinds)


def of_patches(patches: Floats, text: GaussianScale, distance: GaussianScale) -> Memory:
    return Memory(text=text, nearest=NearestPatches(patches, distance))


def kept(memory: Memory) -> NearestPatches:
    assert memory.nearest is not None
    return memory.nearest


def made(rng: np.random.Generator, images: int = 3, patches: int = 1024) -> tuple[list[Floats], Memory]:
    embeddings = [unit(rng, GRID * GRID, LAYERS, JOINT) for _ in range(images)]
    logits = [rng.normal(size=(GRID * GRID, LAYERS)).astype(np.float32) for _ in range(images)]
    return embeddings, fit_memory(embeddings, logits, patches=patches, seed=0)


@pytest.fixture
def memory() -> Memory:
    return made(np.random.default_rng(0))[1]


def in_force(folder: Path, memory: Memory) -> Bundle:
    """A bundle that remembers."""
    bundle = load_bundle(write_tiny_bundle(folder, head="embeddings"))
    save_memory(bundle.path / FILE, memory)
    calibration = replace(bundle.manifest.calibration, memory=FILE)
    replace_manifest(bundle, replace(bundle.manifest, calibration=calibration), added=[FILE])
    return load_bundle(folder)


def test_the_distance_is_that_to_the_most_similar_patch_in_each_layer() -> None:
    rng = np.random.default_rng(1)
    patches, remembered = unit(rng, 2, LAYERS, 5, JOINT), unit(rng, LAYERS, 7, JOINT)
    expected = np.empty((2, 5))
    for image, patch in np.ndindex(2, 5):
        nearest = [
            max(patches[image, layer, patch] @ other for other in remembered[layer])
            for layer in range(LAYERS)
        ]
        expected[image, patch] = np.mean([1 - cosine for cosine in nearest])
    np.testing.assert_allclose(nearest_distances(patches, remembered), expected, atol=1e-6)
    np.testing.assert_allclose(nearest_distances(patches[0], remembered), expected[0], atol=1e-6)
    np.testing.assert_allclose(nearest_distances(remembered, remembered), 0, atol=1e-6)


def test_the_scales_are_those_of_each_image_beside_the_others() -> None:
    rng = np.random.default_rng(2)
    embeddings = [unit(rng, 6, LAYERS, JOINT) for _ in range(3)]
    logits = [rng.normal(3, 2, (6, LAYERS)).astype(np.float32) for _ in range(3)]
    memory = fit_memory(embeddings, logits, seed=0)
    distances = []
    for row, image in enumerate(embeddings):
        others = as_halves(np.concatenate([other for at, other in enumerate(embeddings) if at != row]))
        distances += nearest_distances(image.swapaxes(0, 1), others.swapaxes(0, 1)).tolist()
    assert kept(memory).scale.location == pytest.approx(np.mean(distances), rel=1e-5)
    assert kept(memory).scale.spread == pytest.approx(np.std(distances), rel=1e-5)
    text = np.concatenate(logits).mean(axis=1)
    assert memory.text.location == pytest.approx(text.mean(), rel=1e-5)
    assert memory.text.spread == pytest.approx(text.std(), rel=1e-5)
    np.testing.assert_array_equal(
        kept(memory).patch_embeddings, as_halves(np.concatenate(embeddings)).swapaxes(0, 1)
    )


def test_a_rare_patch_of_a_good_part_is_kept() -> None:
    rng = np.random.default_rng(3)
    common = np.tile(np.eye(JOINT, dtype=np.float32)[0], (GRID * GRID, LAYERS, 1))
    common += rng.normal(0, 1e-3, common.shape).astype(np.float32)
    common /= np.linalg.norm(common, axis=-1, keepdims=True)
    rare = np.tile(np.eye(JOINT, dtype=np.float32)[1], (LAYERS, 1))
    image = np.concatenate([common[1:], rare[None]])
    logits = np.zeros((len(image), LAYERS), np.float32)
    memory = fit_memory([image, common], [logits, logits], patches=8, seed=0)
    assert kept(memory).patch_embeddings.shape == (LAYERS, 8, JOINT)
    assert nearest_distances(rare[:, None], kept(memory).patch_embeddings).item() == pytest.approx(
        0, abs=1e-3
    )


def test_images_that_are_all_alike_leave_a_spread() -> None:
    image = unit(np.random.default_rng(4), GRID * GRID, LAYERS, JOINT)
    logits = np.zeros((GRID * GRID, LAYERS), np.float32)
    memory = fit_memory([image, image], [logits, logits], seed=0)
    assert kept(memory).scale.spread == LEAST_DISTANCE_SPREAD
    assert kept(memory).scale.location == pytest.approx(0, abs=LEAST_DISTANCE_SPREAD)
    assert memory.text.spread > 0


def test_evidence_is_the_sum_of_both_in_units_of_their_spread() -> None:
    rng = np.random.default_rng(5)
    patches, remembered = unit(rng, 2, LAYERS, GRID * GRID, JOINT), unit(rng, LAYERS, 7, JOINT)
    logits = rng.normal(size=(2, LAYERS, GRID, GRID)).astype(np.float32)
    memory = of_patches(remembered, GaussianScale(-4.0, 2.0), GaussianScale(0.3, 0.1))
    distances = nearest_distances(patches, remembered).reshape(2, GRID, GRID)
    expected = -3 + 0.5 * ((logits.mean(axis=1) + 4) / 2 + (distances - 0.3) / 0.1)
    np.testing.assert_allclose(patch_evidence(memory, patches, logits), expected, rtol=1e-5)


def test_the_score_is_the_mean_of_text_and_peak_in_log_odds() -> None:
    evidence = np.full((3, 4, 4), -30, np.float32)
    evidence[:, 1, 2] = log_odds(0.25), 40, -30
    maps, peaks = memory_maps(evidence, image_size=4, blur_sigma=0)
    np.testing.assert_allclose(maps.max(axis=(1, 2)), [0.25, 1, 0], atol=1e-6)
    logits = share_peaks(np.array([2.0, 2.0, 2.0], np.float32), peaks)
    np.testing.assert_allclose(logits, [(2 + log_odds(0.25)) / 2, 9.5, -7.5], rtol=1e-6)


def test_a_peak_near_1_keeps_its_digits() -> None:
    """The map's own value would be 1 - 2e-7 or 1 - 1e-7, log-odds that are 0.5 apart."""
    evidence = np.full((1, 4, 4), 15.6, np.float32)
    _, peaks = memory_maps(evidence, image_size=8, blur_sigma=1.0)
    assert float(peaks[0]) == pytest.approx(15.6, abs=1e-5)


def test_a_detector_with_a_memory_judges_by_both(tmp_path: Path, memory: Memory) -> None:
    bundle = in_force(tmp_path / "bundle", memory)
    detector, frame = Detector(bundle), drawn_frame()
    patches = detector.session(preprocess([frame], image_size=SIDE))["patch_embeddings"]
    alone = detector.with_memory(None)
    text = patches @ detector.stages.directions[0]
    evidence = patch_evidence(memory, patches, text.reshape(1, LAYERS, GRID, GRID))[:, None]
    expected = patches_to_map(evidence, image_size=SIDE, blur_sigma=bundle.manifest.blur_sigma)
    verdict, by_text = detector(frame), alone(frame)
    np.testing.assert_allclose(verdict.anomaly_map, expected[0], atol=1e-6)
    shared = (log_odds(by_text.score) + log_odds(verdict.peak)) / 2
    assert verdict.score == pytest.approx(float(sigmoid(np.float64(shared))), rel=1e-4)
    assert by_text.anomaly_map.tolist() != verdict.anomaly_map.tolist()
    plain = Detector(write_tiny_bundle(tmp_path / "plain", head="embeddings"))(frame)
    np.testing.assert_array_equal(by_text.anomaly_map, plain.anomaly_map)


def test_what_was_saved_is_loaded(tmp_path: Path, memory: Memory) -> None:
    loaded = load_memory(in_force(tmp_path / "bundle", memory))
    assert loaded is not None
    np.testing.assert_array_equal(kept(loaded).patch_embeddings, kept(memory).patch_embeddings)
    assert (loaded.text, kept(loaded).scale) == (memory.text, kept(memory).scale)
    assert load_memory(load_bundle(write_tiny_bundle(tmp_path / "plain"))) is None


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"no archive"), "is not an archive of arrays"),
        (lambda path: np.savez(path, text=np.zeros(2)), "is not an archive of arrays"),
        (
            lambda path: save_memory(
                path, of_patches(ones(1, 4, JOINT), GaussianScale(0, 1), GaussianScale(0, 1))
            ),
            r"must be \(2, ",
        ),
        (
            lambda path: save_memory(
                path, of_patches(ones(2, 4, 5), GaussianScale(0, 1), GaussianScale(0, 1))
            ),
            f"{JOINT}\\) float16",
        ),
        (
            lambda path: save_memory(
                path, of_patches(ones(2, 4, JOINT), GaussianScale(0, 1), GaussianScale(0, 0))
            ),
            "a spread, got",
        ),
        *(
            (
                lambda path, scale=scale: save_memory(
                    path, of_patches(unit_patches(), GaussianScale(0, 1), scale)
                ),
                "a spread, got",
            )
            for scale in (
                GaussianScale(0, 1e300),
                GaussianScale(1e300, 1),
                GaussianScale(0, 1e-50),
            )
        ),
        *(
            (
                lambda path, scale=scale: save_memory(
                    path, of_patches(unit_patches(), GaussianScale(0, 1), scale)
                ),
                "a number in it is not finite",
            )
            for scale in (GaussianScale(np.nan, 1), GaussianScale(0, np.inf))
        ),
        *(
            (
                lambda path, factor=factor: save_memory(
                    path,
                    of_patches(unit_patches() * np.float32(factor), GaussianScale(0, 1), GaussianScale(0, 1)),
                ),
                "must have unit norm, got" if np.isfinite(factor) else "a number in it is not finite",
            )
            for factor in (0, 2)
        ),
        *(
            (lambda path, wrong=wrong: save_memory(path, of_patches(*wrong)), "a number in it is not finite")
            for wrong in (
                (unit_patches(), GaussianScale(np.nan, 1), GaussianScale(0, 1)),
                (unit_patches(), GaussianScale(0, 1), GaussianScale(0, np.inf)),
                (unit_patches() * np.float32(np.nan), GaussianScale(0, 1), GaussianScale(0, 1)),
            )
        ),
        (lambda path: path.write_bytes(damaged_archive()), "is not an archive of arrays"),
    ],
)
def test_a_file_that_is_no_memory_is_refused(
    tmp_path: Path, memory: Memory, write: Callable[[Path], object], message: str
) -> None:
    bundle = in_force(tmp_path / "bundle", memory)
    write(bundle.path / FILE)
    with pytest.raises(ValueError, match=f"{FILE}.*(altered|bytes)"):
        load_bundle(bundle.path)
    with pytest.raises(ValueError, match=f"{message}.*calibrate again"):
        load_memory(bundle)


def test_a_memory_is_a_file_of_a_bundle_that_gives_patches(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    calibration = replace(bundle.manifest.calibration, memory=FILE)
    manifest = replace(bundle.manifest, calibration=calibration)
    with pytest.raises(ValueError, match='calibration.memory must be null unless head is "embeddings"'):
        replace_manifest(bundle, manifest)
    with pytest.raises(ValueError, match="is not among the bundle's files; calibrate again"):
        load_memory(replace(bundle, manifest=manifest))


def overkill(*, leaks: bool) -> float:
    """Share of fresh parts that are rejected, over many calibrations; `leaks` calibrates on remembered parts too."""
    rng, demand, images, remembered = np.random.default_rng(6), Demand(0.01), 40, 20
    rejected = []
    for trial in range(100):
        centre = unit(rng, 1, 1, JOINT)
        parts = unit(rng, images + 50, 4, 1, JOINT) * rng.lognormal(-1, 1, (images + 50, 1, 1, 1)) + centre
        parts = (parts / np.linalg.norm(parts, axis=-1, keepdims=True)).astype(np.float32)
        logits = rng.normal(size=(len(parts), 4, 1)).astype(np.float32)
        memory = fit_memory(list(parts[:remembered]), list(logits[:remembered]), seed=trial)
        evidence = patch_evidence(memory, parts.swapaxes(1, 2), logits.reshape(-1, 1, 2, 2))
        maps, found = memory_maps(evidence, image_size=2, blur_sigma=0)
        scores = sigmoid(share_peaks(np.zeros(len(parts)), found).astype(np.float64))
        peaks = maps.max(axis=(1, 2)).astype(np.float64)
        given = slice(0 if leaks else remembered, images)
        sets_scales = draw_scale_images(len(scores[given]), seed=trial)
        calibrating = len(sets_scales) - scale_images(len(sets_scales))
        rejections = allowed_rejections(calibrating, demand)
        rule = find_rule(scores[given], peaks[given], sets_scales, rejections=rejections, hidden_defects=0)
        fresh = zip(scores[images:].tolist(), peaks[images:].tolist(), strict=True)
        rejected.append(np.mean([rule.is_anomalous(*values) for values in fresh]))
    return float(np.mean(rejected)) * (
        calibrating + 1
    )  # 1 if one in so many is rejected, as exchangeability says


def test_the_promise_holds_beside_the_memory_and_not_on_it() -> None:
    assert overkill(leaks=False) == pytest.approx(1, abs=0.25)
    assert overkill(leaks=True) > 1.5
