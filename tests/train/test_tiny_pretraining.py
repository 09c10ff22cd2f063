"""Pre-training of the embedded backbone: photographs, the pairs made of them, and the same seed's weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import InputError
from acl_train.tiny import refine as refine_module
from acl_train.tiny.batches import NO_FAMILY, Batch, collate
from acl_train.tiny.corpus import INVENTED, damage
from acl_train.tiny.inventions import invent_product
from acl_train.tiny.mixture import Plan, mixed_pair, without_damage
from acl_train.tiny.objective import SLIVER, WATCHED, Seen, SentenceObjective
from acl_train.tiny.photo_pairs import nameless_pair
from acl_train.tiny.photographs import (
    CELL,
    MARGIN,
    STEP_ACROSS,
    STEP_DOWN,
    Photograph,
    Source,
    cut_sheet,
    load_photographs,
    read_table,
)
from acl_train.tiny.pretrain import planted_direction, save
from acl_train.tiny.refine import look, move_direction, plant_direction, rate, refine
from acl_train.tiny.sentences import Bank
from acl_train.tiny.tower import build_clip, initialise
from acl_train.weights import TINY_PATH, load_weights

PLAN = Plan(
    steps=3,
    average_from=1,
    average_every=1,
    plant_from=2,
    size=64,
    pairs=2,
    large=72,
    large_pairs=1,
    captions=64,
)


@pytest.fixture(scope="module")
def photographs() -> list[Photograph]:
    """Noise stands for a photograph: what is drawn on it is what is tested."""
    rng = np.random.default_rng(0)
    noise = [cv2.GaussianBlur(rng.integers(0, 256, (140, 160, 3), np.uint8), (0, 0), 2) for _ in range(4)]
    return [Photograph(np.asarray(one, np.uint8), is_seamless=bool(i % 2)) for i, one in enumerate(noise)]


def test_every_photograph_of_the_table_is_free_and_named_once() -> None:
    sources = read_table()
    assert {source.licence for source in sources} == {"CC0-1.0", "public domain"}
    assert {source.kind for source in sources} == {"photograph", "sheet"}
    assert len({source.sha256 for source in sources}) > 80
    places = [(source.package, source.path) for source in sources]
    assert len(set(places)) == len(places)


def test_a_sheet_is_cut_into_its_photographs_and_what_is_no_full_square_is_left_out() -> None:
    sheet = np.full((MARGIN + 2 * STEP_DOWN, 3 * STEP_ACROSS + MARGIN, 3), 255, np.uint8)
    shapes = [[(CELL, CELL), (CELL, 100), (CELL, 60)], [(CELL, CELL), (40, CELL), (0, 0)]]
    for row, line in enumerate(shapes):
        for column, (height, width) in enumerate(line):
            top, left = MARGIN + row * STEP_DOWN, MARGIN + column * STEP_ACROSS
            sheet[top : top + height, left : left + width] = 10 * (1 + 3 * row + column)
    cells = cut_sheet(sheet)
    assert [(cell.shape, int(cell[0, 0, 0]), int(cell.max())) for cell in cells] == [
        ((CELL - 4, CELL - 4, 3), 10, 10),
        ((CELL - 4, 96, 3), 20, 20),
        ((CELL - 4, CELL - 4, 3), 40, 40),
    ]


def test_a_photograph_that_is_missing_or_another_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "package" / "a.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.full((8, 9, 3), 7, np.uint8))
    source = Source("package", "a.png", "CC0-1.0", "photograph", sha256(path))
    (found,) = load_photographs(tmp_path, [source])
    assert found.image.shape == (8, 9, 3)
    for wrong in (replace(source, sha256="0" * 64), replace(source, path="b.png")):
        with pytest.raises(InputError, match="is missing or another file than photographs.tsv names; unpack"):
            load_photographs(tmp_path, [wrong])


def test_a_pair_of_photographs_differs_where_its_coverage_says(photographs: list[Photograph]) -> None:
    for index in range(12):
        pair = nameless_pair(5, index, photographs, size=64, patch=8)
        change = np.abs(pair.images[0].astype(int) - pair.images[1]).max(axis=2)
        covered = cv2.resize(pair.coverage, (64, 64), interpolation=cv2.INTER_NEAREST) > 0
        near = cv2.dilate(covered.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # the camera and JPEG blur
        assert pair.family is None
        assert pair.defects
        assert covered.any()
        if pair.defects != ("warp",):  # it moves edges, and blurred noise has none
            assert change[covered].max() > np.quantile(change[~near], 0.99) + 8  # a thread covers little


def test_the_same_number_makes_the_same_pair_and_a_clean_one_has_no_damage(
    photographs: list[Photograph],
) -> None:
    for index in range(8):
        first, again = (mixed_pair(1, index, photographs, size=48) for _ in range(2))
        np.testing.assert_array_equal(first.images, again.images)
        assert first.family == again.family
    clean = without_damage(first)
    batch = collate([first, clean])
    assert batch.damaged.tolist() == [False, bool(first.defects), False, False]
    assert not batch.coverage[2:].any()
    assert (collate([nameless_pair(1, 0, photographs, size=48, patch=8)]).family == NO_FAMILY).all()


def test_an_invented_product_differs_from_its_damaged_twin_inside_the_damage_only() -> None:
    for index in range(24):
        rng = np.random.default_rng((7, index))
        product = invent_product(rng, 96)
        assert product.image.shape == (96, 96, 3)
        assert product.image.dtype == product.body.dtype == np.float32
        assert 0 <= product.image.min() <= product.image.max() <= 1
        assert product.body.mean() > 0.05
        image, mask = damage(product, INVENTED, rng)
        assert (image[~mask] == product.image[~mask]).all()
        assert mask.any()
        assert np.abs(image - product.image)[mask].mean() > 0.02, index


def test_the_second_path_is_seen_as_the_tower_itself_says_and_left_out_where_it_is_not_wanted(
    photographs: list[Photograph],
) -> None:
    model = build_clip(64)
    torch.manual_seed(3)
    initialise(model)
    batch = collate([nameless_pair(5, 1, photographs, size=64, patch=8)])
    with torch.no_grad():
        images, patches = model.visual(batch.images)
        both, one = (look(model.visual, batch, second_path=way) for way in (True, False))
    torch.testing.assert_close(both.image, images, atol=0.02, rtol=0)  # bfloat16
    torch.testing.assert_close(both.patches, patches, atol=0.02, rtol=0)
    torch.testing.assert_close(one.image, both.image, atol=0.02, rtol=0)
    assert one.patches is None
    assert [tokens.shape for tokens in one.ordinary] == len(WATCHED) * [(2, 64, 128)]


def general_objective() -> SentenceObjective:
    """Four captions, which name no product; damage is along the first axis."""
    general = torch.full((4,), -1)
    bank = Bank(torch.eye(4), torch.tensor([True, False, True, False]), general, general)
    return SentenceObjective(bank, torch.eye(4)[0], width=4)


def batch_of(coverage: torch.Tensor) -> Batch:
    """Black pictures of 3×3 patches with that (B, 9) damage."""
    count = len(coverage)
    return Batch(
        images=torch.zeros(count, 3, 8, 8),
        coverage=coverage,
        damaged=coverage.any(dim=1),
        family=torch.zeros(count, dtype=torch.int64),
        defects=torch.zeros(count, 1, dtype=torch.bool),
        grid=3,
    )


def test_the_damaged_picture_of_a_pair_shall_score_higher_and_slivers_count_as_neither() -> None:
    objective = general_objective()
    coverage = torch.zeros(6, 9)
    coverage[1, 0], coverage[3, 0] = 1.0, SLIVER / 2
    batch = batch_of(coverage)
    right, wrong = torch.zeros(6, 4), torch.zeros(6, 4)
    right[1, 0] = wrong[0, 0] = 0.1
    neither = right.clone()
    neither[3, 0] = 0.1
    assert objective.image_loss(right, batch) < objective.image_loss(wrong, batch) - 0.5
    assert objective.image_loss(neither, batch) == objective.image_loss(right, batch)


def test_the_planted_direction_becomes_the_sentences_own() -> None:
    model = build_clip(48)
    torch.manual_seed(3)
    initialise(model)
    planted, state = torch.eye(128)[5], torch.eye(128)[9]
    tokens = torch.randn(7, 128)
    before = tokens @ model.visual.proj
    move_direction(model, planted, state)
    after = tokens @ model.visual.proj
    torch.testing.assert_close(after[:, 9], before[:, 9] + before[:, 5])
    torch.testing.assert_close(after[:, 5], torch.zeros(7), atol=1e-5, rtol=0)
    plant_direction(model, state, planted)
    again = tokens @ model.visual.proj
    torch.testing.assert_close(again[:, [5, 9]], after[:, [9, 9]])


def test_patches_shall_mark_damage_along_the_planted_direction_and_be_silent_along_the_sentences() -> None:
    objective = general_objective()
    coverage = torch.zeros(2, 9)
    coverage[1, 0] = 1.0
    batch = batch_of(coverage)
    losses = []
    for planted in (None, torch.eye(4)[1]):
        for axis in (0, 1):
            torch.manual_seed(0)  # of the captions
            patches = torch.zeros(2, 1, 9, 4)
            patches[..., axis] = -0.1
            patches[1, 0, 0, axis] = 0.1
            seen = Seen(torch.zeros(2, 4), patches, 3 * (torch.zeros(2, 9, 4),))
            losses.append(objective(seen, batch, planted).item())
    along_sentences, aside, not_silent, as_planted = losses
    assert along_sentences < aside
    assert as_planted < not_silent


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(
    photographs: list[Photograph], tmp_path: Path
) -> None:
    losses: list[float] = []
    whole = refine(TINY_PATH, photographs, PLAN, seed=0, beside=False, report=losses.append)
    kept = tmp_path / "checkpoint.pt"
    refine(TINY_PATH, photographs, PLAN, seed=0, checkpoint=kept, every=2, beside=False)
    resumed = refine(TINY_PATH, photographs, PLAN, seed=0, checkpoint=kept, beside=False)
    for (name, tensor), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert len(losses) == PLAN.steps
    started = build_clip(48).state_dict().keys()
    assert started == whole.state_dict().keys()
    other = tmp_path / "other.pt"
    shutil.copy(kept, other)
    for another in (replace(PLAN, size=56), replace(PLAN, average_every=2)):  # a mean of other weights
        with pytest.raises(InputError, match="is the checkpoint of another seed or plan"):
            refine(TINY_PATH, photographs, another, seed=0, checkpoint=other)


def test_the_direction_is_planted_into_the_mean_of_weights_along_the_way(
    photographs: list[Photograph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, after = tmp_path / "checkpoint.pt", []

    def look_at_kept(_: float = 0.0) -> None:
        if kept.is_file():
            after.append(load_file(kept)["model/visual.conv1.weight"])

    monkeypatch.setattr(refine_module, "rate", lambda _, step: 0.0 if step == 3 else 1e-3)
    plan = replace(PLAN, steps=4, plant_from=3)
    refine(TINY_PATH, photographs, plan, seed=0, checkpoint=kept, every=1, beside=False, report=look_at_kept)
    look_at_kept()
    assert not torch.equal(after[0], after[2])
    torch.testing.assert_close(after[3], sum(after[:3]) / 3)


def test_a_mean_is_of_weights_before_the_direction_is_planted() -> None:
    assert [step for step in range(6400) if Plan().averages(step)] == list(range(3200, 5601, 400))
    with pytest.raises(InputError, match=r"average_from must be at most plant_from \(5600\)"):
        Plan(average_from=5601)


def test_every_fifth_batch_is_of_larger_pictures_and_the_rate_rises_shortly_then_falls_to_nothing() -> None:
    plan = Plan(steps=1000)
    shapes = [plan.shape(step) for step in range(10)]
    assert shapes == 2 * [*(4 * [(24, 112)]), (10, 168)]
    assert (Plan(steps=5601).plants, Plan(steps=5600).plants) == (True, False)
    rates = [rate(plan, step) for step in (0, 99, 500, 999)]
    assert rates == pytest.approx([1.5e-5, 1.5e-3 * 0.901, 7.5e-4, 1.5e-6])


def test_a_direction_is_moved_once(photographs: list[Photograph], tmp_path: Path) -> None:
    planted, moved = tmp_path / "planted.safetensors", tmp_path / "moved.safetensors"
    model = build_clip(112)
    model.load_state_dict({name: tensor.float() for name, tensor in load_weights("tiny").state.items()})
    direction = planted_direction(0)
    along = (model.visual.proj @ direction).norm()
    for path, is_moved in ((planted, False), (moved, True)):
        save(model, path, planted=not is_moved)
        after = refine(path, photographs, replace(PLAN, steps=1), seed=0, beside=False).visual.proj
        assert ((after @ direction).norm() < 0.2 * along) == (not is_moved)


def test_text_stays_as_it_is_and_pictures_move(photographs: list[Photograph]) -> None:
    start = load_weights("tiny").state
    after = refine(TINY_PATH, photographs, replace(PLAN, steps=1), seed=0, beside=False).state_dict()
    for name, tensor in after.items():
        if name.startswith("visual.transformer") and name.endswith("in_proj_weight"):
            assert not torch.equal(tensor, start[name].float()), name
        if not name.startswith("visual."):
            assert torch.equal(tensor, start[name].float()), name
    assert F.cosine_similarity(after["visual.proj"], start["visual.proj"].float()).mean() > 0.5
