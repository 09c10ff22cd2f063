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
from acl_runtime.report.contact_sheet import contact_sheet
from acl_runtime.report.evaluation import write_eval_report
from acl_runtime.report.pictures import Card, make_card
from acl_runtime.scoring.rule import bundle_rule, rule_words

CANDIDATES = 24  # frames that the contact sheet chooses from
SHEET_CARDS = 4  # most defective parts on the contact sheet


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
    *,
    drawn: bool,
) -> None:
    """Write the evaluation's page and, in the folder above it, `contact_sheet.png`.

    Args:
        result: What was found.
        evaluation: The images that were judged.
        verdicts: Theirs, in the order of the data set.
        detector: That judged them.
        drawn: Whether the images are drawn ones, not the user's own.
    """
    write_eval_report(
        result.report.parent,
        [evaluation],
        detector,
        rule=detector.rule,
        facts=_facts(result),
        notes=[_about(drawn), *_notes(result)],
        more="" if result.web is None else result.web.section,
        style="" if result.web is None else result.web.style,
    )
    sheet = contact_sheet(_sheet_cards(evaluation.dataset, verdicts, detector))
    with atomic_file(result.report.parents[1] / "contact_sheet.png") as temporary:
        cv2.imwrite(str(temporary), sheet)


def _sheet_cards(dataset: Dataset, verdicts: Sequence[Verdict], detector: Detector) -> list[Card]:
    """A few defective parts, and a good one."""
    map_threshold = detector.bundle.manifest.calibration.map_threshold
    cards = [
        _card(dataset.samples[index], verdicts[index], map_threshold)
        for index in choose_samples(dataset, CANDIDATES)
    ]
    defective = [card for card in cards if card.label][::2][:SHEET_CARDS]
    return [*defective, *[card for card in cards if not card.label][:1]]


def choose_samples(dataset: Dataset, limit: int) -> list[int]:
    """Indices of one good and two defective parts of every category, then more of them, up to `limit`.

    Chosen by order and not by looks: each category begins two defective parts later than the one before, so
    that more kinds of defect are seen.
    """
    rounds: list[tuple[int, int]] = []  # (turn, index)
    for number, category in enumerate(dataset.categories):
        parts = [(index, part) for index, part in enumerate(dataset.samples) if part.category == category]
        good = [index for index, part in parts if not part.label]
        bad = [index for index, part in parts if part.label]
        start = 2 * number % max(1, len(bad))
        rounds += enumerate(good)
        rounds += ((turn // 2, index) for turn, index in enumerate(bad[start:] + bad[:start]))
    return sorted(index for _, index in sorted(rounds)[:limit])


def _card(sample: Sample, verdict: Verdict, map_threshold: float) -> Card:
    title = f"{sample.category}: {sample.defect} ({sample.path.name})"
    return make_card(sample, load_sample(sample), verdict, title=title, map_threshold=map_threshold)


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
        f"A part is NG from {rule_words(bundle_rule(result.manifest.calibration))}. {_origin(result.manifest)}",
        "The frames of contact_sheet.png were chosen by order, not by looks.",
        f"The export was compared with {parity.reference}, on {parity.frames} frames: log-odds within "
        f"{parity.image_logits:.1e}, maps within {parity.anomaly_map:.1e}.",
        f"Times are medians of {len(result.ours.stages_ms)} frames, one at a time, both pipelines in turn in one "
        "process on this CPU. The reference is the published pipeline: Pillow, eager float32 with attention written "
        "out, one up-sampling per layer, scipy's Gaussian.",
    ]


def _origin(manifest: Manifest) -> str:
    """Where the thresholds are from."""
    if manifest.calibration.record is None:
        return "This is the default threshold, an arbitrary 0.5; acl calibrate sets others."
    promise = manifest.calibration.source
    return f"The thresholds were set on further good parts of all these products together. {promise}"


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
    ]


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.1f}"
