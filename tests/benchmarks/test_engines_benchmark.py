"""Engines of a true shape in eight bits, built without a GPU, and what their plans say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_export.config import Head
from benchmarks.engines import SHAPES, measure, to_table

BLOCKS, SECOND_PATH = 12, 6  # of attentions whose result is used
LINEAR = 55  # products with weights, without the projections after the last block


def test_a_vit_b_multiplies_in_eight_bits_and_fuses_the_attention() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: the extra rtx")
    engines = list(measure(SHAPES["b16-224"], Head.map, ["int8", "fp8"], [1], "tensorrt-rtx"))
    for engine, kind in zip(engines, ("int8", "fp8_e4m3"), strict=True):
        assert engine.report.fused_attention == BLOCKS + SECOND_PATH
        # five blocks before the second path begin with a product that the builder cuts and leaves in fp16
        assert f"{LINEAR - 5} {kind}" in engine.products.split(", "), engine.products
        assert engine.report.weights_bytes is not None
        assert engine.report.weights_bytes < 100e6, "half of fp16's 175 MB, and what is not linear"
    assert to_table(engines).count("b16-224, map") == 2
