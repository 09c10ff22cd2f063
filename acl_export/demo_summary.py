"""`summary.json` of the demonstration: its figures, for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from acl_export.demo_report import DemoResult
from acl_runtime.data.datasets import Dataset
from acl_runtime.detection.verdict import Verdict
from acl_runtime.files.atomic import atomic_file

SUMMARY = "summary.json"


def write_summary(
    folder: Path,
    result: DemoResult,
    dataset: Dataset,
    verdicts: Sequence[Verdict],
    *,
    promised_overkill: float | None,
) -> None:
    """Write it.

    Args:
        folder: Of the demonstration.
        result: What was found.
        dataset: The images that were judged.
        verdicts: Theirs, in the order of the data set.
        promised_overkill: Share of good parts that the thresholds were to reject at most; None for the default ones.
    """
    pairs = [
        (part.label, verdict.is_anomalous) for part, verdict in zip(dataset.samples, verdicts, strict=True)
    ]
    mean = result.rows[-1]
    figures = {
        "defective": sum(label == 1 for label, _ in pairs),
        "defective_found": pairs.count((1, True)),
        "good": sum(label == 0 for label, _ in pairs),
        "good_rejected": pairs.count((0, True)),
        "promised_overkill": promised_overkill,
        **{name: mean[name] for name in ("image_auroc", "image_ap", "pixel_auroc", "aupro")},
        "max_map_difference": result.manifest.parity.anomaly_map,
        "speed_ratio": result.ratio,
        "web": None if result.web is None else result.web.as_dict(),
    }
    with atomic_file(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
