"""An image that cannot be judged is named, is in no figure, and the others are measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import HALF, draw_dataset, judge_by, judge_dataset

from acl_runtime.data.datasets import Dataset
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import evaluate_dataset, evaluate_together
from acl_runtime.evaluation.tables import csv_table, json_text, terminal_table
from acl_runtime.files.errors import BackendError, FrameError, InputError
from acl_runtime.report.evaluation import write_eval_report

Detect = Callable[[np.ndarray], Verdict]
MARK = 250  # grey of the part whose frame fails


def without(dataset: Dataset, index: int) -> Dataset:
    kept = [sample for number, sample in enumerate(dataset.samples) if number != index]
    return replace(dataset, samples=tuple(kept))


def failing(error: Exception) -> Detect:
    """A detector that fails on one frame."""

    def detect(frame: np.ndarray) -> Verdict:
        if frame.max() == MARK:
            raise error
        return judge_by(HALF)(frame)

    return detect


def unsure(value: float) -> Detect:
    """A detector whose score is not a number on one frame."""

    def detect(frame: np.ndarray) -> Verdict:
        verdict = judge_by(HALF)(frame)
        return replace(verdict, score=value, peak=value) if frame.max() == MARK else verdict

    return detect


@pytest.mark.parametrize(
    ("detect", "problem"),
    [
        (failing(FrameError("has 3 channels, 1 is needed")), "has 3 channels, 1 is needed"),
        (failing(MemoryError()), "takes more memory than there is"),
        (failing(OSError(5, "Input/output error")), "Input/output error"),
        (unsure(math.nan), "its score is not finite; run acl doctor on the bundle"),
        (unsure(math.inf), "its score is not finite; run acl doctor on the bundle"),
    ],
)
def test_whatever_fails_for_one_frame_is_a_bad_frame_with_its_name(
    tmp_path: Path, detect: Detect, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = draw_dataset(tmp_path / "data", ("nut",))
    with caplog.at_level("INFO", "acl"):
        evaluation = evaluate_dataset(dataset, detect)
    path = dataset.samples[8].path
    assert [(bad.source, bad.index, bad.problem) for bad in evaluation.bad] == [
        (str(path), 8, f"{path}: {problem}")
    ]
    assert caplog.messages == [f"bad frame: {path}: {problem}"]
    expected = judge_dataset(without(dataset, 8))
    assert evaluation.rows == expected.rows
    assert evaluation.categories[0].indices == tuple(range(8))
    note = f"1 of 9 images could not be judged and are in no figure: {path}: {problem}"
    assert note in evaluation.notes
    document = json.loads(json_text([evaluation], settings={}))
    assert document["bad_frames"] == [
        {"dataset": "parts", "source": str(path), "problem": f"{path}: {problem}"}
    ]
    assert "1 of 9 images could not be judged" in terminal_table([evaluation])
    assert csv_table([evaluation]) == csv_table([expected])
    page = write_eval_report(
        tmp_path, [evaluation], judge_by(HALF), rule=HALF, facts=[], notes=[]
    ).read_text()
    assert "parts: 8 images, judged one by one" in page
    assert "1 of 9 images could not be judged and are in no figure" in page


@pytest.mark.parametrize("damage", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_damaged_file_is_a_bad_frame(tmp_path: Path, damage: bytes) -> None:
    dataset = draw_dataset(tmp_path, ("nut", "bolt"))
    dataset.samples[2].path.write_bytes(damage)
    evaluation = evaluate_dataset(dataset, judge_by(HALF))
    assert [bad.index for bad in evaluation.bad] == [2]
    assert [row["images"] for row in evaluation.rows] == [8, 9, 17]


def test_a_file_that_went_away_is_a_bad_frame_and_one_detector_s_failure_counts_for_all(
    tmp_path: Path,
) -> None:
    dataset = draw_dataset(tmp_path, ("nut",))
    dataset.samples[0].path.unlink()
    compared: list[int] = []
    ours, theirs = evaluate_together(
        dataset,
        [judge_by(HALF), failing(MemoryError())],
        compare=lambda verdicts: compared.append(len(verdicts)),
    )
    assert [bad.index for bad in ours.bad] == [bad.index for bad in theirs.bad] == [0, 8]
    assert ours.categories[0].indices == theirs.categories[0].indices == tuple(range(1, 8))
    assert compared == [2] * 7


def test_a_category_without_a_judged_image_has_no_row_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path, ("nut", "bolt"))
    for sample in dataset.samples[:9]:
        sample.path.write_bytes(b"")
    evaluation = evaluate_dataset(dataset, judge_by(HALF))
    assert [row["category"] for row in evaluation.rows] == ["bolt", "mean"]
    (note,) = evaluation.notes
    assert note.startswith("9 of 18 images could not be judged")
    assert note.endswith("; and 6 more")
    for sample in dataset.samples[9:]:
        sample.path.write_bytes(b"")
    with pytest.raises(InputError, match="none of its 18 images could be judged; .*000.png: is empty"):
        evaluate_dataset(dataset, judge_by(HALF))


def test_a_backend_that_fails_ends_the_evaluation(tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path, ("nut",))
    with pytest.raises(BackendError):
        evaluate_dataset(dataset, failing(BackendError("the GPU is gone")))
