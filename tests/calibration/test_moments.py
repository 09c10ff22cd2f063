"""Moments are added up, merged and updated, and end where all vectors at once would."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from graphs import GRID, JOINT, LAYERS, write_tiny_bundle

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.memory_fit import Shown, fit_memory, make_memory
from acl_runtime.calibration.memory_statistics import (
    Statistics,
    network_digest,
    read_statistics,
    save_memory,
)
from acl_runtime.calibration.moments import (
    Sum,
    add_up,
    exact,
    leading_directions,
    measure_moments,
    measure_spread,
)
from acl_runtime.files.errors import BundleError
from acl_runtime.scoring.memory_kinds import outside_distances


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape) * np.linspace(1, 0.1, shape[-1])  # some directions lead
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def drawn(rng: np.random.Generator, images: int) -> list[Shown]:
    counted = np.ones(GRID * GRID, np.bool_)
    return [
        Shown(
            unit(rng, GRID * GRID, LAYERS, JOINT),
            rng.normal(size=(GRID * GRID, LAYERS)).astype(np.float32),
            counted,
        )
        for _ in range(images)
    ]


def fitted(images: list[Shown], subject: str = "ab" * 32) -> Statistics:
    found = fit_memory(images, places=GRID * GRID, subject=subject, seed=0).statistics
    return replace(found, digests=frozenset({f"{id(images):064x}"}))


def test_merged_moments_are_those_of_all_vectors_at_once() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng, 600, LAYERS, JOINT)
    merged = add_up([measure_moments(part) for part in np.array_split(vectors, 7)])
    whole = measure_moments(vectors)
    for ours, theirs in ((merged.total, whole.total), (merged.products, whole.products)):
        np.testing.assert_allclose(ours.value, theirs.value, rtol=0, atol=1e-9)
    (mean, directions), (mean_whole, directions_whole) = map(leading_directions, (merged, whole))
    patches = unit(rng, LAYERS, 50, JOINT)
    np.testing.assert_allclose(
        outside_distances(patches, mean, directions),
        outside_distances(patches, mean_whole, directions_whole),
        atol=1e-6,
    )


def test_a_year_of_updates_does_not_drift() -> None:
    """8,760 updates, an hour each, of a line with a part a second; the exact sum is that of fractions."""
    rng = np.random.default_rng(1)
    hours = rng.uniform(-1, 1, (8760, 4)) * 3600 * 196
    total, plain = Sum(np.zeros(4), np.zeros(4)), np.zeros(4, np.float32)
    for hour in hours:
        total, plain = total + exact(hour), plain + hour.astype(np.float32)
    expected = [float(sum(map(Fraction, column))) for column in hours.T.tolist()]
    np.testing.assert_allclose(total.value, expected, rtol=1e-15)
    assert np.abs(plain / expected - 1).max() > 1e-7  # float32 would


def test_directions_are_the_eigenvectors_that_hold_the_variance() -> None:
    rng = np.random.default_rng(2)
    vectors = (rng.normal(size=(4000, 1, 5)) * [3, 2, 0.1, 0.1, 0.01] + 1).astype(np.float32)
    mean, directions = leading_directions(measure_moments(vectors), explained=0.99)
    np.testing.assert_allclose(mean[0], vectors[:, 0].mean(axis=0), atol=1e-5)
    assert directions.shape == (1, 5, 2)
    np.testing.assert_allclose(np.abs(directions[0]), np.eye(5)[:, :2], atol=0.1)
    inside = np.array([[[1, 1, 1, 1, 1], [4, 5, 1, 1, 1]]], np.float32)
    axes = np.eye(5, dtype=np.float32)[None, :, :2]
    np.testing.assert_allclose(outside_distances(inside, mean, axes), 0, atol=1e-3)
    outside = np.array([[[1, 1, 3, 1, 1]]], np.float32)
    assert outside_distances(outside, mean, directions).item() == pytest.approx(4, rel=0.1)


def test_each_layer_has_as_many_directions_as_it_needs_and_something_is_always_left_outside() -> None:
    rng = np.random.default_rng(3)
    line = np.stack([rng.normal(size=200), np.zeros(200), np.zeros(200)], axis=1)
    vectors = np.stack([line, rng.normal(size=(200, 3))], axis=1).astype(np.float32)  # (P, 2, 3)
    _, directions = leading_directions(measure_moments(vectors))
    assert directions.shape == (2, 3, 2)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), [[1, 0], [1, 1]], atol=1e-6)
    alike = np.ones((4, 1, 3), np.float32)
    assert leading_directions(measure_moments(alike))[1].shape == (1, 3, 1)


def test_spreads_are_put_together_exactly() -> None:
    values = np.random.default_rng(4).normal(5, 2, 1000)
    parts = [measure_spread(part) for part in np.split(values, [10, 400])]
    total = parts[0] + parts[1] + parts[2]
    assert total.count == 1000
    assert total.mean == pytest.approx(values.mean(), rel=1e-12)
    assert total.deviation == pytest.approx(values.std(), rel=1e-12)


def test_statistics_of_two_machines_are_those_of_all_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    images = drawn(rng, 9)
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head="embeddings"))
    subject = network_digest(bundle.manifest)
    parts = [fitted(images[:4], subject), fitted(images[4:], subject)]
    for number, part in enumerate(parts):
        save_memory(tmp_path / f"{number}.npz", make_memory(("subspace", "place"), part), part)
    read = [read_statistics(tmp_path / f"{number}.npz", bundle) for number in range(2)]
    merged, whole = read[0] + read[1], fitted(images, subject)
    assert (merged.images, merged.moments.count) == (9, 9 * GRID * GRID)
    assert merged.digests == parts[0].digests | parts[1].digests
    ours, theirs = (make_memory(("subspace", "place"), each) for each in (merged, whole))
    assert ours.place is not None
    assert theirs.place is not None
    assert ours.subspace is not None
    assert theirs.subspace is not None
    np.testing.assert_allclose(ours.place.log_odds, theirs.place.log_odds, atol=1e-6)
    np.testing.assert_allclose(ours.text.location, theirs.text.location, atol=1e-6)
    patches = unit(rng, LAYERS, 50, JOINT)
    far, far_whole = (
        outside_distances(patches, each.mean, each.directions) for each in (ours.subspace, theirs.subspace)
    )
    np.testing.assert_allclose(far, far_whole, atol=1e-6)


@pytest.mark.parametrize("column", [0, 2])
def test_statistics_with_a_count_or_squares_below_zero_are_refused(column: int, tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head="embeddings"))
    part = fitted(drawn(np.random.default_rng(5), 4), network_digest(bundle.manifest))
    save_memory(tmp_path / "memory.npz", make_memory(("subspace",), part), part)
    arrays = dict(np.load(tmp_path / "memory.npz"))
    arrays["spreads"][1, column] = -3
    np.savez(tmp_path / "memory.npz", **arrays)
    with pytest.raises(
        BundleError, match=r"memory\.npz: statistics count numbers and sum squares, none is below 0"
    ):
        read_statistics(tmp_path / "memory.npz", bundle)


def test_a_memory_of_another_network_is_refused(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head="embeddings"))
    other = fitted(drawn(np.random.default_rng(6), 4))
    save_memory(tmp_path / "other.npz", make_memory(("subspace",), other), other)
    with pytest.raises(
        ValueError, match=r"other\.npz: is of another network or other prompts \(abababababab\)"
    ):
        read_statistics(tmp_path / "other.npz", bundle)
    prompts = bundle.manifest.prompts
    of_nuts, of_bolts = (
        network_digest(replace(bundle.manifest, prompts=prompts | {"category": name}))
        for name in ("nut", "bolt")
    )
    assert len({of_nuts, of_bolts, network_digest(bundle.manifest)}) == 3  # the sentences name the product
    backbone = replace(bundle.manifest.backbone, weights_sha256="1" * 64)
    assert network_digest(replace(bundle.manifest, backbone=backbone)) != network_digest(bundle.manifest)
    with pytest.raises(ValueError, match="statistics must be of one network"):
        other + replace(other, subject="cd" * 32)
