"""What timm offers as a plain ViT: which of its models fit, and what their weights are normalised with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acl_runtime.files.errors import InputError

PREFIX = "timm:"  # of a backbone's name
ROOMS = ("vision_transformer", "deit", "eva")  # timm's modules whose ViTs can be plain
FILES = ("model.safetensors", "pytorch_model.bin")  # of a model's repository
EXAMPLES = "vit_base_patch14_reg4_dinov2, vit_base_patch16_dinov3 or vit_base_patch16_siglip_224"


@dataclass(frozen=True)
class TimmModel:
    """One of timm's models with the tag of its weights.

    Attributes:
        name: In `timm.list_models()`.
        tag: Of the weights; empty for a model that timm publishes none of.
        repository: Where the Hugging Face Hub has them; None if it has not.
        mean: Of the images that the weights were trained on, RGB in [0, 1].
        std: Standard deviation of the same.
    """

    name: str
    tag: str
    repository: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def backbone(self) -> str:
        """What `--backbone` calls it."""
        return PREFIX + self.name + (f".{self.tag}" if self.tag else "")


def find_model(backbone: str, tag: str | None = None) -> TimmModel:
    """The model of a backbone's name, `timm:NAME` or `timm:NAME.TAG`.

    Args:
        backbone: Its name.
        tag: Of the weights; None for the one in the name, or else timm's default.

    Raises:
        InputError: timm has no such model or tag, or name and tag disagree.
    """
    import timm

    name, _, own = backbone.removeprefix(PREFIX).partition(".")
    if not timm.is_model(name):
        raise InputError(f"backbone must be {PREFIX} and a name in timm.list_models(), got {backbone}")
    if own and tag and own != tag:
        raise InputError(f"weights must be {own} as the backbone's name says, got {tag}; name one of them")
    known = sorted(each.partition(".")[2] for each in timm.list_models(f"{name}.*", pretrained=True))
    chosen = own or tag
    if chosen and chosen not in known:
        raise InputError(f"weights of {name} must be one of {', '.join(known) or 'a file'}, got {chosen}")
    published = timm.models.get_pretrained_cfg(f"{name}.{chosen}" if chosen else name)
    if published is None:
        raise InputError(f"timm does not say how images of {name} are normalised; choose another backbone")
    return TimmModel(
        name,
        published.tag or "",
        str(published.hf_hub_id) if published.hf_hub_id else None,
        tuple(map(float, published.mean)),
        tuple(map(float, published.std)),
    )


def make_trunk(name: str, *, depth: int | None = None, image_size: int | None = None) -> Any:
    """timm's module without its classifier, on whatever device torch makes new tensors.

    Args:
        name: In `timm.list_models()`.
        depth: Number of blocks; None for the model's own.
        image_size: Side of the images; None for the model's own.
    """
    import timm

    given = {"depth": depth, "img_size": image_size}
    options = {key: value for key, value in given.items() if value is not None}
    return timm.create_model(name, num_classes=0, **options).eval()


def check_fits(name: str) -> Any:
    """Raise InputError unless a model is a plain ViT; returns it without values.

    Nothing is fetched or drawn for that.
    """
    from timm.models import is_model_in_modules

    if not is_model_in_modules(name, ROOMS):
        raise _misfit(name, "is no ViT whose tokens are patches of one size")
    try:
        with torch.device("meta"):
            trunk = make_trunk(name)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise _misfit(name, f"cannot be built ({error})") from error
    if (odd := _odd_part(trunk)) is not None:
        raise _misfit(name, f"has {odd}")
    return trunk


def _misfit(name: str, why: str) -> InputError:
    return InputError(f"{PREFIX}{name} cannot be used: it {why}; choose a plain ViT, such as {EXAMPLES}")


def _odd_part(trunk: Any) -> str | None:
    """The first part that a plain ViT has not; None if there is none."""
    from timm.layers import Attention
    from timm.models.eva import Eva, EvaAttention, EvaBlock
    from timm.models.vision_transformer import Block, VisionTransformer

    kinds: list[tuple[object, tuple[type, ...]]] = [
        (trunk, (Eva, VisionTransformer)),
        (trunk.blocks[0], (Block, EvaBlock)),
        (getattr(trunk.blocks[0], "attn", None), (Attention, EvaAttention)),
    ]
    for part, known in kinds:
        if type(part) not in known:
            return f"parts of the kind {type(part).__name__}"
    block = trunk.blocks[0]
    fits = {
        "patches that are no squares of one convolution": _has_plain_patches(trunk.patch_embed),
        "attention that is of its own kind inside": _has_plain_attention(block.attn, trunk.embed_dim),
        "norms that are no layer norms": isinstance(final_norm(trunk), nn.LayerNorm)
        and isinstance(block.norm1, nn.LayerNorm),
        "rotations of its own in each block": not getattr(trunk, "rope_mixed", False),
        f"the pooling {trunk.global_pool}": trunk.global_pool in ("token", "avg", "map"),
    }
    return next((what for what, is_fit in fits.items() if not is_fit), None)


def _has_plain_patches(embedding: Any) -> bool:
    from timm.layers import PatchEmbed

    return type(embedding) is PatchEmbed and len(set(embedding.patch_size)) == 1 and _is_idle(embedding.norm)


def _has_plain_attention(attention: Any, width: int) -> bool:
    """One product for queries, keys and values of the tower's width; nothing normalised or gated in between."""
    if attention.qkv is None or attention.proj.in_features != width:
        return False
    extra = (attention.q_norm, attention.k_norm, attention.norm)
    return all(map(_is_idle, extra)) and getattr(attention, "gate", None) is None


def _is_idle(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity)


def final_norm(trunk: Any) -> nn.LayerNorm:
    """The norm after the last block, before or after pooling."""
    return trunk.fc_norm if _is_idle(trunk.norm) else trunk.norm  # type: ignore[no-any-return]


def to_trunk_state(path: Path, state: Mapping[str, Tensor], trunk: Any) -> dict[str, Tensor]:
    """A file's tensors under timm's names, without the classifier, as float32.

    timm's own filter takes the publishers' files too, such as Meta's of DINOv2 and DINOv3.

    Args:
        path: The file, for messages.
        state: What it holds.
        trunk: timm's module at the model's own size, without values.

    Raises:
        InputError: A tensor is missing, surplus or of another shape.
    """
    convert = import_module(type(trunk).__module__).checkpoint_filter_fn
    try:
        found = convert(dict(state), trunk)
    except (KeyError, RuntimeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: is not a file of {type(trunk).__name__}'s weights ({error})") from error
    kept = {name: tensor for name, tensor in found.items() if not name.startswith(("head.", "head_dist."))}
    wanted = {name: tensor.shape for name, tensor in trunk.state_dict().items()}
    missing = [name for name in wanted if name not in kept]
    surplus = [name for name in kept if name not in wanted]
    if missing or surplus:
        raise InputError(
            f"{path}: does not hold the backbone's tensors: {len(missing)} are missing (first: "
            f"{', '.join(missing[:3]) or 'none'}), {len(surplus)} are unknown (first: "
            f"{', '.join(surplus[:3]) or 'none'}); name the backbone that the weights are of"
        )
    if wrong := [name for name in wanted if kept[name].shape != wanted[name]]:
        raise InputError(
            f"{path}: {wrong[0]} must be {tuple(wanted[wrong[0]])}, got {tuple(kept[wrong[0]].shape)}; name the "
            "backbone that the weights are of"
        )
    return {name: kept[name] for name in wanted}
