"""Methods that learn from all good images of a product: PatchCore and RD4AD by anomalib (extra `full-shot`).

Everything around them is ours: the readers, the size, the metrics. Maps are distances; each category's are scaled to
[0, 1] for AUPRO's thresholds, which changes the order of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acl_runtime.data.datasets import Sample
from acl_runtime.data.samples import good_samples
from acl_runtime.files.errors import InputError
from acl_train.clip import normalize_images
from acl_train.features import load_images
from acl_train.hub import first_line
from benchmarks.judges import Answers, Judge

MEAN, STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of ImageNet, which anomalib's backbones are trained on
BATCH = 8
NEIGHBORS = 9  # anomalib's own settings from here on
LAYERS = {"patchcore": ("layer2", "layer3"), "rd4ad": ("layer1", "layer2", "layer3")}
RATE, BETAS = 0.005, (0.5, 0.99)


@dataclass(frozen=True)
class FullShot:
    """How the methods run.

    Attributes:
        backbone: A convolutional network of timm's that anomalib takes.
        pretrained: Whether it has its published weights, which anomalib fetches; otherwise random ones.
        image_size: Side of the images, in pixels.
        coreset: Share of all patches that PatchCore keeps.
        epochs: Of RD4AD; its paper has 200.
        seed: Of PatchCore's draw and RD4AD's weights.
    """

    backbone: str = "wide_resnet50_2"
    pretrained: bool = True
    image_size: int = 256
    coreset: float = 0.1
    epochs: int = 200
    seed: int = 0


def training_images(root: Path, category: str) -> list[Sample]:
    """The good images of a product that its data set gives for training, as MVTec AD lays them out.

    Raises:
        InputError: There are none.
    """
    for folder in (root / category / "train" / "good", root / "train" / "good"):
        if found := good_samples(folder, category=category):
            return list(found)
    raise InputError(f"{root}: has no images in {category}/train/good or train/good to learn {category} from")


def fit(method: str, good: Sequence[Sample], settings: FullShot) -> Judge:
    """Fit `patchcore` or `rd4ad` to good images.

    Raises:
        InputError: anomalib is not installed, or its backbone's weights cannot be fetched.
    """
    torch.manual_seed(settings.seed)
    try:
        model = _MAKE[method](settings)
    except ImportError as error:
        raise InputError(f"{error}; pip install 'anomalyclip-deploy[full-shot]'") from error
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"anomalib could not load {settings.backbone} ({first_line(error)}); run where there is a network, or with "
            "--random-backbone to see that it runs"
        ) from error
    _FIT[method](model, good, settings)
    return judge_of(model, settings)


def judge_of(model: nn.Module, settings: FullShot) -> Judge:
    """What a fitted model of anomalib's says."""
    model.eval()

    def judge(samples: Sequence[Sample]) -> Answers:
        scores, maps = [], []
        with torch.no_grad():
            for images in _batches(samples, settings):
                found = model(images)
                scores.append(found.pred_score.flatten().numpy())
                maps.append(found.anomaly_map.squeeze(1).numpy())
        return np.concatenate(scores), scaled(np.concatenate(maps))

    return judge


def scaled(maps: np.ndarray) -> np.ndarray:
    """Distances to [0, 1] over all maps, (N, S, S) float32."""
    least, most = float(maps.min()), float(maps.max())
    return np.asarray((maps - least) / max(most - least, 1e-12), np.float32)


def _batches(samples: Sequence[Sample], settings: FullShot) -> Iterator[Tensor]:
    for start in range(0, len(samples), BATCH):
        images = load_images(samples[start : start + BATCH], image_size=settings.image_size)
        yield normalize_images(torch.from_numpy(images), MEAN, STD)


def _make_patchcore(settings: FullShot) -> nn.Module:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model: nn.Module = PatchcoreModel(
        layers=LAYERS["patchcore"],
        backbone=settings.backbone,
        pre_trained=settings.pretrained,
        num_neighbors=NEIGHBORS,
    )
    return model


def fit_patchcore(model: Any, good: Sequence[Sample], settings: FullShot) -> None:
    """Remember the patches of good images, and keep a share of them that covers all."""
    model.train()
    with torch.no_grad():
        for images in _batches(good, settings):
            model(images)
    model.subsample_embedding(settings.coreset)


def _make_rd4ad(settings: FullShot) -> nn.Module:
    from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
    from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel

    model: nn.Module = ReverseDistillationModel(
        backbone=settings.backbone,
        input_size=(settings.image_size, settings.image_size),
        layers=LAYERS["rd4ad"],
        anomaly_map_mode=AnomalyMapGenerationMode.ADD,
        pre_trained=settings.pretrained,
    )
    return model


def fit_rd4ad(model: Any, good: Sequence[Sample], settings: FullShot) -> None:
    """Learn to give the features of good images back from a bottleneck."""
    from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss

    loss = ReverseDistillationLoss()
    learned = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimizer = torch.optim.Adam(learned, lr=RATE, betas=BETAS)
    rng = np.random.default_rng(settings.seed)
    model.train()
    for _ in range(settings.epochs):
        order = [good[row] for row in rng.permutation(len(good))]
        for images in _batches(order, settings):
            optimizer.zero_grad()
            loss(*model(images)).backward()
            optimizer.step()


_MAKE: dict[str, Callable[[FullShot], nn.Module]] = {"patchcore": _make_patchcore, "rd4ad": _make_rd4ad}
_FIT: dict[str, Callable[[Any, Sequence[Sample], FullShot], None]] = {
    "patchcore": fit_patchcore,
    "rd4ad": fit_rd4ad,
}
