"""What open_clip declares of a model and of its published weights, which the weights themselves do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from acl_runtime.files.errors import InputError
from acl_train.config import MEAN, STD

READ_OFF = {  # what the tensors' shapes tell
    "vision": {"layers", "width", "patch_size", "image_size", "mlp_ratio"},
    "text": {"layers", "width", "context_length", "mlp_ratio"},
}
HEADS = {"vision": {"head_width"}, "text": {"heads"}}
IDLE = {"output_tokens", "patch_dropout"}  # of training, or of what else is returned
MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
PUBLISHED: dict[str, tuple[list[Any], str]] = {  # of weights: what is taken, and the words for what is not
    "mean": ([MEAN], "its images are normalised with"),
    "std": ([STD], "its images are normalised with a standard deviation of"),
    "interpolation": (["bicubic"], "its images are resized by"),
    # squashing is the method's own way, whichever of the two its CLIP was trained with
    "resize_mode": (["shortest", "squash"], "its images are resized to"),
}


@dataclass(frozen=True)
class Declared:
    """A network's facts that no tensor's shape tells.

    Attributes:
        vision_heads: Of each block of the vision tower.
        text_heads: Of each block of the text tower.
        quick_gelu: Whether the activation is QuickGELU; otherwise it is the exact GELU.
        basis: Where that is written.
        others: Tags of the same model whose activation is the other one; empty where a tag was named.
    """

    vision_heads: int
    text_heads: int
    quick_gelu: bool
    basis: str
    others: tuple[str, ...] = ()


def declared_by_tag(backbone: str, tag: str) -> Declared:
    """What open_clip's configurations say of a model and one of its published weights.

    The activation is that of the weights' configuration: the model's own is right only where its name ends in
    `-quickgelu`, and open_clip builds plain GELU otherwise.

    Raises:
        InputError: If there are no such weights, or they belong to a network that `CLIP` is not.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    known = open_clip.list_pretrained_tags_by_model(backbone)
    if not known:
        raise InputError(f"backbone must be tiny or a name in open_clip.list_models(), got {backbone}")
    if tag not in known:
        raise InputError(f"weights must be one of {', '.join(known)} for {backbone}, or a file, got {tag}")
    heads = _heads(backbone)
    published = get_pretrained_cfg(backbone, tag)
    _check_published(f"{backbone} {tag}", published)
    quick_gelu = bool(published.get("quick_gelu", False))
    return Declared(*heads, quick_gelu, f"open_clip's configuration of {backbone} {tag}")


def declared_by_name(backbone: str) -> Declared | None:
    """What open_clip's configurations say of a model whose weights come from a file; None if it has no such model.

    Where published weights of the model have different activations, it is the one that open_clip would build, and
    `others` are the tags that have the other.

    Raises:
        InputError: If the model is a network that `CLIP` is not.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if backbone not in open_clip.list_models():
        return None
    heads = _heads(backbone)
    own = bool(open_clip.get_model_config(backbone).get("quick_gelu", False))
    of_tags = {
        tag: bool(get_pretrained_cfg(backbone, tag).get("quick_gelu", False))
        for tag in open_clip.list_pretrained_tags_by_model(backbone)
    }
    if len(set(of_tags.values())) == 1:
        own = next(iter(of_tags.values()))
    others = tuple(tag for tag, quick in of_tags.items() if quick != own)
    return Declared(*heads, own, f"open_clip's configuration of {backbone}", others)


def sizes_declared(backbone: str) -> dict[str, int]:
    """The towers' sizes in open_clip's configuration, by their names in `Architecture`."""
    import open_clip

    config = open_clip.get_model_config(backbone)
    vision, text = _tower(config, "vision"), _tower(config, "text")
    return {
        "embed_dim": config["embed_dim"],
        "vision_width": vision["width"],
        "vision_layers": vision["layers"],
        "patch_size": vision["patch_size"],
        "text_width": text["width"],
        "text_layers": text["layers"],
    }


def _heads(backbone: str) -> tuple[int, int]:
    """Of the vision and the text tower, of a model that is a CLIP as OpenAI published it."""
    import open_clip

    config = open_clip.get_model_config(backbone)
    if config is None:
        raise InputError(f"backbone must be tiny or a name in open_clip.list_models(), got {backbone}")
    if surplus := sorted(key for key in config.keys() - MODEL if config[key]):
        raise InputError(f"{backbone} is not a CLIP of OpenAI's kind: open_clip declares {surplus[0]} for it")
    for side in ("vision", "text"):
        _check_tower(backbone, config, side)
    vision, text = _tower(config, "vision"), _tower(config, "text")
    return vision["width"] // vision["head_width"], text["heads"]


def _tower(config: Mapping[str, Any], side: str) -> dict[str, Any]:
    return {**_defaults(side), **config[f"{side}_cfg"]}


def _defaults(side: str) -> dict[str, Any]:
    """open_clip's own, which are those of OpenAI's models."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    kind: Any = CLIPVisionCfg if side == "vision" else CLIPTextCfg
    return {each.name: each.default for each in fields(kind) if each.default is not MISSING}


def _check_tower(backbone: str, config: Mapping[str, Any], side: str) -> None:
    """Raise InputError unless all that the shapes do not tell is as in OpenAI's models."""
    usual = _defaults(side)
    for key, value in config[f"{side}_cfg"].items():
        if key not in READ_OFF[side] | HEADS[side] | IDLE and value != usual.get(key):
            raise InputError(
                f"{backbone} is not a CLIP of OpenAI's kind: open_clip declares {key} {value!r} for its {side} tower; "
                "choose another backbone, such as ViT-L-14-336 openai"
            )
    layers, size = _tower(config, side)["layers"], config[f"{side}_cfg"].get("image_size", 0)
    if not isinstance(layers, int) or not isinstance(size, int):
        raise InputError(
            f"{backbone} is not a CLIP of OpenAI's kind: its {side} tower is no ViT for square images; choose another "
            "backbone, such as ViT-L-14-336 openai"
        )


def _check_published(name: str, published: Mapping[str, Any]) -> None:
    """Raise InputError unless images are put to these weights as they are here."""
    for key, (ours, words) in PUBLISHED.items():
        value = published.get(key, ours[0])
        value = tuple(value) if isinstance(value, (list, tuple)) else value
        if value not in ours:
            raise InputError(
                f"{name} cannot be used: {words} {value}, and here it is {ours[0]}; choose other weights, such as "
                "ViT-L-14-336 openai"
            )
