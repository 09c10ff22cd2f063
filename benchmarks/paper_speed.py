"""What the rows of a table cost: the published steps and the exported graph of each, all in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acl_export.config import ExportConfig
from acl_export.export import export_bundle
from acl_export.reference_candidate import keep_freed_memory, make_reference
from acl_export.torch_session import fill_projections
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.bench.candidates import Candidate, make_candidates
from acl_runtime.bench.flop import flop_per_image
from acl_runtime.bench.measure import Laps, measure
from acl_runtime.bench.run import draw_frames
from acl_runtime.bundle.bundle import Bundle, load_bundle, load_text_embeddings
from acl_train.learn import new_learner
from acl_train.prompts import Prompts, make_prompts_config, written_prompts
from acl_train.weights import Weights, build_clip
from benchmarks.paper_rows import Row

PLAIN = Row("CLIP", "clip")  # what all are compared with


@dataclass(frozen=True)
class Cost:
    """Of one row.

    Attributes:
        reference_ratio: Frames per second of the published steps, over those of plain CLIP.
        exported_ratio: The same of the exported graph.
        speed_up: Frames per second of the graph, over those of the published steps.
        giga_flop: Of a frame, as the graph computes it.
        image_logits: Worst difference of the graph from torch in float32 on the golden images, log-odds.
        anomaly_map: Worst difference, probability.
    """

    reference_ratio: float
    exported_ratio: float
    speed_up: float
    giga_flop: float | None
    image_logits: float
    anomaly_map: float


def measure_costs(
    weights: Weights, rows: Sequence[Row], image_size: int | None, folder: Path, *, seconds: float
) -> dict[str, Cost]:
    """Time every row, with values that nothing was learned for: they do not matter to speed.

    Args:
        weights: Of the backbone.
        rows: Of a table.
        image_size: Side of the network's input; None for the backbone's.
        folder: For bundles.
        seconds: About how long to take in all.

    Returns:
        By label.
    """
    keep_freed_memory()
    distinct = {row.label: row for row in (PLAIN, *rows)}
    pairs = {
        label: _enter(weights, row, image_size, folder / str(n))
        for n, (label, row) in enumerate(distinct.items())
    }
    candidates = [candidate for _, *pair in pairs.values() for candidate in pair]
    laps = measure(candidates, draw_frames(), seconds=seconds, progress=lambda what, done, total: None)
    timed = dict(zip(pairs, zip(laps[::2], laps[1::2], strict=True), strict=True))
    plain_reference, plain_exported = timed[PLAIN.label]
    return {
        label: _cost(bundle, timed[label], plain_reference, plain_exported)
        for label, (bundle, *_) in pairs.items()
        if label in {row.label for row in rows}
    }


def _cost(bundle: Bundle, laps: tuple[Laps, Laps], plain_reference: Laps, plain_exported: Laps) -> Cost:
    reference, exported = laps
    flop = flop_per_image(bundle.manifest, dimension=load_text_embeddings(bundle).shape[-1])
    return Cost(
        reference.ratio_to(plain_reference),
        exported.ratio_to(plain_exported),
        exported.ratio_to(reference),
        None if flop is None else flop / 1e9,
        exported.candidate.image_logits,
        exported.candidate.anomaly_map,
    )


def _enter(
    weights: Weights, row: Row, image_size: int | None, folder: Path
) -> tuple[Bundle, Candidate, Candidate]:
    """The published steps and the exported graph of a row."""
    prompts = start_prompts(weights, row, image_size)
    category = "bolt" if prompts.config.needs_category else None
    export_bundle(prompts, folder, weights, ExportConfig(category=category))
    bundle = load_bundle(folder)
    clip = build_clip(weights, prompts.config.vision)
    fill_projections(clip, bundle)
    (exported,) = make_candidates(bundle, OnnxSession.of_bundle(bundle, "cpu"), "fp32", [1])
    return bundle, make_reference(bundle, clip), exported


def start_prompts(weights: Weights, row: Row, image_size: int | None) -> Prompts:
    """What a row's learning begins with."""
    vision, config = row.vision(weights, image_size), row.config(seed=0, epochs=None)
    if config is None:
        return written_prompts(row.method, weights, vision)
    tensors = new_learner(build_clip(weights, vision), config).tensors
    return Prompts(
        {name: tensor.detach() for name, tensor in tensors.items()},
        make_prompts_config(
            weights, vision, config.recipe.value, {}, method=config.method, words=config.words
        ),
    )
