"""Inspected frames for tests, drawn."""

from __future__ import annotations

import numpy as np

from acl_runtime.report.pictures import Card


def draw_card(title: str = "nut", *, score: float = 0.9, label: int | None = 1, marked: bool = True) -> Card:
    """A grey frame, (30, 60), whose defect is the square in its left half; its map is (20, 20)."""
    frame = np.full((30, 60, 3), 128, np.uint8)
    mask = np.zeros((30, 60), np.bool_)
    mask[10:20, 10:20] = True
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[6:14, 3:7] = 0.75
    return Card(
        title=title,
        frame=frame,
        mask=mask if marked else None,
        anomaly_map=anomaly_map,
        score=score,
        threshold=0.5,
        label=label,
    )
