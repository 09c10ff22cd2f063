"""The loop: prompts, projections or vectors, whichever the method learns, against a frozen CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acl_runtime.files.errors import InputError
from acl_runtime.scoring.maps import map_operator
from acl_train.clip import CLIP
from acl_train.config import OBJECT, LearnConfig
from acl_train.distributed import ALONE, Group
from acl_train.losses import (
    class_log_odds,
    dice_loss,
    focal_loss,
    image_loss,
    patch_log_odds,
    pixel_probabilities,
)
from acl_train.methods import METHODS
from acl_train.patches import project_layers
from acl_train.sentences import vand_ensemble
from acl_train.text import embed_pair, head_vectors, require_text
from acl_train.weights import Network

Batch = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices to image and patch embeddings


@dataclass(frozen=True)
class Examples:
    """The images that prompts are learned from.

    Attributes:
        batch: Takes (B,) int64 indices, returns `image_embeddings` (B, D), or (B, L, D), and `patch_embeddings`
            (B, L, G·G, D), float32.
        labels: (N,) int64, 1 for defective.
        masks: N bit-packed (S·S,) rows of bool, (N, ceil(S·S / 8)) uint8; None if the data has no masks, and
            then only the image loss applies.
        names: N products, for prompts that name them.
    """

    batch: Batch
    labels: Tensor
    masks: np.ndarray | None
    names: Sequence[str] = ()


class Head:
    """What images of products are compared with, as it is learned; hand-written sentences are embedded once."""

    def __init__(self, clip: Network, config: LearnConfig) -> None:
        """Of a method and its words."""
        self.method = METHODS[config.method]
        self._clip, self._words = clip, config.words
        self._written: dict[str, Tensor] = {}

    def vectors(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """See `head_vectors`."""
        if self.method.sentences is None:
            return head_vectors(self._clip, tensors, self.method, self._words, names)
        for name in set(names) - self._written.keys():
            self._written[name] = head_vectors(self._clip, tensors, self.method, self._words, [name])
        return torch.cat([self._written[name] for name in names])


@dataclass
class Learner:
    """What is learned, with its optimiser, after `epoch` finished epochs; the tensors are those of `Prompts`."""

    tensors: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    head: Head
    epoch: int = 0


def new_learner(clip: Network, config: LearnConfig) -> Learner:
    """Draw the initial values, of prompts N(0, 0.02); the seed alone decides them, on any device."""
    generator = torch.Generator().manual_seed(config.seed)
    return make_learner(clip, _START[config.learns](clip, config, generator), config)


def _start_prompts(network: Network, config: LearnConfig, generator: torch.Generator) -> dict[str, Tensor]:
    clip = require_text(network)
    width, contexts = clip.architecture.text_width, 1 if config.shared_ctx else 2
    # the first block's input is never replaced, so a shallow text tower takes fewer
    deep_layers = min(config.deep_layers, clip.architecture.text_layers - 1)
    ctx = 0.02 * torch.randn(contexts, config.ctx_tokens, width, generator=generator)
    return {
        "ctx": ctx,
        "deep_ctx": 0.02 * torch.randn(deep_layers, config.deep_tokens, width, generator=generator),
    }


def _start_projection(network: Network, config: LearnConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """As PyTorch starts a linear layer."""
    clip = require_text(network)
    layers, width = len(clip.visual.config.layers), clip.architecture.vision_width
    weight = torch.rand(layers, width, clip.architecture.embed_dim, generator=generator)
    bias = torch.rand(layers, clip.architecture.embed_dim, generator=generator)
    return {"weight": (2 * weight - 1) * width**-0.5, "bias": (2 * bias - 1) * width**-0.5}


def _start_vectors(clip: Network, config: LearnConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Hand-written sentences, the same for images and all layers: nothing is drawn.

    Without text, one drawn direction for NORMAL and ANOMALOUS, so that every log-odds begins at 0.
    """
    vision = clip.visual.config
    if isinstance(clip, CLIP):
        pair = embed_pair(clip, vand_ensemble(OBJECT)).cpu()
    else:
        drawn = torch.randn(1, clip.architecture.embed_dim, generator=generator)
        pair = F.normalize(drawn, dim=-1).repeat(2, 1)
    images = len(vision.layers) if vision.class_layers else 1
    return {"vectors": pair.repeat(images + len(vision.layers), 1, 1)}


_START = {"prompts": _start_prompts, "projection": _start_projection, "vectors": _start_vectors}


def make_learner(clip: Network, tensors: Mapping[str, Tensor], config: LearnConfig) -> Learner:
    """Start an optimiser on given values."""
    device = clip.device
    learned = {name: tensor.to(device).clone().requires_grad_() for name, tensor in tensors.items()}
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adam":
        optimizer = torch.optim.Adam(learned.values(), lr=config.learning_rate, betas=(0.5, 0.999))
    else:
        optimizer = torch.optim.SGD(
            learned.values(), lr=config.learning_rate, momentum=0.9, weight_decay=5e-4
        )
    return Learner(learned, optimizer, Head(clip, config))


def learner_tensors(learner: Learner) -> dict[str, Tensor]:
    """The optimiser's moments, named for a file, so that `restore_learner` goes on to the same result."""
    return {
        f"optimizer.{name}.{key}": value.detach().clone()
        for name, tensor in learner.tensors.items()
        for key, value in learner.optimizer.state[tensor].items()
    }


def restore_learner(clip: Network, tensors: Mapping[str, Tensor], epoch: int, config: LearnConfig) -> Learner:
    """Continue after `epoch` finished epochs from the tensors of a checkpoint.

    Raises:
        InputError: If the tensors are not those of a learner with this configuration, or of its optimiser.
    """
    _check_same_tensors(tensors, learner_shapes(new_learner(clip, config)), config)
    moments = {name: tensor for name, tensor in tensors.items() if "." in name}
    learner = make_learner(clip, {name: tensors[name] for name in tensors.keys() - moments.keys()}, config)
    state: dict[int, dict[str, Tensor]] = {}
    for index, name in enumerate(learner.tensors):
        prefix = f"optimizer.{name}."
        own = {key.removeprefix(prefix): value for key, value in moments.items() if key.startswith(prefix)}
        if own:
            state[index] = own
    learner.optimizer.load_state_dict(learner.optimizer.state_dict() | {"state": state})
    learner.epoch = epoch
    return learner


def learn_epoch(
    clip: Network, learner: Learner, examples: Examples, config: LearnConfig, group: Group = ALONE
) -> Iterator[dict[str, float]]:
    """One pass over the examples; yields the losses of each step.

    The order depends on the seed and the epoch's number only, so a resumed run sees the same one. Of each batch every
    process of the group takes its share, and the gradients are added up; all of them make the same step.

    Raises:
        InputError: If a loss is not finite, before anything is learned from it, or what was learned gives no numbers.
    """
    generator = torch.Generator().manual_seed(config.seed * 1000 + learner.epoch)
    order = torch.randperm(len(examples.labels), generator=generator)
    learner.optimizer.param_groups[0]["lr"] = learning_rate(config, learner.epoch)
    for step, indices in enumerate(order.split(config.batch_size), start=1):
        own = group.share(indices)
        weight = len(own) / len(indices)  # every loss is a mean over images
        losses = step_losses(clip, learner, examples, own if len(own) else indices[:1], config)
        total = weight * total_loss(losses, config)
        values = torch.stack([total, *(weight * loss.sum() for loss in losses.values())]).detach()
        group.add_up([values])
        if not values[0].isfinite():
            raise _diverged(
                f"the loss is {values[0].item()} in step {step} of epoch {learner.epoch + 1}", config
            )
        learner.optimizer.zero_grad()
        total.backward()
        group.add_up([tensor.grad for tensor in learner.tensors.values() if tensor.grad is not None])
        learner.optimizer.step()
        yield dict(zip(("loss", *losses), values.tolist(), strict=True))
    _check_learned(learner, config)
    learner.epoch += 1


def _check_learned(learner: Learner, config: LearnConfig) -> None:
    """Raise InputError unless what was learned gives vectors of numbers: the last step is followed by no loss."""
    with torch.no_grad():
        results = [*learner.tensors.values(), learner.head.vectors(learner.tensors, [OBJECT])]
    if not all(bool(result.isfinite().all()) for result in results):
        raise _diverged(f"what was learned in epoch {learner.epoch + 1} gives NaN or infinity", config)


def _diverged(what: str, config: LearnConfig) -> InputError:
    return InputError(
        f"{what}, so the learning was stopped and nothing of that epoch is kept; lower --lr, which is "
        f"{config.learning_rate:g}"
    )


def learner_shapes(learner: Learner) -> dict[str, tuple[int, ...]]:
    """Shapes of what is learned, by name."""
    return {name: tuple(tensor.shape) for name, tensor in learner.tensors.items()}


MOMENTS = {"adam": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}


def _check_same_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], config: LearnConfig
) -> None:
    expected = dict(shapes)
    for name, shape in shapes.items():
        for moment in MOMENTS[config.optimizer]:
            key = f"optimizer.{name}.{moment}"
            if (
                0 not in shape or key in tensors
            ):  # what has no element, as no deep tokens have, may have no moments
                expected[key] = () if moment == "step" else shape
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if odd := sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    ):
        raise InputError(
            f"{odd[0]} must have the shape {expected.get(odd[0], 'of nothing')}, got "
            f"{found.get(odd[0], 'nothing')}; the checkpoint is of another run or damaged, go on from an earlier one"
        )


def learning_rate(config: LearnConfig, epoch: int) -> float:
    """Of the epoch after `epoch` finished ones: Adam's is constant, SGD's as in CoOp's published configuration."""
    if config.optimizer == "adam":
        return config.learning_rate
    if epoch == 0:
        return 1e-5
    return config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2


def step_losses(
    clip: Network, learner: Learner, examples: Examples, indices: Tensor, config: LearnConfig
) -> dict[str, Tensor]:
    """The losses of one batch, those of `config.losses`: `image` a scalar; the others (L,), where there are masks."""
    device, temperature = clip.device, learner.head.method.temperature
    image_embeddings, patch_embeddings = (tensor.to(device) for tensor in examples.batch(indices))
    vectors = batch_vectors(learner, examples, indices)
    losses = {}
    if "image" in config.losses:
        image_logits = class_log_odds(image_embeddings, vectors, temperature)
        losses["image"] = image_loss(image_logits, examples.labels[indices].to(device))
    if examples.masks is None or config.losses == ("image",):
        return losses
    size = clip.visual.config.image_size
    operator = torch.from_numpy(map_operator(clip.visual.grid, size, 0.0).astype(np.float32)).to(device)
    masks = unpack_masks(examples.masks[indices.numpy()], size).to(device)
    if "weight" in learner.tensors:  # the patches are tokens still
        patch_embeddings = project_layers(patch_embeddings, **learner.tensors)
    patch_logits = patch_log_odds(patch_embeddings, vectors, temperature)
    probabilities = pixel_probabilities(patch_logits, operator)  # (B, L, S, S)
    local = {
        "focal": lambda: focal_loss(probabilities, masks),
        "dice_anomalous": lambda: dice_loss(probabilities, masks),
        "dice_normal": lambda: dice_loss(1 - probabilities, 1 - masks),
    }
    return losses | {name: local[name]() for name in config.losses if name != "image"}


def batch_vectors(learner: Learner, examples: Examples, indices: Tensor) -> Tensor:
    """What a batch is compared with: (H, 2, D), or (B, H, 2, D) where the prompts name the products."""
    if not learner.head.method.names_category:
        return learner.head.vectors(learner.tensors, [OBJECT])[0]
    names = [examples.names[index] for index in indices.tolist()]
    distinct = list(dict.fromkeys(names))
    vectors = learner.head.vectors(learner.tensors, distinct)
    return vectors[torch.tensor([distinct.index(name) for name in names], device=vectors.device)]


def total_loss(losses: dict[str, Tensor], config: LearnConfig) -> Tensor:
    """The image loss plus λ times the layers' focal and dice losses, a scalar."""
    weights = {"image": 1.0}
    return torch.stack(
        [weights.get(name, config.recipe.local_weight) * loss.sum() for name, loss in losses.items()]
    ).sum()


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """An (S, S) bool mask as ceil(S·S / 8) bytes; a data set's masks then fit in memory."""
    return np.packbits(mask)


def unpack_masks(packed: np.ndarray, size: int) -> Tensor:
    """(B, S, S) float32, 0 or 1, of (B, ceil(S·S / 8)) bytes."""
    bits = np.unpackbits(packed, axis=1, count=size * size)
    return torch.from_numpy(bits.reshape(-1, size, size).astype(np.float32))
