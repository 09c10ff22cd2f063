"""Turn what the graph returns into log-odds and maps, whichever head it was exported with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from acl_runtime.bundle.bundle import ANOMALOUS, NORMAL
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.errors import BackendError, BundleError
from acl_runtime.scoring.maps import patches_to_map, upsample
from acl_runtime.scoring.memory import IGNORED, Memory, memory_maps, patch_evidence, share_peaks
from acl_runtime.scoring.windows import windows_to_patches

Answers = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""`image_logits` (B,), log-odds, and `anomaly_maps` (B, S, S) in [0, 1]."""


class NotFiniteError(BackendError):
    """Some of what the graph returned, or of what follows from it, is nan or infinite."""


def defect_directions(vectors: np.ndarray, *, temperature: float) -> npt.NDArray[np.float32]:
    """The vectors whose dot products with embeddings are log-odds of a defect.

    The softmax of two classes is the sigmoid of their difference: (t_anomalous - t_normal) / temperature.

    Args:
        vectors: (H, 2, D) float32, unit rows NORMAL, ANOMALOUS; see `load_text_embeddings`.
        temperature: Divisor of the cosines.

    Returns:
        (H, D) float32: one for all; or for images, or each layer's class token, first, then for each layer's patches.

    Raises:
        BundleError: They are not finite.
    """
    difference = vectors[:, ANOMALOUS].astype(np.float64) - vectors[:, NORMAL]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        directions = np.asarray(difference / temperature, np.float32)
    if not np.isfinite(directions).all():
        raise BundleError(
            f"temperature {temperature:g} and the text embeddings give log-odds that are not finite; export the bundle "
            "again"
        )
    return directions


def of_patches(directions: np.ndarray, layers: int) -> np.ndarray:
    """The directions that patches of so many layers are compared with: the last L of (H, D), and the one of (1, D)."""
    return directions[-layers:]


def of_images(directions: np.ndarray, layers: int) -> np.ndarray:
    """What an image's class tokens, one after the other, are compared with: (D,), or (L·D,) for the layers' mean."""
    tokens = max(1, len(directions) - layers)
    return np.asarray(directions[:tokens] / np.float32(tokens), np.float32).reshape(-1)


def read_head(
    outputs: Mapping[str, np.ndarray],
    manifest: Manifest,
    directions: np.ndarray,
    memory: Memory | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Answers:
    """The answers of whichever head the outputs are of, given `defect_directions`.

    With a memory of good parts text and memory answer together; a graph with head "map" that holds the memory has done
    so itself.

    Args:
        outputs: Of the graph, or of a session that gives those of both heads.
        manifest: Of the bundle.
        directions: See `defect_directions`.
        memory: Of good parts; None for the text alone.
        ignored: (B, G, G) patches that do not count for a memory; None where all do.

    Raises:
        NotFiniteError: An answer, or what it rests on, is nan or infinite.
        BackendError: The outputs are others than the manifest's.
    """
    if memory is not None and ("patch_embeddings" in outputs or manifest.graph_memory is None):
        return read_with_memory(outputs, manifest, directions, memory, ignored)
    if "anomaly_maps" in outputs or manifest.head == "map":
        return read_map_head(outputs, manifest)
    return read_embeddings_head(outputs, manifest, directions)


def read_map_head(outputs: Mapping[str, np.ndarray], manifest: Manifest) -> Answers:
    """The answers of a graph with head "map", checked."""
    maps = _output(outputs, "anomaly_maps", (manifest.image_size, manifest.image_size))
    return _output(outputs, "image_logits", ()), np.clip(maps, 0, 1)


def read_embeddings_head(
    outputs: Mapping[str, np.ndarray], manifest: Manifest, directions: np.ndarray
) -> Answers:
    """The answers of a graph with head "embeddings", given `defect_directions`."""
    image_logits, patch_logits, _ = read_embeddings(outputs, manifest, directions)
    size, grid, blur_sigma = manifest.image_size, manifest.grid, manifest.blur_sigma
    if manifest.windows:
        patches = windows_to_patches(patch_logits[:, 0], image_logits, grid=grid, windows=manifest.windows)
        return image_logits, upsample(patches, image_size=size, blur_sigma=blur_sigma)
    patch_logits = patch_logits.reshape(*patch_logits.shape[:2], grid, grid)
    return image_logits, patches_to_map(patch_logits, image_size=size, blur_sigma=blur_sigma)


def read_with_memory(
    outputs: Mapping[str, np.ndarray],
    manifest: Manifest,
    directions: np.ndarray,
    memory: Memory,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Answers:
    """The answers of text and memory together to a graph with head "embeddings"; not of windows."""
    image_logits, patch_logits, patch_embeddings = read_embeddings(outputs, manifest, directions)
    patch_logits = patch_logits.reshape(*patch_logits.shape[:2], manifest.grid, manifest.grid)
    evidence = patch_evidence(memory, patch_embeddings, patch_logits)  # (B, G, G)
    if ignored is not None:
        evidence = np.where(ignored, np.float32(IGNORED), evidence)
    _check_finite("the patches' log-odds by text and memory", evidence)
    maps, peaks = memory_maps(evidence, image_size=manifest.image_size, blur_sigma=manifest.blur_sigma)
    return share_peaks(image_logits, peaks), maps


def read_embeddings(
    outputs: Mapping[str, np.ndarray], manifest: Manifest, directions: np.ndarray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the text says to a graph with head "embeddings", and the patches it says it about.

    Returns:
        `image_logits` (B,), `patch_logits` (B, L, G·G) and `patch_embeddings` (B, L, G·G, D), with M windows (B, 1, M)
        and (B, 1, M, D).
    """
    grid, joint = manifest.grid, directions.shape[-1]
    rows = sum((grid - side + 1) ** 2 for side in manifest.windows) or grid * grid
    layers = 1 if manifest.windows else len(manifest.layers)
    each = of_images(directions, layers)
    tokens = len(each) // joint
    images = _output(outputs, "image_embeddings", (joint,) if tokens == 1 else (tokens, joint))
    patch_embeddings = _output(outputs, "patch_embeddings", (layers, rows, joint))
    with np.errstate(over="ignore", invalid="ignore"):
        patch_logits = (patch_embeddings @ of_patches(directions, layers)[:, :, None])[..., 0]
        image_logits = images.reshape(len(images), -1) @ each
    _check_finite("the image's log-odds", image_logits)
    _check_finite("the patches' log-odds", patch_logits)
    return image_logits, patch_logits, patch_embeddings


def _output(outputs: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An output as float32, (B, *shape), finite: a broken graph must not pass for a good product."""
    if name not in outputs:
        raise BackendError(f"graph must return {name}, got {', '.join(outputs)}; export the bundle again")
    array = outputs[name]
    if array.shape[1:] != shape:
        wanted = ", ".join(["batch", *map(str, shape)])
        raise BackendError(f"{name} must be ({wanted}), got {array.shape}; export the bundle again")
    _check_finite(name, array)
    return array.astype(np.float32, copy=False)


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise NotFiniteError(f"{name} must be finite, got nan or infinity; export with higher precision")
