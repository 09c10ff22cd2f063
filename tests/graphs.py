"""A tiny real model as an ONNX graph with either head, and a bundle around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from acl_runtime.bundle.bundle import GOLDEN, TEXT_EMBEDDINGS, write_manifest
from acl_runtime.bundle.manifest import (
    Arithmetic,
    Backbone,
    Calibration,
    Graph,
    Manifest,
    Parity,
    Preprocessing,
    Step,
    Tensor,
    manifest_checksum,
)
from acl_runtime.scoring.maps import map_operator, patches_to_map

SIDE, GRID, JOINT, LAYERS = 56, 7, 6, 2  # S, G, D, L
PATCH = SIDE // GRID
TEMPERATURE, SIGMA = 0.07, 2.0
RANDOM = np.random.default_rng(7)
# Patch means of red, green, blue and a constant, through one matrix per layer, are the patch embeddings.
WEIGHTS = RANDOM.normal(size=(LAYERS, 4, JOINT)).astype(np.float32)
WEIGHTS[:, 3] = -0.5 * WEIGHTS[:, :3].sum(axis=1)  # mid-grey is the origin: patches point everywhere
TEXT = RANDOM.normal(size=(2, JOINT))
TEXT = (TEXT / np.linalg.norm(TEXT, axis=1, keepdims=True)).astype(np.float32)
DIRECTION = ((TEXT[1].astype(np.float64) - TEXT[0]) / TEMPERATURE).astype(np.float32)
DEFAULT_CALIBRATION = Calibration(
    rule="score",
    score_threshold=0.5,
    map_threshold=0.5,
    region_threshold=None,
    tiling=None,
    source="default",
    record=None,
    memory=None,
    ignore=None,
)
FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


def drawn_frame(seed: int = 0, *, height: int = 90, width: int = 120) -> np.ndarray:
    """(H, W, 3) uint8 BGR: coarse random blocks, so that patches differ."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, -(-height // 6), 0), -(-width // 8), 1)[:height, :width]


def reference(images: np.ndarray) -> dict[str, np.ndarray]:
    """What both graphs compute, in numpy: (B, S, S, 3) uint8 RGB to every array of the bundle's contract."""
    means = images.reshape(len(images), GRID, PATCH, GRID, PATCH, 3).mean(axis=(2, 4)) / 255  # (B, G, G, 3)
    patches = np.concatenate([means, np.ones_like(means[..., :1])], axis=-1).reshape(len(images), 1, -1, 4)
    embeddings = patches @ WEIGHTS  # (B, L, G·G, D)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    image = embeddings[:, -1].mean(axis=1)
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    patch_logits = (embeddings @ DIRECTION).reshape(len(images), LAYERS, GRID, GRID)
    return {
        "image_embeddings": image.astype(np.float32),
        "patch_embeddings": embeddings.astype(np.float32),
        "image_logits": (image @ DIRECTION).astype(np.float32),
        "patch_logits": patch_logits.astype(np.float32),
        "anomaly_maps": patches_to_map(patch_logits, image_size=SIDE, blur_sigma=SIGMA),
    }


def write_tiny_graph(path: Path, *, head: str = "map", broken: bool = False) -> None:
    """Write the graph; `broken` makes every answer nan, as an overflow would."""
    scale = np.float32(np.nan if broken else 1 / 255)
    constants = {
        "scale": scale,
        "weights": WEIGHTS,
        "direction": DIRECTION,
        "operator": map_operator(GRID, SIDE, SIGMA).astype(np.float32),
        "operator_t": map_operator(GRID, SIDE, SIGMA).T.astype(np.float32),
        "split": np.array([0, GRID, PATCH, GRID, PATCH, 3]),
        "join": np.array([-1, 1, GRID * GRID, 3]),
        "square": np.array([0, GRID, GRID]),
        "pad": np.array([0, 0, 0, 0, 0, 0, 0, 1]),
        "one": np.float32(1),
        "rows": np.array([2, 4]),
        "axis_layer": np.array([1]),
        "axis_patch": np.array([1]),
        "last_layer": np.array(LAYERS - 1),
    }
    graph = helper.make_graph(
        _embedding_nodes() + (_map_nodes() if head == "map" else []),
        "tiny",
        [helper.make_tensor_value_info("images", UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, FLOAT, ["batch", *shape]) for name, shape in _outputs(head)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_tiny_bundle(
    folder: Path, *, head: str = "map", broken: bool = False, ladder: tuple[Arithmetic, ...] = ()
) -> Path:
    """Write a complete bundle around the tiny graph, which is also that of every step, and return its folder."""
    folder.mkdir(parents=True)
    manifest = tiny_manifest(head)
    if ladder:
        steps = tuple(Step(step, f"model.{step}.onnx", manifest.parity) for step in ladder[1:])
        manifest = replace(manifest, precision=ladder[0], ladder=steps)
    for arithmetic in (*manifest.arithmetics(), *manifest.on_request):
        write_tiny_graph(folder / manifest.graph_file(arithmetic), head=head, broken=broken)
    np.save(folder / TEXT_EMBEDDINGS, TEXT)
    images = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    answers = reference(images)
    np.savez(
        folder / GOLDEN,
        images=images,
        image_logits=answers["image_logits"],
        patch_logits=answers["patch_logits"],
        anomaly_maps=answers["anomaly_maps"],
    )
    write_manifest(folder, manifest)
    return folder


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON of a bundle's manifest and make its checksum anew, as one who means to deceive would."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(sealed(document)))


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """A manifest's JSON with its checksum, where its version has one."""
    version = document.get("format_version")
    if type(version) is int and version < 5:
        return {key: value for key, value in document.items() if key != "checksum"}
    return document | {"checksum": manifest_checksum(document)}


def tiny_manifest(head: str = "map") -> Manifest:
    """The manifest of the tiny bundle, still without file hashes."""
    assert head in ("map", "embeddings")
    return Manifest(
        format="anomalyclip-bundle",
        format_version=6,
        head="map" if head == "map" else "embeddings",
        precision="fp32",
        opset=18,
        image_size=SIDE,
        grid=GRID,
        layers=(1, 2),
        vv_from=1,
        attention="vv",
        class_norm=False,
        windows=(),
        projections=None,
        temperature=TEMPERATURE,
        blur_sigma=SIGMA,
        max_batch=3,
        backbone=Backbone(
            name="patch means",
            weights="drawn",
            weights_sha256="0" * 64,
            quick_gelu=True,
            width=64,
            blocks=2,
            heads=1,
            text_heads=1,
            basis="told",
            inspection=False,
            note="made in a test",
        ),
        prompts={"recipe": "released", "sha256": "0" * 64},
        graph_memory=None,
        graph=Graph(
            "model.onnx",
            (Tensor("images", ("batch", SIDE, SIDE, 3), "uint8"),),
            tuple(Tensor(name, ("batch", *shape), "float32") for name, shape in _outputs(head)),
        ),
        ladder=(),
        int8=None,
        preprocessing=Preprocessing(
            color="RGB",
            layout="BHWC",
            dtype="uint8",
            resize="bicubic antialiased (Pillow)",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        calibration=DEFAULT_CALIBRATION,
        parity=Parity(
            reference="numpy",
            image_logits=0.0,
            anomaly_map=0.0,
            tolerance={"image_logits": 1e-3, "anomaly_map": 1e-4},
            frames=2,
            drift=None,
        ),
        files={},
        tools={"onnx": "test"},
        created="2025-01-01",
    )


def _outputs(head: str) -> list[tuple[str, tuple[int, ...]]]:
    if head == "map":
        return [("image_logits", ()), ("anomaly_maps", (SIDE, SIDE))]
    return [("image_embeddings", (JOINT,)), ("patch_embeddings", (LAYERS, GRID * GRID, JOINT))]


def _embedding_nodes() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Cast", ["images"], ["floats"], to=FLOAT),
        node("Mul", ["floats", "scale"], ["unit"]),
        node("Reshape", ["unit", "split"], ["blocks"]),
        node("ReduceMean", ["blocks", "rows"], ["means"], keepdims=0),
        node("Reshape", ["means", "join"], ["patches"]),
        node("Pad", ["patches", "pad", "one"], ["padded"]),
        node("MatMul", ["padded", "weights"], ["tokens"]),
        node("LpNormalization", ["tokens"], ["patch_embeddings"], axis=-1, p=2),
        node("Gather", ["patch_embeddings", "last_layer"], ["last"], axis=1),
        node("ReduceMean", ["last", "axis_patch"], ["mean_patch"], keepdims=0),
        node("LpNormalization", ["mean_patch"], ["image_embeddings"], axis=-1, p=2),
    ]


def _map_nodes() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("MatMul", ["image_embeddings", "direction"], ["image_logits"]),
        node("MatMul", ["patch_embeddings", "direction"], ["patch_logits"]),
        node("Sigmoid", ["patch_logits"], ["probabilities"]),
        node("ReduceMean", ["probabilities", "axis_layer"], ["mean_layer"], keepdims=0),
        node("Reshape", ["mean_layer", "square"], ["squares"]),
        node("MatMul", ["operator", "squares"], ["half"]),
        node("MatMul", ["half", "operator_t"], ["anomaly_maps"]),
    ]
