"""The manifest of a bundle that is being written."""

from __future__ import annotations

import hashlib
import platform
from datetime import datetime, timezone
from importlib.metadata import version

from acl_export.config import ExportConfig, Precision
from acl_export.graph import OPSET, OUTPUTS, input_name
from acl_export.inputs import Inputs
from acl_export.mixed import LADDER
from acl_runtime.bundle.manifest import (
    FORMAT,
    FORMAT_VERSION,
    FUSED,
    Backbone,
    Calibration,
    Graph,
    Manifest,
    Parity,
    Preprocessing,
    Step,
    Tensor,
)
from acl_train.methods import METHODS
from acl_train.prompts import to_bytes
from acl_train.weights import Network

NOT_YET = Parity(reference="", image_logits=0.0, anomaly_map=0.0, tolerance={}, frames=0, drift=None)
TINY_NOTE = "a small CLIP trained on drawn products, for demonstrations and tests; not for inspection"
INT8_GRAPH = "model.int8.onnx"
ON_REQUEST = "model.extra-"  # how the files of `Manifest.on_request` begin
PROJECTIONS = "projections.npz"
GRAPH_MEMORY = "memory.npz"


def describe_bundle(inputs: Inputs, config: ExportConfig) -> Manifest:
    """The manifest, its parity still to be measured and its files to be hashed."""
    prompts, clip = inputs.prompts, inputs.clip
    vision, grid = clip.visual.config, clip.visual.grid
    steps = LADDER[1:] if config.precision is Precision.fp16 else ()
    on_request = (*config.quantize, *((FUSED,) if config.fused_attention else ()))
    tiny = prompts.config.backbone == "tiny"
    facts = {name: str(value) for name, value in prompts.config.learning.items()}
    facts |= {"method": prompts.config.method, "recipe": prompts.config.recipe}
    facts |= {"class_tokens": "of each layer"} if vision.class_layers else {}
    facts |= {} if config.category is None else {"category": config.category}
    facts["sha256"] = prompts.file_sha256 or hashlib.sha256(to_bytes(prompts)).hexdigest()
    return Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        head=config.head.value,
        precision=config.precision.value,
        opset=OPSET,
        image_size=vision.image_size,
        grid=grid,
        layers=vision.layers,
        vv_from=vision.vv_from,
        attention=vision.attention,
        class_norm=vision.class_norm,
        windows=vision.windows,
        projections=PROJECTIONS if vision.learned_projection else None,
        temperature=METHODS[prompts.config.method].temperature,
        blur_sigma=config.blur_sigma,
        max_batch=config.max_batch,
        backbone=Backbone(
            name=prompts.config.backbone,
            weights=prompts.config.weights,
            weights_sha256=prompts.config.weights_sha256,
            quick_gelu=clip.architecture.quick_gelu,
            width=clip.architecture.vision_width,
            blocks=clip.architecture.vision_layers,
            inspection=not tiny,
            note=TINY_NOTE if tiny else "",
            heads=clip.architecture.vision_heads,
            text_heads=clip.architecture.text_heads or None,
            basis=inputs.basis or None,
        ),
        prompts=facts,
        graph_memory=None if config.memory is None else GRAPH_MEMORY,
        graph=_describe_graph(clip, config),
        ladder=(
            *(Step(step, f"model.{step}.onnx", NOT_YET) for step in steps),
            *(Step(step, f"{ON_REQUEST}{step}.onnx", NOT_YET) for step in on_request),
        ),
        int8=INT8_GRAPH if config.int8 else None,
        preprocessing=_describe_preprocessing(clip, config),
        calibration=Calibration(
            rule="score",
            score_threshold=0.5,
            map_threshold=0.5,
            region_threshold=None,
            tiling=None,
            source="default",
            record=None,
            memory=None,
            ignore=None,
        ),
        parity=NOT_YET,
        files={},
        tools={"python": platform.python_version()} | {name: version(name) for name in _tools(clip)},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _tools(clip: Network) -> tuple[str, ...]:
    own = () if clip.architecture.text_layers else ("timm",)
    return ("anomalyclip-deploy", "torch", "onnx", "onnxscript", "numpy", *own)


def _describe_preprocessing(clip: Network, config: ExportConfig) -> Preprocessing:
    in_graph = config.frame_size is not None
    return Preprocessing(
        color="BGR" if in_graph else "RGB",
        layout="BHWC",
        dtype="uint8",
        resize="in the graph" if in_graph else "bicubic antialiased (Pillow)",
        mean=clip.architecture.mean,
        std=clip.architecture.std,
    )


def _describe_graph(clip: Network, config: ExportConfig) -> Graph:
    size, grid, layers = clip.visual.config.image_size, clip.visual.grid, len(clip.visual.config.layers)
    joint = clip.architecture.embed_dim
    patches = (1, sum(map(len, clip.visual.windows))) if clip.visual.windows else (layers, grid * grid)
    shapes: dict[str, tuple[int | str, ...]] = {
        "image_logits": ("batch",),
        "anomaly_maps": ("batch", size, size),
        "image_embeddings": ("batch", *((layers,) if clip.visual.config.class_layers else ()), joint),
        "patch_embeddings": ("batch", *patches, joint),
    }
    return Graph(
        "model.onnx",
        (Tensor(input_name(config.frame_size), ("batch", *(config.frame_size or (size, size)), 3), "uint8"),),
        tuple(Tensor(name, shapes[name], "float32") for name in OUTPUTS[config.head]),
    )
