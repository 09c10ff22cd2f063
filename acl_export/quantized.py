"""Graphs of eight bits in a bundle: what they are scaled by, and where they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from acl_export.channels import largest_of_channels
from acl_export.config import ExportConfig, LowType, Precision
from acl_export.golden import read_images
from acl_export.linear_layers import quantize_linear_layers
from acl_export.weights_file import WeightsFile
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.files.errors import InputError
from acl_runtime.images.preprocess import to_input

Progress = Callable[[str, int, int], None]
MOST_SAMPLES = 64  # spread evenly; each takes the CPU one pass, seconds with a ViT-L


def check_request(config: ExportConfig, samples: Sequence[Path]) -> None:
    """See that what is asked for goes together.

    Raises:
        InputError: It does not.
    """
    if config.quantize and config.precision is not Precision.fp16:
        raise InputError("graphs of eight bits are made from that in fp16; export with --precision fp16")
    if config.quantize and not samples:
        raise InputError(
            "graphs of eight bits are scaled by real images; name some good parts of the line with --samples"
        )
    if samples and not config.quantize:
        raise InputError(
            "samples are for graphs of eight bits; name one with --quantize, or leave --samples out"
        )


def add_quantized(
    bundle: Bundle, types: Sequence[LowType], samples: Sequence[Path], progress: Progress
) -> None:
    """Write the graphs of eight bits.

    Args:
        bundle: With the graph in fp16.
        types: Of the linear layers, a graph each.
        samples: Image files and folders of them.
        progress: Called with what is done, how much of it and of how much.

    Raises:
        InputError: There are no such images, or one is damaged.
    """
    images = to_input([*read_images(samples, MOST_SAMPLES, bundle.manifest)], bundle.manifest)
    largest = largest_of_channels(
        bundle.graph_path, images, lambda done, total: progress("measuring samples", done, total)
    )
    for low in types:
        write_quantized(bundle.graph_path, bundle.path / bundle.manifest.graph_file(low), largest, low)


def write_quantized(source: Path, target: Path, largest: Mapping[str, np.ndarray], low: LowType) -> None:
    """Write a graph with linear layers of eight bits, its weights beside it, `NAME.data`.

    Args:
        source: In the arithmetic `fp16`.
        target: ONNX file to write.
        largest: See `quantize_linear_layers`.
        low: The type.

    Raises:
        onnx.checker.ValidationError: If it is not valid ONNX.
    """
    model = quantize_linear_layers(onnx.load(source), largest, low)
    WeightsFile(target.with_name(f"{target.name}.data")).move_from(model)
    target.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(target), full_check=True)
