"""What `acl export` does: prompts in, a bundle out that was run and compared with torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from acl_export.config import TOLERANCE, ExportConfig
from acl_export.describe import describe_bundle
from acl_export.golden import golden_images, save_golden
from acl_export.graph import make_graph, write_onnx
from acl_runtime.backend import open_session
from acl_runtime.bundle import GOLDEN, MANIFEST, TEXT_EMBEDDINGS, Bundle, write_manifest
from acl_runtime.files import atomic_folder
from acl_runtime.heads import Answers, defect_direction, read_embeddings_head, read_map_head
from acl_runtime.manifest import Manifest, Parity
from acl_train.config import VisionConfig
from acl_train.prompts import Prompts, PromptsConfig, load_prompts, text_embeddings
from acl_train.reference import Reference, run_reference
from acl_train.weights import Weights, build_clip, load_weights


def export_bundle(
    prompts_path: Path,
    output: Path,
    weights: Weights,
    config: ExportConfig,
    *,
    vision: VisionConfig | None = None,
    frames: Sequence[Path] = (),
) -> Manifest:
    """Write a bundle and prove it, or leave nothing.

    Args:
        prompts_path: A prompts file.
        output: The bundle's folder; replaced only when the new one is complete and proven.
        weights: The CLIP that the prompts were learned on.
        config: Which graph.
        vision: Another read-out than the prompts were learned with.
        frames: Image files to prove the graph on and to keep in the bundle; drawn ones if there are none.

    Raises:
        ValueError: If the weights are not those of the prompts, or the output is some other folder.
        RuntimeError: If the graph does not compute what torch computes.
    """
    prompts = load_prompts(prompts_path)
    check_weights(prompts, weights)
    clip = build_clip(weights, vision or prompts.config.vision)
    with torch.no_grad():
        text = text_embeddings(clip, prompts.ctx, prompts.deep_ctx)
    images = golden_images(frames, image_size=clip.visual.config.image_size)
    reference = run_reference(clip, text, list(images[..., ::-1]), blur_sigma=config.blur_sigma)
    with atomic_folder(output, marker=MANIFEST) as folder:
        np.save(folder / TEXT_EMBEDDINGS, text.numpy())
        save_golden(folder / GOLDEN, images, reference)
        graph = make_graph(clip, text.numpy(), head=config.head, blur_sigma=config.blur_sigma)
        write_onnx(graph, folder / "model.onnx", head=config.head, max_batch=config.max_batch)
        manifest = describe_bundle(prompts_path, prompts, clip, config)
        parity = measure_parity(Bundle(folder, manifest), images, text.numpy(), reference)
        check_parity(parity)
        return write_manifest(folder, replace(manifest, parity=parity))


def find_weights(
    config: PromptsConfig, backbone: str | None, weights: str | None, *, quick_gelu: bool | None = None
) -> Weights:
    """The weights that prompts were learned on, or those the user names instead.

    Raises:
        FileNotFoundError: If they were learned on a file that is not named.
    """
    backbone = backbone or config.backbone
    quick_gelu = config.quick_gelu if quick_gelu is None else quick_gelu
    if weights is None and backbone != "tiny":
        weights = config.weights
        if Path(weights).suffix and not Path(weights).is_file():
            raise FileNotFoundError(f"{weights}: the prompts were learned on this file; pass --weights FILE")
    return load_weights(backbone, weights, quick_gelu=quick_gelu)


def check_weights(prompts: Prompts, weights: Weights) -> None:
    """Raise ValueError unless the prompts were learned on these very weights."""
    if prompts.config.weights_sha256 != weights.sha256:
        raise ValueError(
            f"weights must be those the prompts were learned on ({prompts.config.backbone} "
            f"{prompts.config.weights}, sha256 {prompts.config.weights_sha256[:12]}), got {weights.backbone} "
            f"{weights.source}, sha256 {weights.sha256[:12]}; pass the same --backbone and --weights"
        )
    if prompts.config.quick_gelu != weights.architecture.quick_gelu:
        raise ValueError(
            f"quick_gelu must be {prompts.config.quick_gelu} as in the learning, got "
            f"{weights.architecture.quick_gelu}; pass the same option"
        )


def measure_parity(bundle: Bundle, images: np.ndarray, text: np.ndarray, reference: Reference) -> Parity:
    """Run the bundle's graph through the runtime, one by one and all at once, and take the worst difference.

    Args:
        bundle: Its graph is run with ONNX Runtime on the CPU.
        images: (N, S, S, 3) uint8 RGB.
        text: (2, D) float32, unit rows NORMAL, ANOMALOUS.
        reference: The torch model's answers to the same images.
    """
    session = open_session(bundle, provider="CPUExecutionProvider")
    limit = bundle.manifest.max_batch
    logits_difference = map_difference = 0.0
    for size in {1, min(limit, len(images))}:
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            image_logits, anomaly_maps = _read(session(images[rows]), bundle.manifest, text)
            logits_difference = max(logits_difference, _worst(image_logits, reference.image_logits[rows]))
            map_difference = max(map_difference, _worst(anomaly_maps, reference.anomaly_maps[rows]))
    name = f"PyTorch {torch.__version__} float32, published steps"
    return Parity(name, logits_difference, map_difference, TOLERANCE, len(images))


def check_parity(parity: Parity) -> None:
    """Raise RuntimeError if a difference is past its tolerance."""
    measured = {"image_logits": parity.image_logits, "anomaly_map": parity.anomaly_map}
    for name, limit in parity.tolerance.items():
        if not measured[name] <= limit:  # also refuses nan
            raise RuntimeError(
                f"the graph's {name} must be within {limit:g} of torch, got {measured[name]:g}; nothing was "
                "written; please report this with the versions of torch, onnx and onnxruntime"
            )


def _read(outputs: Mapping[str, np.ndarray], manifest: Manifest, text: np.ndarray) -> Answers:
    if manifest.head == "map":
        return read_map_head(outputs, manifest)
    return read_embeddings_head(outputs, manifest, defect_direction(text, temperature=manifest.temperature))


def _worst(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())
