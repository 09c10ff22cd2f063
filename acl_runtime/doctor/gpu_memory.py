"""How much memory building and running an engine takes, before it is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass

from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.identity import hash_sources
from acl_runtime.bundle.manifest import Arithmetic

_FUSED = {"fp16", "fp16-accumulate-fp32"}  # arithmetics whose attention is fused
_HALF = _FUSED | {"fp16-attention-split", "fp16-attention-fp32"}  # those that keep weights in fp16
BUILDER_BYTES = 300 << 20  # of the building process, with no weights
ENGINE_BYTES = 6 << 20  # of activations, whatever the shape


@dataclass(frozen=True)
class MemoryNeed:
    """In bytes."""

    weights: int  # on the GPU
    activations: int  # on the GPU
    builder: int  # of the process that builds, on the host

    @property
    def running(self) -> int:
        """On the GPU."""
        return self.weights + self.activations

    @property
    def building(self) -> int:
        """Of a board whose GPU shares the memory of the host."""
        return self.builder + self.running


def predict_memory(bundle: Bundle, arithmetic: Arithmetic, max_batch: int) -> MemoryNeed:
    """About what an engine of the bundle needs.

    With T tokens of width W, P blocks of the second path and b bytes a number, an image takes T·W·b·(16 + 3P) bytes of
    activations where the attention is fused, as in fp16: the builder runs the second path last, so query, key and value
    of each of its blocks wait. Else it takes T·W·b·(10 + 1.4P), and 1.8·T²·b per attention head of 64. The building
    process holds the weights about three times. Tokens of windows are added to T, though not to its square: a guess.

    Fitted on engines of TensorRT-RTX 1.7.1 for ViT-B/16 at 224 and 512 pixels and ViT-L/14 at 336 and 518 pixels, batch
    1, 1..4 and 1..8, see benchmarks/README.md. Other libraries and versions are their own; one that tries kernels out,
    as the full TensorRT does, needs its workspace beside.

    Args:
        bundle: What is built from.
        arithmetic: Of the engine.
        max_batch: Most images at once.
    """
    manifest = bundle.manifest
    sources = hash_sources(bundle, manifest.graph.file)  # other graphs share its weights, or are for a CPU
    stored = sum(manifest.files[name].bytes for name in sources)
    is_half = arithmetic in _HALF
    parameters = stored // (4 if manifest.precision == "fp32" else 2)
    size = 2 if is_half else 4
    width = manifest.backbone.width or math.sqrt(parameters / (12 * max(manifest.layers)))  # 12·W² a block
    tokens = manifest.grid**2 + 1
    second_path = max(0, max(manifest.layers) - manifest.vv_from + 1)
    rows = tokens + sum((manifest.grid - side + 1) ** 2 * (1 + side**2) for side in manifest.windows)
    if arithmetic in _FUSED:
        activations = rows * width * size * (16 + 3 * second_path)
    else:
        scores = 2 if arithmetic == "fp16-attention-split" else 4
        activations = rows * width * size * (10 + 1.4 * second_path) + 1.8 * tokens**2 * scores * width / 64
    weights = parameters * size
    return MemoryNeed(
        weights,
        ENGINE_BYTES + round(max_batch * activations),
        BUILDER_BYTES + round((3.4 if is_half else 2.8) * weights),
    )
