"""The evidence of a calibration is read as strictly as the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from parts import judged, make_record

from acl_runtime.calibration.monitor import DriftMonitor
from acl_runtime.calibration.record import CalibrationRecord, record_from_json, record_to_json

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def record() -> CalibrationRecord:
    rng = np.random.default_rng(0)
    good = judged(rng.uniform(0, 0.5, 40).tolist(), rng.uniform(0, 0.3, 40).tolist())
    return make_record(good, judged([0.4, 0.9], [0.2, 0.8], "bad"), threshold=0.5)


def test_the_keys_of_the_record_are_these(record: CalibrationRecord) -> None:
    document = json.loads(record_to_json(record))
    assert sorted(document) == sorted(
        [
            *("format", "format_version", "created", "statement", "rule", "score_threshold", "map_threshold"),
            *("tiling", "fast_resize", "max_overkill", "promised_overkill", "confidence", "hidden_defects"),
            *(
                "images",
                "scale_images",
                "copies",
                "rejected",
                "escapes",
                "seed",
                "backend",
                "provider",
                "precision",
            ),
            *("tools", "good", "sets_scales", "defective", "memory", "previous", "previous_calibration"),
        ]
    )
    assert document["format"] == "anomalyclip-calibration"
    assert sorted(document["good"]) == ["brightness", "peak", "score", "sharpness", "source"]
    assert sorted(document["escapes"]) == ["images", "missed", "sources"]
    assert record_from_json(record_to_json(record)) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="zip"), "is no calibration"),
        (lambda d: d.update(format_version=4, more=1), "newer than 3; upgrade anomalyclip-deploy"),
        (lambda d: d.pop("statement"), "calibration lacks the key 'statement'"),
        (lambda d: d.update(images=3), "good and sets_scales must be 3 long, as images says, got 40 and 40"),
        (lambda d: d["good"]["peak"].pop(), r"good\.peak must be as long as good\.source, got 39"),
        (lambda d: d["good"]["score"].__setitem__(0, "1"), r"calibration\.good\.score\[0\] must be a finite"),
    ],
)
def test_a_record_that_is_none_is_refused(record: CalibrationRecord, change: Edit, message: str) -> None:
    document = json.loads(record_to_json(record))
    change(document)
    with pytest.raises(ValueError, match=message):
        record_from_json(json.dumps(document))
    with pytest.raises(ValueError, match="is not valid JSON"):
        record_from_json("{")


def test_drift_can_be_watched_from_a_record(record: CalibrationRecord) -> None:
    monitor = DriftMonitor(record.good.quantities, window=4)
    usual = {name: float(np.median(values)) for name, values in record.good.quantities.items()}
    assert [monitor.add(usual) for _ in range(8)] == [[]] * 8
