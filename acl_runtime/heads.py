"""Turn what the graph returns into log-odds and maps, whichever head it was exported with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from acl_runtime.bundle import ANOMALOUS, NORMAL
from acl_runtime.manifest import Manifest
from acl_runtime.maps import patches_to_map
from acl_runtime.memory import Memory, patch_evidence, share_peaks

Session = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""What runs a graph: its input, see `Preprocessing`, to its outputs by name."""

Answers = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""`image_logits` (B,), log-odds, and `anomaly_maps` (B, S, S) in [0, 1]."""


def defect_direction(text_embeddings: np.ndarray, *, temperature: float) -> npt.NDArray[np.float32]:
    """The one vector whose dot product with an embedding is its log-odds of a defect.

    The softmax of two classes is the sigmoid of their difference: (t_anomalous - t_normal) / temperature.

    Args:
        text_embeddings: (2, D) float32, unit rows NORMAL, ANOMALOUS.
        temperature: Divisor of the cosines.

    Returns:
        (D,) float32.
    """
    difference = text_embeddings[ANOMALOUS].astype(np.float64) - text_embeddings[NORMAL]
    return np.asarray(difference / temperature, np.float32)


def read_head(
    outputs: Mapping[str, np.ndarray], manifest: Manifest, direction: np.ndarray, memory: Memory | None = None
) -> Answers:
    """The answers of whichever head the outputs are of, given the prompts' direction, (D,) float32.

    With a memory of good parts the head must be "embeddings", and text and memory answer together.
    """
    if memory is not None:
        return read_with_memory(outputs, manifest, direction, memory)
    if "anomaly_maps" in outputs or manifest.head == "map":
        return read_map_head(outputs, manifest)
    return read_embeddings_head(outputs, manifest, direction)


def read_map_head(outputs: Mapping[str, np.ndarray], manifest: Manifest) -> Answers:
    """The answers of a graph with head "map", checked."""
    maps = _output(outputs, "anomaly_maps", (manifest.image_size, manifest.image_size))
    return _output(outputs, "image_logits", ()), np.clip(maps, 0, 1)


def read_embeddings_head(
    outputs: Mapping[str, np.ndarray], manifest: Manifest, direction: np.ndarray
) -> Answers:
    """The answers of a graph with head "embeddings", given the prompts' direction, (D,) float32."""
    image_logits, patch_logits, _ = read_embeddings(outputs, manifest, direction)
    maps = patches_to_map(patch_logits, image_size=manifest.image_size, blur_sigma=manifest.blur_sigma)
    return image_logits, maps


def read_with_memory(
    outputs: Mapping[str, np.ndarray], manifest: Manifest, direction: np.ndarray, memory: Memory
) -> Answers:
    """The answers of text and memory together to a graph with head "embeddings"."""
    image_logits, patch_logits, patch_embeddings = read_embeddings(outputs, manifest, direction)
    evidence = patch_evidence(memory, patch_embeddings, patch_logits)[:, None]  # (B, 1, G, G)
    maps = patches_to_map(evidence, image_size=manifest.image_size, blur_sigma=manifest.blur_sigma)
    return share_peaks(image_logits, maps), maps


def read_embeddings(
    outputs: Mapping[str, np.ndarray], manifest: Manifest, direction: np.ndarray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the text says to a graph with head "embeddings", and the patches it says it about.

    Returns:
        `image_logits` (B,), `patch_logits` (B, L, G, G) and `patch_embeddings` (B, L, G·G, D).
    """
    grid, layers = manifest.grid, len(manifest.layers)
    joint = len(direction)
    image_embeddings = _output(outputs, "image_embeddings", (joint,))
    patch_embeddings = _output(outputs, "patch_embeddings", (layers, grid * grid, joint))
    patch_logits = (patch_embeddings @ direction).reshape(-1, layers, grid, grid)
    return image_embeddings @ direction, patch_logits, patch_embeddings


def _output(outputs: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An output as float32, (B, *shape), finite: a broken graph must not pass for a good product."""
    if name not in outputs:
        raise RuntimeError(f"graph must return {name}, got {', '.join(outputs)}; export the bundle again")
    array = outputs[name]
    if array.shape[1:] != shape:
        wanted = ", ".join(["batch", *map(str, shape)])
        raise RuntimeError(f"{name} must be ({wanted}), got {array.shape}; export the bundle again")
    if not np.isfinite(array).all():
        raise RuntimeError(f"{name} must be finite, got nan or infinity; export with higher precision")
    return array.astype(np.float32, copy=False)
