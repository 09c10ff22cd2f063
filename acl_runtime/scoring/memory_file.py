"""A memory of good parts as a file of a bundle, and its checks.

An archive of arrays. Version 2 holds `format` [2], `text` (location, spread), and of each kind that judges:

    patches   patch_embeddings (L, M, D) float16, distance (location, spread)
    subspace  mean (L, D), directions (L, D, R) float32, outside (location, spread)
    place     place_log_odds (G, G) float32, place (location, spread)

and the statistics that it is fitted to, see `calibration/memory_statistics.py`. Version 1 had no `format`, and nearest
patches alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from acl_runtime.bundle.bundle import Bundle, calibration_file, load_text_embeddings
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.arrays import list_arrays, read_arrays
from acl_runtime.files.errors import BundleError
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_kinds import GaussianScale, NearestPatches, PlaceMean, Subspace

REMEDY = "calibrate again"
FORMAT_VERSION = 2
FARTHEST = 1e6  # of a scale's location, and of a spread and its inverse: nothing that is measured comes near
UNIT_NORM = 0.01  # from 1, for vectors that were rounded to float16
ORTHONORMAL = 1e-3  # largest error of a product of two directions
OF_KIND = {
    "patches": ("patch_embeddings", "distance"),
    "subspace": ("mean", "directions", "outside"),
    "place": ("place_log_odds", "place"),
}


def load_memory(bundle: Bundle) -> Memory | None:
    """Return the memory that a bundle judges with; None where the text judges alone."""
    name = bundle.manifest.memory_file
    if name is None:
        return None
    joint = load_text_embeddings(bundle).shape[-1]
    path = bundle.path / name if name == bundle.manifest.graph_memory else calibration_file(bundle, name)
    return read_memory(path, bundle.manifest, joint)


def read_memory(path: Path, manifest: Manifest, joint: int) -> Memory:
    """Return the memory of a file, for patches as a manifest describes them.

    Args:
        path: The file.
        manifest: Of the bundle that is to judge with it.
        joint: Dimension D of its patches.

    Raises:
        BundleError: It is none, or of patches of another shape.
    """
    held = list_arrays(path, remedy=REMEDY)
    if "format" in held:
        (version,) = read_arrays(path, ("format",), remedy=REMEDY)
        if version.tolist() != [FORMAT_VERSION]:
            raise BundleError(
                f"{path}: is of format version {version.tolist()}, not {FORMAT_VERSION}; {REMEDY}"
            )
    kinds = [kind for kind, names in OF_KIND.items() if set(names) <= held] or ["patches"]
    names = ("text", *(name for kind in kinds for name in OF_KIND[kind]))
    arrays = dict(zip(names, read_arrays(path, names, remedy=REMEDY), strict=True))
    layers, grid = len(manifest.layers), manifest.grid
    return Memory(
        text=_scale(path, arrays["text"]),
        nearest=_nearest(path, arrays, layers, joint) if "patches" in kinds else None,
        subspace=_subspace(path, arrays, layers, joint) if "subspace" in kinds else None,
        place=_place(path, arrays, grid) if "place" in kinds else None,
    )


def memory_arrays(memory: Memory) -> dict[str, np.ndarray]:
    """Return a memory as the arrays of its file."""
    arrays = {"format": np.array([FORMAT_VERSION]), "text": _pair(memory.text)}
    if memory.nearest is not None:
        patches = memory.nearest.patch_embeddings.astype(np.float16)
        arrays |= {"patch_embeddings": patches, "distance": _pair(memory.nearest.scale)}
    if memory.subspace is not None:
        arrays |= {"mean": memory.subspace.mean, "directions": memory.subspace.directions}
        arrays |= {"outside": _pair(memory.subspace.scale)}
    if memory.place is not None:
        arrays |= {"place_log_odds": memory.place.log_odds, "place": _pair(memory.place.scale)}
    return arrays


def _pair(scale: GaussianScale) -> np.ndarray:
    return np.array([scale.location, scale.spread])


def _scale(path: Path, pair: np.ndarray) -> GaussianScale:
    is_scale = pair.shape == (2,) and pair.dtype.kind in "fiu"
    if not is_scale or not (abs(pair[0]) <= FARTHEST and 1 / FARTHEST <= pair[1] <= FARTHEST):
        raise BundleError(f"{path}: scales must be a location and a spread, got {pair}; {REMEDY}")
    return GaussianScale(*pair.tolist())


def _nearest(path: Path, arrays: Mapping[str, np.ndarray], layers: int, joint: int) -> NearestPatches:
    patches, pair = (arrays[name] for name in OF_KIND["patches"])
    if (
        patches.dtype != np.float16
        or patches.ndim != 3
        or patches.shape[::2] != (layers, joint)
        or not patches.size
    ):
        got = f"{patches.shape} {patches.dtype}"
        raise BundleError(
            f"{path}: patch_embeddings must be ({layers}, patches, {joint}) float16, got {got}; {REMEDY}"
        )
    scale = _scale(path, pair)
    norms = np.linalg.norm(patches.astype(np.float32), axis=-1)
    if not (np.abs(norms - 1) < UNIT_NORM).all():  # false for nan too
        raise BundleError(
            f"{path}: patch_embeddings must have unit norm, got {norms.min():.3g} to {norms.max():.3g}; {REMEDY}"
        )
    return NearestPatches(patches.astype(np.float32), scale)


def _subspace(path: Path, arrays: Mapping[str, np.ndarray], layers: int, joint: int) -> Subspace:
    mean, directions, pair = (arrays[name] for name in OF_KIND["subspace"])
    are_shaped = mean.shape == (layers, joint) and directions.shape[:2] == (layers, joint)
    if not are_shaped or directions.ndim != 3 or {mean.dtype, directions.dtype} != {np.dtype(np.float32)}:
        got = f"{mean.shape} {mean.dtype} and {directions.shape} {directions.dtype}"
        raise BundleError(
            f"{path}: mean and directions must be ({layers}, {joint}) and ({layers}, {joint}, directions) float32, got "
            f"{got}; {REMEDY}"
        )
    products = directions.swapaxes(1, 2) @ directions  # (L, R, R)
    lengths = np.einsum("lrr->lr", products)
    expected = np.where(lengths > 1 / 2, 1, 0)[..., None] * np.eye(directions.shape[2])
    if (
        not (np.abs(products - expected) < ORTHONORMAL).all()
        or not (np.linalg.norm(mean, axis=1) < 1 + UNIT_NORM).all()
    ):
        raise BundleError(
            f"{path}: directions must be orthonormal and means no longer than patches; {REMEDY}"
        )
    return Subspace(mean, directions, _scale(path, pair))


def _place(path: Path, arrays: Mapping[str, np.ndarray], grid: int) -> PlaceMean:
    means, pair = (arrays[name] for name in OF_KIND["place"])
    if means.shape != (grid, grid) or means.dtype != np.float32 or not (np.abs(means) <= FARTHEST).all():
        raise BundleError(
            f"{path}: place_log_odds must be ({grid}, {grid}) float32 within {FARTHEST:g}, got {means.shape} "
            f"{means.dtype}; {REMEDY}"
        )
    return PlaceMean(means, _scale(path, pair))
