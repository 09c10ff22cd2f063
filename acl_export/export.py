"""What `acl export` does: prompts in, a bundle out that was run and compared with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from acl_export.accumulate import write_accumulating
from acl_export.config import (
    FP16_TOLERANCE,
    FP32_TOLERANCE,
    MEMORY_FP16_TOLERANCE,
    MEMORY_FP32_TOLERANCE,
    QUANTIZED_TOLERANCE,
    ExportConfig,
    Precision,
)
from acl_export.describe import describe_bundle
from acl_export.earlier import carry_over, check_earlier, keep_users_files
from acl_export.golden import golden_frames, read_images, save_golden, save_projections
from acl_export.graph import make_graph, write_onnx
from acl_export.inputs import prepare_inputs
from acl_export.memory_file import MemoryFile
from acl_export.mixed import attend, attend_by_operator
from acl_export.quantized import MOST_SAMPLES, add_quantized, check_request
from acl_export.torch_session import TorchSession
from acl_export.weights_file import WeightsFile
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.bundle.bundle import GOLDEN, MANIFEST, TEXT_EMBEDDINGS, Bundle, write_manifest
from acl_runtime.bundle.manifest import FUSED, QUANTIZED, Arithmetic, Manifest, Parity
from acl_runtime.bundle.words import activation_words
from acl_runtime.data.datasets import read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.metric_change import measure_change
from acl_runtime.files.atomic import atomic_folder
from acl_runtime.files.errors import BackendError
from acl_runtime.images.preprocess import to_input
from acl_runtime.scoring.memory import Memory
from acl_train.prompts import Prompts
from acl_train.weights import Network, Weights

Progress = Callable[[str, int, int], None]


def export_bundle(
    prompts: Path | Prompts,
    output: Path,
    weights: Weights,
    config: ExportConfig,
    *,
    frames: Sequence[Path] = (),
    samples: Sequence[Path] = (),
    drift_data: Sequence[Path] = (),
    may_lose: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Manifest:
    """Write a bundle and prove it, or leave nothing.

    Args:
        prompts: A prompts file, or the prompts of a method that learns none.
        output: The bundle's folder; replaced only when the new one is complete and proven. Calibrations and engines
            of the bundle before are kept where they hold for the new one, and so are files that no export wrote.
        weights: The CLIP that the prompts were learned on.
        config: Which graph.
        frames: Images to prove the graph on and to keep in the bundle, see `golden_frames`; drawn ones if there are
            none.
        samples: Image files and folders of them, which the types of eight bits of `config.quantize` are scaled by.
        drift_data: Folders of labelled images, to measure how far the graph moves the metrics.
        may_lose: Whether calibrations and engines that do not hold for the new bundle may be lost.
        progress: Called with what is done, how much of it and of how much.

    Raises:
        InputError: The weights are not those of the prompts, the product's name is missing, an image is damaged or of
            another size than the graph takes, the output is some other folder or in use, or calibrations or engines
            would be lost.
        BackendError: A graph does not compute what torch computes.
    """
    check_request(config, samples)
    inputs = prepare_inputs(prompts, weights, config)
    clip, vectors = inputs.clip, inputs.vectors
    manifest = describe_bundle(inputs, config)
    memory = None if config.memory is None else MemoryFile.find(config.memory, manifest, vectors)
    check_earlier(output, manifest, may_lose=may_lose)
    for _ in read_images(samples, MOST_SAMPLES, manifest) if samples else ():
        pass  # what is wrong with them is told before the work
    for root in drift_data:
        read_dataset(root)
    torch_session = TorchSession(clip, vectors, manifest)
    images = to_input(golden_frames(frames, manifest), manifest)
    reference = torch_session.judge(images)
    if memory is not None:
        reference = memory.judge(reference, manifest, vectors.squeeze(0).numpy())
    with atomic_folder(output, marker=MANIFEST) as folder:
        np.save(folder / TEXT_EMBEDDINGS, vectors.squeeze(0).numpy())
        if manifest.projections is not None:
            save_projections(folder / manifest.projections, inputs.prompts.tensors)
        if memory is not None:
            memory.copy(folder)
        save_golden(folder / GOLDEN, images, reference)
        bundle = Bundle(folder, manifest)
        write_graphs(
            bundle, clip, vectors.numpy(), config, progress, None if memory is None else memory.memory
        )
        if bundle.manifest.int8 is not None:
            from acl_export.quantize import quantize_linear_layers

            quantize_linear_layers(
                bundle.cpu_graph_path,
                folder / bundle.manifest.int8,
                width=clip.architecture.vision_width,
                hidden=clip.architecture.vision_hidden,
            )
        if config.quantize:
            add_quantized(bundle, config.quantize, samples, progress)
        manifest = prove_graphs(bundle, progress)
        if drift_data:
            drift = measure_change(
                Detector(bundle, provider="cpu"),
                Detector(bundle, session=torch_session),
                drift_data,
                progress,
            )
            manifest = replace(manifest, parity=replace(manifest.parity, drift=drift))
        manifest = carry_over(output, folder, manifest, may_lose=may_lose)
        manifest = write_manifest(folder, manifest)
        keep_users_files(output, folder)
        return manifest


def write_graphs(
    bundle: Bundle,
    clip: Network,
    vectors: np.ndarray,
    config: ExportConfig,
    progress: Progress,
    memory: Memory | None = None,
) -> None:
    """Write every graph that the manifest names, but those of eight bits.

    Args:
        bundle: Still without its graphs.
        clip: In float32.
        vectors: (H, 2, D) float32, unit rows NORMAL, ANOMALOUS, see `head_vectors`.
        config: Which graphs.
        progress: Called with what is done, how much of it and of how much.
        memory: To put into them; None for the text alone.
    """
    manifest = bundle.manifest
    arithmetics = (*manifest.arithmetics(), *(each for each in manifest.on_request if each == FUSED))
    is_mixed = config.precision is not Precision.fp32
    weights = WeightsFile(bundle.path / "model.onnx.data", narrow=True) if is_mixed else None
    for done, arithmetic in enumerate(arithmetics, start=1):
        path = bundle.path / manifest.graph_file(arithmetic)
        if arithmetic == "fp16-accumulate-fp32":
            write_accumulating(bundle.path / manifest.graph_file("fp16"), path)
        else:
            graph = make_graph(
                clip.visual,
                vectors,
                head=config.head,
                blur_sigma=config.blur_sigma,
                temperature=manifest.temperature,
                arithmetic=arithmetic if is_mixed else None,
                attention=attend_by_operator if arithmetic == FUSED else attend,
                frame_size=config.frame_size,
                memory=memory,
            )
            write_onnx(graph, path, head=config.head, max_batch=config.max_batch, weights=weights)
        progress("writing graphs", done, len(arithmetics))


def prove_graphs(bundle: Bundle, progress: Progress) -> Manifest:
    """Run every graph on the golden images, compare with torch, and return the manifest with the figures.

    Raises:
        BackendError: A graph is past its tolerance.
    """
    manifest = bundle.manifest
    arithmetics = (*manifest.arithmetics(), *manifest.on_request)
    found = {}
    for done, arithmetic in enumerate(arithmetics, start=1):
        found[arithmetic] = measure_parity(bundle, arithmetic)
        check_parity(found[arithmetic])
        if arithmetic in QUANTIZED:
            found[arithmetic] = _widen(found[arithmetic], manifest)
        progress("proving graphs", done, len(arithmetics))
    ladder = tuple(replace(step, parity=found[step.arithmetic]) for step in manifest.ladder)
    return replace(manifest, parity=found[manifest.precision], ladder=ladder)


def measure_parity(bundle: Bundle, arithmetic: Arithmetic) -> Parity:
    """Run a graph of the bundle on the golden images, one by one and all at once, and take the worst difference.

    It is run by ONNX Runtime on the CPU, which computes fp16 in float32 and rounds in between.
    """
    golden = GoldenImages(bundle)
    session = OnnxSession(bundle.path / bundle.manifest.graph_file(arithmetic), "CPUExecutionProvider")
    sizes = {1, min(bundle.manifest.max_batch, len(golden))}
    found = [golden.compare(session, batch=size, rounds=1) for size in sizes]
    tolerance = _tolerance(bundle.manifest, is_rounded=bundle.manifest.precision != "fp32")
    return Parity(
        reference=f"PyTorch {torch.__version__} float32, {activation_words(bundle.manifest.backbone)}, published steps",
        image_logits=max(each.image_logits for each in found),
        anomaly_map=max(each.anomaly_map for each in found),
        tolerance=QUANTIZED_TOLERANCE if arithmetic in QUANTIZED else tolerance,
        frames=len(golden),
        drift=None,
    )


def _widen(parity: Parity, manifest: Manifest) -> Parity:
    """With what an engine of a graph of eight bits is held to."""
    found = {"image_logits": parity.image_logits, "anomaly_map": parity.anomaly_map}
    besides, limits = _tolerance(manifest, is_rounded=True), QUANTIZED_TOLERANCE
    tolerance = {name: min(limits[name], 2 * figure + besides[name]) for name, figure in found.items()}
    return replace(parity, tolerance=tolerance)


def _tolerance(manifest: Manifest, *, is_rounded: bool) -> dict[str, float]:
    if manifest.graph_memory is not None:
        return MEMORY_FP16_TOLERANCE if is_rounded else MEMORY_FP32_TOLERANCE
    return FP16_TOLERANCE if is_rounded else FP32_TOLERANCE


def check_parity(parity: Parity) -> None:
    """Raise BackendError if a difference is past its tolerance."""
    measured = {"image_logits": parity.image_logits, "anomaly_map": parity.anomaly_map}
    for name, limit in parity.tolerance.items():
        if not measured[name] <= limit:  # also refuses nan
            raise BackendError(
                f"the graph's {name} must be within {limit:g} of torch, got {measured[name]:g}; nothing was "
                "written; please report this with the versions of torch, onnx and onnxruntime"
            )
