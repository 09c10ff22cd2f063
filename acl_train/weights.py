"""CLIP weights from an open_clip tag, an OpenAI archive or a state dict file, and the network they fill."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from acl_train.clip import CLIP, Architecture
from acl_train.config import VisionConfig
from acl_train.tensor_files import read_state

TINY_PATH = Path(__file__).parent / "tiny" / "weights.safetensors"
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # in OpenAI's archives
BLOCK = "transformer.resblocks.{}.ln_1.weight"


@dataclass(frozen=True)
class Weights:
    """A checkpoint in memory, and where it came from.

    Attributes:
        state: float32 tensors under OpenAI's names, position embedding at the checkpoint's own grid.
        architecture: The towers' sizes.
        backbone: Its name for people: an open_clip name, `tiny`, or the sizes read off a file.
        source: What to pass to find it again: an open_clip tag or a file's name.
        sha256: Of the float32 values, so that fp16, fp32 and archived copies of the same weights agree.
    """

    state: dict[str, Tensor]
    architecture: Architecture
    backbone: str
    source: str
    sha256: str


def load_weights(
    backbone: str | None = None, weights: str | None = None, *, quick_gelu: bool | None = None
) -> Weights:
    """Read CLIP weights.

    Args:
        backbone: An open_clip name such as `ViT-L-14-336`, or `tiny`; with a file it is only a name.
        weights: An open_clip tag such as `openai`, or a file: OpenAI's JIT archive, `.pt` or `.safetensors`.
        quick_gelu: The activation the weights were trained with; None means as the tag says, and QuickGELU
            for files.

    Raises:
        FileNotFoundError: If `weights` looks like a file and there is none.
        ValueError: If the file is no CLIP checkpoint with OpenAI's names, or the tag is not known.
        RuntimeError: If open_clip cannot download the weights.
    """
    if backbone == "tiny" and weights is None:
        return _from_file(TINY_PATH, "tiny", quick_gelu=True)
    if weights is not None and Path(weights).is_file():
        return _from_file(Path(weights), backbone, quick_gelu=quick_gelu is not False)
    if weights is not None and (Path(weights).suffix or "/" in weights):
        raise FileNotFoundError(f"{weights}: no such file; --weights takes a file or an open_clip tag")
    if backbone == "tiny":
        raise ValueError(f"backbone tiny brings its own weights, got {weights}; leave --weights out")
    if backbone is None or weights is None:
        raise ValueError(
            "weights are not chosen; pass --backbone tiny, or --backbone NAME --weights TAG, or --weights FILE"
        )
    return _from_open_clip(backbone, weights, quick_gelu=quick_gelu)


def build_clip(weights: Weights, config: VisionConfig) -> CLIP:
    """The frozen network for one image size; the weights' tensors are shared, not copied.

    Raises:
        ValueError: If a tensor is missing, surplus or of the wrong shape, or the settings do not fit.
    """
    with torch.device("meta"):
        clip = CLIP(weights.architecture, config)
    key = "visual.positional_embedding"
    state = weights.state | {key: _resize_positions(weights.state[key], clip.visual.grid)}
    _check_fit(state, {name: tensor.shape for name, tensor in clip.state_dict().items()})
    clip.load_state_dict(state, strict=True, assign=True)
    return clip.eval().requires_grad_(False)


def read_architecture(state: dict[str, Tensor], *, quick_gelu: bool) -> Architecture:
    """The towers' sizes from the tensors' shapes; heads are 64 wide, as in all of OpenAI's models.

    Raises:
        ValueError: If a tensor that tells a size is missing; the message names it.
    """
    needed = [
        "visual.conv1.weight",
        "visual.positional_embedding",
        "positional_embedding",
        "text_projection",
        "token_embedding.weight",
        "visual." + BLOCK.format(0),
        BLOCK.format(0),
    ]
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(
            f"weights must have OpenAI's CLIP tensor names, but {', '.join(missing[:3])} is missing; "
            f"the file's first names are {', '.join(sorted(state)[:3])}"
        )
    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    context_length, text_width = state["positional_embedding"].shape
    return Architecture(
        embed_dim=state["text_projection"].shape[1],
        vision_width=vision_width,
        vision_layers=_count_blocks(state, "visual." + BLOCK),
        vision_heads=vision_width // 64,
        patch_size=patch_size,
        vision_grid=round((len(state["visual.positional_embedding"]) - 1) ** 0.5),
        context_length=context_length,
        vocab_size=len(state["token_embedding.weight"]),
        text_width=text_width,
        text_layers=_count_blocks(state, BLOCK),
        text_heads=text_width // 64,
        quick_gelu=quick_gelu,
    )


def _count_blocks(state: dict[str, Tensor], pattern: str) -> int:
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _from_file(path: Path, backbone: str | None, *, quick_gelu: bool) -> Weights:
    state = _sanitize(read_state(path))
    try:
        architecture = read_architecture(state, quick_gelu=quick_gelu)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    name = (
        backbone or f"ViT {architecture.vision_width}x{architecture.vision_layers}/{architecture.patch_size}"
    )
    return Weights(state, architecture, name, path.name, _digest(state))


def _from_open_clip(backbone: str, tag: str, *, quick_gelu: bool | None) -> Weights:
    import open_clip

    known = open_clip.list_pretrained_tags_by_model(backbone)
    if tag not in known:
        if not known:
            raise ValueError(f"backbone must be tiny or a name in open_clip.list_models(), got {backbone}")
        raise ValueError(f"weights must be one of {', '.join(known)} for {backbone}, or a file, got {tag}")
    logging.disable(logging.ERROR)  # twenty lines about retries, which the error below says in one
    try:
        model = open_clip.create_model(backbone, pretrained=tag, precision="fp32")
    except RuntimeError as error:
        raise RuntimeError(
            f"open_clip could not load {backbone} {tag} ({str(error).rstrip('.')}); fetch the file where there "
            "is a network and pass it with --weights FILE"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return weights_of_open_clip(model, backbone, tag, quick_gelu=quick_gelu)


def weights_of_open_clip(model: Any, backbone: str, tag: str, *, quick_gelu: bool | None = None) -> Weights:
    """Take the weights of an open_clip model, whose configuration knows heads and activation.

    Raises:
        ValueError: If the model's tensors do not have OpenAI's names (SigLIP, CoCa, timm towers).
    """
    state = _sanitize(model.state_dict())
    architecture = read_architecture(state, quick_gelu=True)
    vision, text = model.visual.transformer.resblocks[0], model.transformer.resblocks[0]
    trained_quick = type(vision.mlp.gelu).__name__ == "QuickGELU"
    architecture = replace(
        architecture,
        vision_heads=vision.attn.num_heads,
        text_heads=text.attn.num_heads,
        quick_gelu=trained_quick if quick_gelu is None else quick_gelu,
    )
    return Weights(state, architecture, backbone, tag, _digest(state))


def _sanitize(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors without the archive's integers; the tiny backbone's token table is unfolded."""
    kept = {
        name: tensor.detach().float().contiguous()
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and name not in NOT_WEIGHTS and not name.endswith(".ids")
    }
    rows = kept.pop("token_embedding.rows", None)
    if rows is not None:  # only the rows that occur in its captions are stored; the others are zero
        table = torch.zeros(49408, rows.shape[1])
        table[state["token_embedding.ids"].long()] = rows
        kept["token_embedding.weight"] = table
    return kept


def _resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Position embedding (1 + N, W) for a G×G grid: bilinear, align_corners=False, class row untouched."""
    native = round((len(positions) - 1) ** 0.5)
    if native == grid:
        return positions
    patches = positions[1:].T.unflatten(1, (native, native)).unsqueeze(0)  # (1, W, native, native)
    patches = F.interpolate(patches, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([positions[:1], patches[0].flatten(1).T])


def _check_fit(state: dict[str, Tensor], expected: dict[str, torch.Size]) -> None:
    missing = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    wrong = [name for name in expected if name in state and state[name].shape != expected[name]]
    if missing or surplus:
        raise ValueError(
            f"weights do not fit CLIP's ViT: {len(missing)} tensors are missing (first: "
            f"{', '.join(missing[:3]) or 'none'}), {len(surplus)} are unknown (first: "
            f"{', '.join(surplus[:3]) or 'none'})"
        )
    if wrong:
        first = wrong[0]
        raise ValueError(f"{first} must be {tuple(expected[first])}, got {tuple(state[first].shape)}")


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].reshape(-1).numpy().data)
    return digest.hexdigest()
