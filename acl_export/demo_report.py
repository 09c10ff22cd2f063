"""The demo's evaluation page and its contact sheet: which frames are shown, and what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from acl_export.demo_web import WebResult
from acl_runtime.bench.measure import Laps
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.data.datasets import Dataset, load_sample
from acl_runtime.data.samples import Sample
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import DatasetEvaluation
from acl_runtime.files.atomic import atomic_file
from acl_runtime.report.choice import Group
from acl_runtime.report.contact_sheet import contact_sheet
from acl_runtime.report.evaluation import Judge, write_eval_report
from acl_runtime.report.pictures import Card, make_card

SHEET_FOUND = 3  # products whose typical find is on the contact sheet
FOUND, MISSED = "What it finds", "What it misses"


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found.

    Attributes:
        report: The page.
        manifest: Of the bundle that was exported and proven.
        rows: Metrics per category and, last, their mean; see `DatasetEvaluation.rows`.
        reference: What the published pipeline took.
        ours: What the bundle took, in turn with it.
        outcome: How many defective parts were found and good ones rejected, in words.
        web: What was found on the drawn web; None where none was inspected.
    """

    report: Path
    manifest: Manifest
    rows: Sequence[Mapping[str, Any]]
    reference: Laps
    ours: Laps
    outcome: str
    web: WebResult | None = None

    @property
    def ratio(self) -> float:
        """How many times faster the bundle is, preprocessing and post-processing included."""
        return self.ours.ratio_to(self.reference)

    @property
    def is_noisy(self) -> bool:
        """Whether the machine was too busy for the ratio to mean much."""
        return self.reference.is_noisy or self.ours.is_noisy


def write_pages(
    result: DemoResult,
    evaluation: DatasetEvaluation,
    verdicts: Sequence[Verdict],
    detector: Detector,
    own: Mapping[str, Detector],
) -> None:
    """Write the evaluation's page and, in the folder above it, `contact_sheet.png`.

    Args:
        result: What was found.
        evaluation: The images that were judged.
        verdicts: Theirs, in the order of the data set.
        detector: That judged them.
        own: Products that a detector with thresholds of its own judged instead: the drawn ones; empty for the user's
            own images.
    """
    dataset = evaluation.dataset
    write_eval_report(
        result.report.parent,
        [evaluation],
        detector,
        rule=detector.rule,
        facts=_facts(result),
        notes=[_about(bool(own)), *_notes(result), _origin(result.manifest, own)],
        own={product: Judge(each, each.rule) for product, each in own.items()},
        highlights=[group for group in highlights(dataset.samples, verdicts) if group.indices],
        more="" if result.web is None else result.web.section,
        style="" if result.web is None else result.web.style,
    )
    judges = {sample.category: own.get(sample.category, detector) for sample in dataset.samples}
    sheet = contact_sheet(
        [
            _card(dataset.samples[index], verdicts[index], judges[dataset.samples[index].category])
            for index in choose_sheet(dataset.samples, verdicts)
        ]
    )
    with atomic_file(result.report.parents[1] / "contact_sheet.png") as temporary:
        cv2.imwrite(str(temporary), sheet)


def highlights(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Group]:
    """Typical finds, which the page begins with, and typical misses, which come below the metrics; see `typical`."""
    groups = []
    for title, is_found in ((FOUND, True), (MISSED, False)):
        total = sum(
            one.label == 1 and each.is_anomalous == is_found for one, each in _pairs(samples, verdicts)
        )
        kind = "found" if is_found else "missed"
        order = (
            f"of each product the defective part in the middle of those {kind}, by its distance from the threshold; "
            f"the product of which most were {kind} first"
        )
        groups.append(Group(title, order, total, tuple(typical(samples, verdicts, found=is_found))))
    return groups


def typical(samples: Sequence[Sample], verdicts: Sequence[Verdict], *, found: bool) -> list[int]:
    """Indices of one defective part of each product: the middle one, by margin, of those found or of those missed.

    Of an even number it is the one closer to the threshold. The product that has most of them comes first; one without
    any is left out.
    """
    ranked = []
    for category in dict.fromkeys(sample.category for sample in samples):
        margins = {
            index: abs(verdict.margin)
            for index, (sample, verdict) in enumerate(_pairs(samples, verdicts))
            if sample.category == category and sample.label == 1 and verdict.is_anomalous == found
        }
        ranked.append(sorted(margins, key=lambda index: margins[index]))
    ranked.sort(key=len, reverse=True)
    return [each[(len(each) - 1) // 2] for each in ranked if each]


def choose_sheet(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[int]:
    """Indices for the contact sheet: the first typical finds, the first typical miss, and a good part.

    The good part is the first of the product whose miss is shown, or of the last one.
    """
    misses = typical(samples, verdicts, found=False)[:1]
    product = samples[misses[0] if misses else -1].category
    good = [i for i, sample in enumerate(samples) if sample.category == product and not sample.label]
    return [*typical(samples, verdicts, found=True)[:SHEET_FOUND], *misses, *good[:1]]


def _pairs(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[tuple[Sample, Verdict]]:
    return list(zip(samples, verdicts, strict=True))


def _card(sample: Sample, verdict: Verdict, detector: Detector) -> Card:
    return make_card(
        sample,
        load_sample(sample),
        verdict,
        title=f"{sample.category}: {sample.defect} ({sample.path.name})",
        map_threshold=detector.bundle.manifest.calibration.map_threshold,
    )


def _about(drawn: bool) -> str:
    shown = "drawn products of kinds" if drawn else "your own images, of products"
    return (
        "Two prompts, “normal object” and “damaged object”, were learned on drawn products. Here the exported "
        f"bundle looks at {shown} that were not in that learning."
    )


def _facts(result: DemoResult) -> list[tuple[str, str]]:
    manifest = result.manifest
    return [
        ("backbone", f"{manifest.backbone.name}, a demonstration"),
        ("network input", f"{manifest.image_size} × {manifest.image_size}, {manifest.grid}² patches"),
        ("layers", ", ".join(map(str, manifest.layers))),
        ("learned on", f"{manifest.prompts['images']} images, {manifest.prompts['epochs']} epochs"),
        ("map against PyTorch", f"within {manifest.parity.anomaly_map:.0e}"),
        ("speed against PyTorch", f"{result.ratio:.1f} times{' (machine busy)' if result.is_noisy else ''}"),
    ]


def _notes(result: DemoResult) -> list[str]:
    parity = result.manifest.parity
    return [
        "The embedded backbone is a small CLIP that was trained on drawings. It shows the road, not the quality "
        "of the method: its scores say nothing about CLIP ViT-L, and it is not for inspection.",
        f"contact_sheet.png shows the first {SHEET_FOUND} pictures of “{FOUND}”, the first of “{MISSED}” and a good "
        "part.",
        f"The export was compared with {parity.reference}, on {parity.frames} frames: log-odds within "
        f"{parity.image_logits:.1e}, maps within {parity.anomaly_map:.1e}.",
        f"Times are medians of {len(result.ours.stages_ms)} frames, one at a time, both pipelines in turn in one "
        "process on this CPU. The reference is the published pipeline: Pillow, eager float32 with attention written "
        "out, one up-sampling per layer, scipy's Gaussian.",
    ]


def _origin(manifest: Manifest, own: Mapping[str, Detector]) -> str:
    """Where the thresholds are from."""
    if not own:
        return f"The threshold is {manifest.calibration.source}; acl calibrate sets others from good parts."
    promise = next(iter(own.values())).bundle.manifest.calibration.source
    return (
        "Each product has its own thresholds, as acl calibrate sets them for a user's product: from further good parts "
        f"of that product alone, none of them among the images judged here. {promise}"
    )


def count_outcome(dataset: Dataset, verdicts: Sequence[Verdict]) -> str:
    """How many defective parts were found and good ones rejected, at the thresholds that were used."""
    pairs = [
        (part.label, verdict.is_anomalous) for part, verdict in zip(dataset.samples, verdicts, strict=True)
    ]
    bad, good = (sum(label == wanted for label, _ in pairs) for wanted in (1, 0))
    return (
        f"{pairs.count((1, True))} of {bad} defective parts found, {pairs.count((0, True))} of {good} good ones "
        "rejected"
    )


def summary(result: DemoResult) -> list[str]:
    """The closing lines on the terminal."""
    mean, parity = result.rows[-1], result.manifest.parity
    return [
        f"on {mean['images']} images of {len(result.rows) - 1} products that were not in the learning:",
        f"  image AUROC {_percent(mean['image_auroc'])}, AP {_percent(mean['image_ap'])}; "
        f"pixel AUROC {_percent(mean['pixel_auroc'])}, AUPRO {_percent(mean['aupro'])}",
        f"  {result.outcome}",
        *([] if result.web is None else [result.web.text()]),
        f"exported against PyTorch: log-odds within {parity.image_logits:.1e}, map within "
        f"{parity.anomaly_map:.1e} (limits {parity.tolerance['image_logits']:g}, "
        f"{parity.tolerance['anomaly_map']:g})",
        f"speed against the published steps in PyTorch: {result.ratio:.1f} times on this CPU, one frame at a time"
        + ("; the machine was busy, so measure again" if result.is_noisy else ""),
        f"look at {result.report}",
        f"next: acl calibrate {result.report.parents[1] / 'bundle'} YOUR_GOOD_PARTS, then acl run on the others",
        "a live station on drawn parts: acl serve --example > station.toml; acl serve station.toml (http://127.0.0.1:8080)",
    ]


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.1f}"
