"""What a manifest says, in words for people."""

from __future__ import annotations

from acl_runtime.bundle.manifest import Backbone, Manifest, Parity, Tiling


def tiling_words(tiling: Tiling | None) -> str:
    """How frames are cut."""
    if tiling is None:
        return "each squashed whole"
    overlap = "a quarter" if tiling.overlap is None else f"{tiling.overlap} pixels"
    tile = f"of {tiling.tile} pixels" if isinstance(tiling.tile, int) else "chosen by the frame's size"
    defect = f", for defects from {tiling.min_defect} pixels" if tiling.min_defect is not None else ""
    return f"cut into tiles {tile} that share {overlap}{defect}"


def input_words(manifest: Manifest) -> str:
    """What the graph takes."""
    network = f"{manifest.image_size} x {manifest.image_size} pixels"
    if manifest.frame_size is not None:
        height, width = manifest.frame_size
        network = f"frames of {width} x {height} pixels, which the graph resizes to {network}"
    return f"{network}, up to {manifest.max_batch} at once"


def network_words(manifest: Manifest) -> str:
    """Which of the networks of its shape the backbone is, and what says so."""
    backbone = manifest.backbone
    if backbone.quick_gelu is None:
        return "not recorded by the version that made the bundle"
    words = activation_words(backbone)
    if backbone.heads is None:
        words += ", heads not recorded by the version that made the bundle"
    elif backbone.text_heads is None:
        words += f", {backbone.heads} heads, no text tower"
    else:
        words += f", {backbone.heads} heads, {backbone.text_heads} in the text tower"
    return f"{words} ({backbone.basis})" if backbone.basis else words


def activation_words(backbone: Backbone) -> str:
    """Of the vision tower."""
    if backbone.name.startswith("timm:"):
        return "activation as timm has it"
    return "QuickGELU" if backbone.quick_gelu else "GELU"


def normalisation_words(manifest: Manifest) -> str:
    """What is done to the pixels inside the graph."""
    steps = manifest.preprocessing
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (steps.mean, steps.std))
    return f"mean {mean}, standard deviation {std}, of red, green and blue in 0..1"


def map_words(manifest: Manifest) -> str:
    """Where the map comes from."""
    grid = f"a {manifest.grid} x {manifest.grid} grid"
    if manifest.windows:
        return f"windows of {' and '.join(map(str, manifest.windows))} patches on {grid}"
    return f"layers {', '.join(map(str, manifest.layers))} on {grid}"


def prompts_words(manifest: Manifest) -> str:
    """Which prompts the bundle has; bundles older than the methods have those of AnomalyCLIP."""
    prompts = manifest.prompts
    named = f" of {prompts['category']}" if "category" in prompts else ""
    if prompts.get("learns") == "vectors":
        named += ", vectors per layer" if prompts.get("class_tokens") else ", decoupled vectors"
    return f"{prompts.get('method', 'anomalyclip')}{named}, recipe {prompts['recipe']}, sha256 {prompts['sha256'][:12]}"


def memory_words(manifest: Manifest) -> str:
    """Whether good parts are remembered."""
    if manifest.memory_file is None:
        return "none, the text judges alone"
    where = f"{manifest.memory_file}, in the graph too" if manifest.graph_memory else manifest.memory_file
    return f"good parts ({where}), which judge with the text"


def parity_words(parity: Parity) -> str:
    """How close a graph is to torch."""
    return (
        f"log-odds within {parity.image_logits:.1e}, map within {parity.anomaly_map:.1e} of {parity.reference}, on "
        f"{parity.frames} frames"
    )
