"""What kind of bundle to write, each default written once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from acl_train.config import BLUR_SIGMA


class Head(str, Enum):
    """What the graph returns."""

    map = "map"
    embeddings = "embeddings"


class Precision(str, Enum):
    """Arithmetic of the graph."""

    fp32 = "fp32"
    fp16 = "fp16"


LowType = Literal["int8", "fp8"]
"""Types of eight bits; fp8 is E4M3."""

FrameSize = tuple[int, int]
"""Height and width of a camera's frames, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What kind of bundle to write.

    Attributes:
        head: `map`, one graph from image to map, or `embeddings`, where the runtime applies the prompts.
        precision: Arithmetic of the graph.
        max_batch: Most images that the graph takes at once.
        int8: Whether to add a graph with the linear layers in int8, for CPUs.
        quantize: Types of eight bits that the linear layers of a further graph for engines are to be in, each.
        fused_attention: Whether to add a graph whose attention ONNX Runtime fuses on CUDA.
        frame_size: Of the frames that the graph takes and resizes itself; None for a graph that takes images of the
            network's size.
        blur_sigma: Of the map's Gaussian, in pixels.
        category: The product's name, for prompts that name it and in place of "object" in those that do not; None to
            leave that.
        memory: Memory of good parts to put into a graph with head `map`: a record of a calibration with the same
            network, its file or its bundle; None for the text alone.
    """

    head: Head = Head.map
    precision: Precision = Precision.fp32
    max_batch: int = 8
    int8: bool = False
    quantize: tuple[LowType, ...] = ()
    fused_attention: bool = False
    frame_size: FrameSize | None = None
    blur_sigma: float = BLUR_SIGMA
    category: str | None = None
    memory: Path | None = None


# Largest differences from torch in float32 that are accepted: log-odds of the image, probabilities of the map.
FP32_TOLERANCE = {"image_logits": 5e-5, "anomaly_map": 1e-5}  # some ten times what is measured
# The worst of 603 photographs on the embedded backbone, products rounded to fp16 as on a GPU, was 2.1e-2 and 3.8e-3
# (benchmarks/README.md, "Arithmetics"); on the ViT-L/14@336 shape 9e-4 and 3e-4.
FP16_TOLERANCE = {"image_logits": 5e-2, "anomaly_map": 2e-2}
# Graphs of eight bits are judged by `acl qualify` on labelled images; what is further off than this is broken. An
# engine of such a graph may be twice as far from torch as the graph is, and what fp16 may be besides.
QUANTIZED_TOLERANCE = {"image_logits": 1.0, "anomaly_map": 0.3}
# A memory divides by what good parts differ in, a hundredth of a vector's length: rounding errors grow with it.
MEMORY_FP32_TOLERANCE = {"image_logits": 1e-3, "anomaly_map": 1e-4}
# In fp16 some three times that without a memory, for GPUs, which round products too. The worst that ONNX Runtime, which
# rounds in between alone, found of the embedded backbone, a subspace of 8 solar cells and 32 photographs of them:
# 3.0e-3 and 9.3e-4 (in fp32 2.3e-5 and 1.1e-5).
MEMORY_FP16_TOLERANCE = {"image_logits": 2e-1, "anomaly_map": 5e-2}
