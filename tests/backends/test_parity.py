"""Golden images at every batch size find the faults that a single image would hide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import reference, write_tiny_bundle

from acl_runtime.backends.parity import ROUNDS, GoldenImages
from acl_runtime.bundle.bundle import load_bundle

Outputs = dict[str, np.ndarray]


class Session:
    """Computes the tiny model in numpy, then spoils the answers."""

    backend, provider = "stand-in", "numpy"

    def __init__(self, spoil: Callable[[Outputs, int], None]) -> None:
        self.spoil, self.calls = spoil, 0

    def __call__(self, images: np.ndarray) -> Outputs:
        outputs = {name: array.copy() for name, array in reference(images).items() if name != "patch_logits"}
        self.spoil(outputs, self.calls)
        self.calls += 1
        return outputs

    def close(self) -> None:
        pass


@pytest.fixture
def golden(tmp_path: Path) -> GoldenImages:
    return GoldenImages(load_bundle(write_tiny_bundle(tmp_path / "bundle")))


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_right_answer_is_within_rounding(golden: GoldenImages, batch: int) -> None:
    found = golden.compare(Session(lambda outputs, call: None), batch=batch)
    assert (found.batch, found.image_logits < 1e-5, found.anomaly_map < 1e-6) == (batch, True, True)


def test_the_other_head_is_read_too(tmp_path: Path) -> None:
    golden = GoldenImages(load_bundle(write_tiny_bundle(tmp_path / "bundle", head="embeddings")))

    def only_embeddings(outputs: Outputs, call: int) -> None:
        del outputs["image_logits"], outputs["anomaly_maps"]

    def turned(outputs: Outputs, call: int) -> None:
        only_embeddings(outputs, call)
        outputs["patch_embeddings"] *= -1

    assert golden.compare(Session(only_embeddings), batch=2).anomaly_map < 1e-6
    assert golden.compare(Session(turned), batch=2).anomaly_map > 0.1


def test_every_image_is_seen_in_more_than_one_place_of_the_batch(golden: GoldenImages) -> None:
    seen: set[tuple[int, bytes]] = set()

    class Watch(Session):
        def __call__(self, images: np.ndarray) -> Outputs:
            seen.update((row, image.tobytes()) for row, image in enumerate(images))
            return super().__call__(images)

    golden.compare(Watch(lambda outputs, call: None), batch=2)
    images = {image for _, image in seen}
    assert len(images) == len(golden) == 2
    assert len(seen) == 4


def spoil_last_row(outputs: Outputs, call: int) -> None:
    if len(outputs["anomaly_maps"]) > 1:
        outputs["anomaly_maps"][-1] += 0.25


def spoil_replayed(outputs: Outputs, call: int) -> None:
    if call == ROUNDS - 1:
        outputs["image_logits"] += 0.5


def test_a_fault_of_the_last_row_is_found_only_in_a_batch(golden: GoldenImages) -> None:
    assert golden.compare(Session(spoil_last_row), batch=1).anomaly_map < 1e-6
    assert golden.compare(Session(spoil_last_row), batch=3).anomaly_map == pytest.approx(0.25, abs=1e-5)


def test_a_fault_of_the_last_call_is_found(golden: GoldenImages) -> None:
    assert golden.compare(Session(spoil_replayed), batch=8).image_logits == pytest.approx(0.5, abs=1e-4)


def test_answers_that_stay_those_of_the_first_call_are_found(golden: GoldenImages) -> None:
    first: Outputs = {}

    def repeat(outputs: Outputs, call: int) -> None:
        first.update(first or {name: array.copy() for name, array in outputs.items()})
        for name, array in outputs.items():
            array[...] = first[name]

    assert golden.compare(Session(repeat), batch=1).anomaly_map > 1e-2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_infinitely_far(golden: GoldenImages, value: float) -> None:
    def spoil(outputs: Outputs, call: int) -> None:
        outputs["anomaly_maps"][0, 0, 0] = value

    found = golden.compare(Session(spoil), batch=1)
    assert (found.image_logits, found.anomaly_map) == (np.inf, np.inf)
