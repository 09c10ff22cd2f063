"""What the numbers of a manifest may be: beyond these limits nothing sensible is computed, or memory runs out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from acl_runtime.files.errors import BundleError

if TYPE_CHECKING:
    from acl_runtime.bundle.manifest import Manifest

MOST_PIXELS = 1 << 16  # a side of a frame, of a tile or of an embedding
MOST_LAYERS = 256  # more layers or windows than any network is read out at
RANGES = {  # least and most of every number that decides; beyond them nothing sensible is computed
    "opset": (1, 100),
    "image_size": (1, 4096),
    "grid": (1, 1024),
    "vv_from": (1, 1025),
    "temperature": (1e-4, 1e3),
    "blur_sigma": (0, 4096),
    "max_batch": (1, 1024),
    "width": (1, MOST_PIXELS),
    "blocks": (1, 1024),
    "heads": (1, 1024),
    "text_heads": (1, 1024),
    "layers": (1, 1024),
    "score_threshold": (0, 1),
    "map_threshold": (0, 1),
    "region_threshold": (0, 1),
    "tile": (1, MOST_PIXELS),
    "overlap": (0, MOST_PIXELS),
    "min_defect": (1, MOST_PIXELS),
    "mean": (-1e3, 1e3),
    "std": (1e-3, 1e3),
    "bytes": (0, 1 << 50),
    "image_logits": (0, 1e3),
    "anomaly_map": (0, 1),
    "tolerance": (0, 1),
}
COMPARED = {"image_logits", "anomaly_map"}  # what an engine, or a server, must get as torch does
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_limits(manifest: Manifest) -> None:
    """Raise BundleError unless every number lies within its limits, and what belongs together fits."""
    for name, value in _numbers(manifest):
        least, most = RANGES[name.rpartition(".")[2]]
        if value is not None and not least <= value <= most:
            got = f"{value:g}" if abs(value) < 1e308 else "a larger number than can be shown"
            raise BundleError(f"{name} must lie in {least:g}..{most:g}, got {got}")
    if manifest.blur_sigma > manifest.image_size:
        raise BundleError(
            f"blur_sigma must lie in 0..{manifest.image_size} (image_size), got {manifest.blur_sigma}"
        )
    if manifest.grid > manifest.image_size:
        raise BundleError(f"grid must lie in 1..{manifest.image_size} (image_size), got {manifest.grid}")
    _check_lists(manifest)
    if missing := {"recipe", "sha256"} - manifest.prompts.keys():
        raise BundleError(f"prompts lacks the key {min(missing)!r}")
    for name, record in manifest.files.items():
        if not _SHA256.fullmatch(record.sha256):
            raise BundleError(
                f"files: the sha256 of {name!r} must be 64 hexadecimal digits, got {record.sha256!r}"
            )
    _check_tolerances(manifest)
    _check_memory(manifest)
    _check_tensors(manifest)


def _check_lists(manifest: Manifest) -> None:
    from acl_runtime.bundle.manifest import FUSED, QUANTIZED, Arithmetic  # which imports this module

    on_request = (*QUANTIZED, FUSED)
    if manifest.precision in on_request:
        own = ", ".join(f'"{each}"' for each in get_args(Arithmetic) if each not in on_request)
        raise BundleError(f'precision must be one of {own}, got "{manifest.precision}"')
    arithmetics = (*manifest.arithmetics(), *manifest.on_request)
    if len(set(arithmetics)) != len(arithmetics):
        raise BundleError(f"ladder must not name an arithmetic twice, got {', '.join(arithmetics)}")
    if any(not 1 <= side <= manifest.grid for side in manifest.windows):
        raise BundleError(f"windows must lie in 1..{manifest.grid} (the grid), got {list(manifest.windows)}")
    if not manifest.layers:
        raise BundleError("layers must name at least one block, got []")
    for key in ("layers", "windows"):
        if (count := len(getattr(manifest, key))) > MOST_LAYERS:
            raise BundleError(f"{key} must be at most {MOST_LAYERS}, got {count}")
    for key in ("mean", "std"):
        if (count := len(getattr(manifest.preprocessing, key))) != 3:
            raise BundleError(f"preprocessing.{key} must be 3 numbers, one a channel, got {count}")


def _numbers(manifest: Manifest) -> Iterator[tuple[str, float | None]]:
    """Every number that decides something, with the name of its key; `RANGES` has its bounds."""
    calibration, backbone = manifest.calibration, manifest.backbone
    for key in ("opset", "image_size", "grid", "vv_from", "temperature", "blur_sigma", "max_batch"):
        yield key, getattr(manifest, key)
    for key in ("width", "blocks", "heads", "text_heads"):
        yield f"backbone.{key}", getattr(backbone, key)
    for key in ("score_threshold", "map_threshold", "region_threshold"):
        yield f"calibration.{key}", getattr(calibration, key)
    for key in ("tile", "overlap", "min_defect") if calibration.tiling else ():
        value = getattr(calibration.tiling, key)
        yield f"calibration.tiling.{key}", None if isinstance(value, str) else value
    yield from (("layers", layer) for layer in manifest.layers)
    yield from (("mean", value) for value in manifest.preprocessing.mean)
    yield from (("std", value) for value in manifest.preprocessing.std)
    yield from (("bytes", record.bytes) for record in manifest.files.values())
    for parity in (manifest.parity, *(step.parity for step in manifest.ladder)):
        yield "parity.image_logits", parity.image_logits
        yield "parity.anomaly_map", parity.anomaly_map
        yield from (("tolerance", limit) for limit in parity.tolerance.values())


def _check_tolerances(manifest: Manifest) -> None:
    """What is not named would be compared with nothing, and hold whatever came out."""
    for parity in (manifest.parity, *(step.parity for step in manifest.ladder)):
        if parity.tolerance.keys() != COMPARED:
            got = ", ".join(sorted(parity.tolerance)) or "nothing"
            raise BundleError(f"tolerance must name {' and '.join(sorted(COMPARED))}, got {got}")


def _check_tensors(manifest: Manifest) -> None:
    """What goes in and out of the graph is what the head and the sizes say."""
    graph, size = manifest.graph, manifest.image_size
    frames = graph.inputs[0].shape if len(graph.inputs) == 1 else ()
    if len(frames) != 4 or not all(type(side) is int for side in frames[1:]) or frames[3] != 3:
        raise BundleError(f"graph.inputs must be frames (batch, height, width, 3), got {list(frames)}")
    if manifest.preprocessing.resize == "in the graph":
        if not all(0 < int(side) <= MOST_PIXELS for side in frames[1:3]):
            raise BundleError(
                f"graph.inputs must be frames of up to {MOST_PIXELS} pixels a side, got {list(frames)}"
            )
        if manifest.calibration.tiling is not None:
            raise BundleError("calibration.tiling must be null where the graph takes whole frames")
    elif frames[1:3] != (size, size):
        raise BundleError(f"graph.inputs must be images of {size} x {size} (image_size), got {list(frames)}")
    names = (
        ("image_logits", "anomaly_maps")
        if manifest.head == "map"
        else ("image_embeddings", "patch_embeddings")
    )
    if tuple(tensor.name for tensor in graph.outputs) != names:
        raise BundleError(f'graph.outputs must be {" and ".join(names)}, as head "{manifest.head}" gives')
    shapes = tuple(tensor.shape[1:] for tensor in graph.outputs)
    joint = shapes[0][-1] if shapes[0] else 0
    windows = sum((manifest.grid - side + 1) ** 2 for side in manifest.windows)
    patches = (1, windows) if windows else (len(manifest.layers), manifest.grid**2)
    tokens = (len(manifest.layers), joint) if len(shapes[0]) == 2 else (joint,)  # a class token of each layer
    expected = ((), (size, size)) if manifest.head == "map" else (tokens, (*patches, joint))
    if shapes != expected or not (
        manifest.head == "map" or (type(joint) is int and 0 < joint <= MOST_PIXELS)
    ):
        raise BundleError(f"graph.outputs must have the shapes {expected} for each image, got {shapes}")


def _check_memory(manifest: Manifest) -> None:
    if manifest.memory_file is not None and manifest.windows:
        key = "graph_memory" if manifest.calibration.memory is None else "calibration.memory"
        raise BundleError(f"{key} must be null where windows stand for patches")
    if manifest.graph_memory is not None and manifest.head != "map":
        raise BundleError(f'graph_memory must be null unless head is "map", got head "{manifest.head}"')
    if manifest.graph_memory is not None and manifest.calibration.ignore is not None:
        raise BundleError("calibration.ignore must be null where the graph holds a memory")
    if manifest.calibration.memory is not None and manifest.head != "embeddings":
        raise BundleError(
            f'calibration.memory must be null unless head is "embeddings", got head "{manifest.head}"'
        )
