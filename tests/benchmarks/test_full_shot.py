"""PatchCore and RD4AD beside ours: the same readers and metrics; with anomalib installed, its own engine's numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.data.datasets import Sample, load_mask, read_dataset
from acl_runtime.evaluation.metrics import evaluate
from acl_runtime.files.errors import InputError
from acl_train.features import load_images
from acl_train.tiny.corpus import draw_dataset
from benchmarks import full_shot
from benchmarks.full_shot import FullShot, fit, judge_of, scaled, training_images
from benchmarks.paper_rows import FULL, FULL_SHOT
from benchmarks.paper_text import to_text

SIZE = 64


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn pictures of wood, six with scratches, and six further good ones to train on."""
    root = tmp_path_factory.mktemp("products")
    sizes: dict[str, Any] = {"families": ["wood"], "size": SIZE}
    draw_dataset(root, defects=["scratch"], good=6, defective=6, seed=1, **sizes)
    draw_dataset(root / "pool", defects=(), good=6, defective=0, seed=2, **sizes)
    (root / "pool" / "wood" / "test").rename(root / "wood" / "train")
    return root


def test_the_images_to_train_on_are_those_of_the_product(products: Path) -> None:
    good = training_images(products, "wood")
    assert len(good) == 6
    assert {(sample.category, sample.label) for sample in good} == {("wood", 0)}
    with pytest.raises(InputError, match="has no images in brick/train/good or train/good"):
        training_images(products, "brick")


def test_without_anomalib_it_says_which_extra(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anomalib", None)
    with pytest.raises(InputError, match=r"pip install 'anomalyclip-deploy\[full-shot\]'"):
        fit("patchcore", training_images(products, "wood"), FullShot())


def test_distances_keep_their_order_and_lie_between_0_and_1() -> None:
    maps = np.random.default_rng(0).normal(5, 3, (3, 4, 4)).astype(np.float32)
    found = scaled(maps)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)
    np.testing.assert_array_equal(found.ravel().argsort(), maps.ravel().argsort())
    assert not scaled(np.ones((2, 3, 3), np.float32)).any()


def test_table_12_has_the_papers_numbers_below_ours() -> None:
    record = {"seed": 1, "group": "VisA", **dict.fromkeys(("image_auroc", "image_ap"), 0.5)}
    record |= dict.fromkeys(("pixel_auroc", "aupro"), 0.5)
    labels = [FULL.label, *(row.label for row in FULL_SHOT)]
    table = to_text("12", {label: [record] for label in labels}, {"VisA": "VisA"}, {})
    assert all(label in table for label in labels)
    assert "94.6 / 95.9" in table  # PatchCore's


def _write(samples: list[Sample], folder: Path, masks: Path | None = None) -> None:
    folder.mkdir(parents=True)
    if masks is not None:
        masks.mkdir(parents=True)
    for number, sample in enumerate(samples):
        image = load_images([sample], image_size=SIZE)[0]
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
        if masks is not None:
            mask = load_mask(sample, height=SIZE, width=SIZE)
            cv2.imwrite(str(masks / f"{number}.png"), 255 * mask.astype(np.uint8))


@pytest.mark.filterwarnings("ignore")
def test_patchcore_gives_the_numbers_of_anomalibs_own_engine(products: Path, tmp_path: Path) -> None:
    """Random weights, shared by both; the images have the network's size, so that nobody resizes them."""
    pytest.importorskip("anomalib")
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.metrics import AUROC, Evaluator
    from anomalib.models import Patchcore
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    good, samples = training_images(products, "wood"), list(read_dataset(products).samples)
    _write(good, tmp_path / "train")
    _write([sample for sample in samples if not sample.label], tmp_path / "good")
    _write([sample for sample in samples if sample.label], tmp_path / "bad", tmp_path / "masks")
    settings = FullShot("resnet18", False, SIZE, coreset=1.0)
    model = Patchcore(
        backbone=settings.backbone,
        layers=full_shot.LAYERS["patchcore"],
        pre_trained=False,
        coreset_sampling_ratio=settings.coreset,
        num_neighbors=full_shot.NEIGHBORS,
        evaluator=Evaluator(
            test_metrics=[
                AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
                AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_"),
            ]
        ),
        visualizer=False,
        pre_processor=PreProcessor(
            transform=Compose(
                [Resize((SIZE, SIZE)), Normalize(mean=list(full_shot.MEAN), std=list(full_shot.STD))]
            )
        ),
    )
    data = Folder(
        name="wood",
        root=tmp_path,
        normal_dir="train",
        abnormal_dir="bad",
        normal_test_dir="good",
        mask_dir="masks",
        num_workers=0,
        val_split_mode="same_as_test",
    )
    engine = Engine(accelerator="cpu", default_root_dir=tmp_path / "runs", logger=False)
    engine.fit(model=model, datamodule=data)
    (theirs,) = engine.test(model=model, datamodule=data)
    ours: Any = full_shot._make_patchcore(settings)
    ours.feature_extractor.load_state_dict(model.model.feature_extractor.state_dict())
    full_shot.fit_patchcore(ours, good, settings)
    scores, maps = judge_of(ours, settings)(samples)
    masks = np.stack([load_mask(sample, height=SIZE, width=SIZE) for sample in samples])
    metrics = evaluate(scores, np.array([sample.label for sample in samples]), maps, masks)
    assert metrics["image_auroc"] == pytest.approx(theirs["image_AUROC"], abs=1e-4)
    assert metrics["pixel_auroc"] == pytest.approx(theirs["pixel_AUROC"], abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_rd4ad_learns_to_give_good_images_back(products: Path) -> None:
    pytest.importorskip("anomalib")
    good, settings = training_images(products, "wood"), FullShot("resnet18", False, SIZE, epochs=2)
    torch.manual_seed(0)
    model: Any = full_shot._make_rd4ad(settings)
    before = [tensor.clone() for tensor in model.decoder.parameters()]
    full_shot.fit_rd4ad(model, good, settings)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.decoder.parameters(), strict=True))
    scores, maps = judge_of(model, settings)(good)
    assert (scores.shape, maps.shape) == ((6,), (6, SIZE, SIZE))
