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

from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import InputError
from acl_train.tiny.batches import NO_FAMILY, Batch, collate
from acl_train.tiny.mixture import Plan, mixed_pair, without_damage
from acl_train.tiny.objective import SLIVER, WATCHED, SentenceObjective
from acl_train.tiny.photo_pairs import photo_pair
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
from acl_train.tiny.refine import look, move_direction, rate, refine
from acl_train.tiny.sentences import Bank
from acl_train.tiny.tower import build_clip, initialise
from acl_train.tiny.windows import ELSEWHERE, OVER, collate_windows

PLAN = Plan(steps=3, whole_from=2, pairs=2, size=64, whole_pairs=1, large=72, large_pairs=1, captions=64)


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
        pair = photo_pair(5, index, photographs, size=64, patch=8)
        change = np.abs(pair.images[0].astype(int) - pair.images[1]).max(axis=2)
        covered = cv2.resize(pair.coverage, (64, 64), interpolation=cv2.INTER_NEAREST) > 0
        near = cv2.dilate(covered.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # the camera and JPEG blur
        assert pair.family is None
        assert pair.defects
        assert covered.any()
        assert change[covered].mean() > change[~near].mean() + 3


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
    assert (collate([photo_pair(1, 0, photographs, size=48, patch=8)]).family == NO_FAMILY).all()


def test_a_window_shows_the_part_of_the_picture_that_its_cells_name(photographs: list[Photograph]) -> None:
    pair = photo_pair(5, 1, photographs, size=96, patch=8)  # 12² patches
    whole = collate([pair])
    batch = collate_windows(np.random.default_rng(0), [pair])
    assert batch.cells is not None
    assert (len(batch.images), batch.paired, batch.grid) == (2 * OVER + ELSEWHERE, 2 * OVER, 12)
    patches = F.unfold(whole.images, 8, stride=8).transpose(1, 2)  # (2, 144, 192)
    for number, cells in enumerate(batch.cells):
        picture = number % 2 if number < batch.paired else 1
        shown = F.unfold(batch.images[number : number + 1], 8, stride=8)[0].T
        assert torch.equal(shown, patches[picture, cells])
        assert torch.equal(batch.coverage[number], whole.coverage[picture, cells])
    assert batch.damaged[: batch.paired].tolist() == OVER * [False, True]  # over the damage


def test_a_window_that_is_the_whole_picture_is_seen_as_that(photographs: list[Photograph]) -> None:
    model = build_clip(64)
    torch.manual_seed(3)
    initialise(model)
    pair = photo_pair(5, 1, photographs, size=64, patch=8)
    whole, windows = collate([pair]), collate_windows(np.random.default_rng(0), [pair])
    with torch.no_grad():
        seen, parts = look(model.visual, whole), look(model.visual, windows)
    torch.testing.assert_close(parts.image[:2], seen.image, atol=0.02, rtol=0)  # bfloat16
    torch.testing.assert_close(parts.patches[:2], seen.patches, atol=0.02, rtol=0)
    assert [tokens.shape for tokens in seen.ordinary] == len(WATCHED) * [(2, 64, 128)]


def test_the_damaged_picture_of_a_pair_shall_score_higher_and_slivers_count_as_neither() -> None:
    bank = Bank(
        torch.eye(4), *(torch.zeros(4, dtype=kind) for kind in (torch.bool, torch.int64, torch.int64))
    )
    objective = SentenceObjective(bank, torch.eye(4)[0], width=4)
    coverage = torch.zeros(6, 9)
    coverage[1, 0], coverage[3, 0] = 1.0, SLIVER / 2
    batch = Batch(
        images=torch.zeros(6, 3, 8, 8),
        coverage=coverage,
        damaged=coverage.any(dim=1),
        family=torch.zeros(6, dtype=torch.int64),
        defects=torch.zeros(6, 1, dtype=torch.bool),
        paired=4,
        grid=3,
    )
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


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(
    photographs: list[Photograph], tmp_path: Path
) -> None:
    losses: list[float] = []
    whole = refine(None, photographs, PLAN, seed=0, beside=False, report=losses.append)
    kept = tmp_path / "checkpoint.pt"
    refine(None, photographs, PLAN, seed=0, checkpoint=kept, every=2, beside=False)
    resumed = refine(None, photographs, PLAN, seed=0, checkpoint=kept, beside=False)
    for (name, tensor), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert len(losses) == PLAN.steps
    started = build_clip(48).state_dict().keys()
    assert started == whole.state_dict().keys()
    other = tmp_path / "other.pt"
    shutil.copy(kept, other)
    with pytest.raises(InputError, match="is the checkpoint of another seed or plan"):
        refine(None, photographs, replace(PLAN, size=56), seed=0, checkpoint=other)


def test_windows_come_first_and_whole_pictures_last_while_the_rate_falls() -> None:
    plan = Plan(steps=100, whole_from=85)
    shapes = [plan.shape(step) for step in range(plan.steps)]
    whole = [is_whole for _, _, is_whole in shapes]
    assert whole[:85] == [step % 8 == 7 for step in range(85)]
    assert all(whole[85:])
    assert {size for _, size, _ in shapes[:85]} == {size for _, size, _ in shapes[85:]} == {112, 168}
    rates = [rate(replace(plan, steps=1000, whole_from=850), step) for step in (0, 99, 849, 925, 999)]
    assert rates == pytest.approx([1e-5, 1e-3, 1e-3, 5e-4, 1e-3 / 150])


def test_text_stays_as_it_is_and_pictures_move(photographs: list[Photograph]) -> None:
    from acl_train.weights import load_weights

    start = load_weights("tiny").state
    after = refine(None, photographs, replace(PLAN, steps=1, whole_from=0), seed=0, beside=False).state_dict()
    for name, tensor in after.items():
        if name.startswith("visual.transformer") and name.endswith("in_proj_weight"):
            assert not torch.equal(tensor, start[name].float()), name
        if not name.startswith("visual."):
            assert torch.equal(tensor, start[name].float()), name
    assert F.cosine_similarity(after["visual.proj"], start["visual.proj"].float()).mean() > 0.5
