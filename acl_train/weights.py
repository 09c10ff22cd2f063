"""CLIP weights from an open_clip tag, an OpenAI archive or a state dict file, and the network they fill."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from acl_runtime.files.errors import InputError
from acl_train.clip import CLIP, Architecture, VisionTower
from acl_train.config import VisionConfig
from acl_train.declared import Declared, declared_by_name, declared_by_tag, sizes_declared
from acl_train.hub import check_hub, find_in_cache, first_line
from acl_train.tensor_files import read_state
from acl_train.timm_models import PREFIX
from acl_train.timm_tower import TextlessNetwork, TimmTower
from acl_train.timm_weights import build_timm, read_timm

TINY_PATH = Path(__file__).parent / "tiny" / "weights.safetensors"
OPENAI_MARKS = {"input_resolution", "context_length", "vocab_size"}  # in OpenAI's archives, and in no other's
NOT_WEIGHTS = (*OPENAI_MARKS, "attn_mask")
BLOCK = "transformer.resblocks.{}.ln_1.weight"
HIDDEN = "transformer.resblocks.0.mlp.c_fc.weight"
HEAD_WIDTH = 64  # of all of OpenAI's models, and of all known ones whose vision tower is no wider than theirs
MOST_WIDTH = {"vision": 1024, "text": 1280}
VOCABULARY = 49408

ASSUMED = "heads of 64 and QuickGELU, as in OpenAI's models"  # of files without a known name

LOG = logging.getLogger("acl")

Network = CLIP | TextlessNetwork
"""What images are embedded with."""

Tower = VisionTower | TimmTower
"""The part of it that sees."""


@dataclass(frozen=True)
class Weights:
    """A checkpoint in memory, and where it came from.

    Attributes:
        state: float32 tensors under OpenAI's names, or timm's for a backbone without text; position embedding at the
            checkpoint's own grid.
        architecture: The towers' sizes.
        backbone: Its name for people: an open_clip name, `tiny`, or the sizes read off a file.
        source: What to pass to find it again: an open_clip tag or a file's name.
        sha256: Of the float32 values, so that fp16, fp32 and archived copies of the same weights agree; of a backbone
            without text also of timm's name of the model and of how images are normalised, which no value tells.
        basis: What heads and activation are known from; empty if that was not recorded.
    """

    state: dict[str, Tensor]
    architecture: Architecture
    backbone: str
    source: str
    sha256: str
    basis: str = ""


def load_weights(
    backbone: str | None = None, weights: str | None = None, *, quick_gelu: bool | None = None
) -> Weights:
    """Read CLIP weights.

    Args:
        backbone: An open_clip name such as `ViT-L-14-336`, or `tiny`, or `timm:NAME` for a ViT of timm's without text;
            with a file it may be any name, and one that open_clip knows tells the heads and the activation, which no
            file does.
        weights: A tag of open_clip's or timm's, such as `openai`, or a file: OpenAI's JIT archive, `.pt` or
            `.safetensors`.
        quick_gelu: The activation the weights were trained with; None means as open_clip declares it for the tag, or
            for the name of a file's backbone, and QuickGELU for other files.

    Raises:
        FileNotFoundError: If `weights` looks like a file and there is none.
        InputError: If the file is no CLIP checkpoint with OpenAI's names, the tag is not known or belongs to another
            network, or a value is NaN or infinite.
        RuntimeError: If open_clip cannot download the weights.
    """
    if backbone is not None and backbone.startswith(PREFIX):
        return _from_timm(backbone, weights, quick_gelu=quick_gelu)
    if backbone == "tiny" and weights is None:
        return _from_file(TINY_PATH, "tiny", quick_gelu=True)
    if weights is not None and Path(weights).is_file():
        return _from_file(Path(weights), backbone, quick_gelu=quick_gelu)
    if weights is not None and (Path(weights).suffix or "/" in weights):
        raise FileNotFoundError(f"{weights}: no such file; --weights takes a file or an open_clip tag")
    if backbone == "tiny":
        raise InputError(f"backbone tiny brings its own weights, got {weights}; leave --weights out")
    if backbone is None or weights is None:
        raise InputError(
            "weights are not chosen; pass --backbone tiny, or --backbone NAME --weights TAG, or --weights FILE, or "
            "--backbone timm:NAME for one without text"
        )
    return _from_open_clip(backbone, weights, quick_gelu=quick_gelu)


def note_assumption(weights: Weights) -> None:
    """Say that heads and activation are a guess, once the work is done; `acl info` says it of every bundle."""
    if weights.basis == ASSUMED:
        LOG.info(
            "%s: QuickGELU is assumed, as OpenAI's weights have it; pass --gelu for LAION's and most others, or "
            "--backbone with the model's name in open_clip",
            weights.source,
        )


def build_clip(weights: Weights, config: VisionConfig) -> CLIP:
    """The frozen network for one image size; the weights' tensors are shared, not copied.

    Raises:
        InputError: If a tensor is missing, surplus or of the wrong shape, or the settings do not fit.
    """
    with torch.device("meta"):
        clip = CLIP(weights.architecture, config)
    key = "visual.positional_embedding"
    state = weights.state | {key: _resize_positions(weights.state[key], clip.visual.grid)}
    _check_fit(state, {name: tensor.shape for name, tensor in clip.state_dict().items()})
    clip.load_state_dict(state, strict=True, assign=True)
    return clip.eval().requires_grad_(False)


def build_network(weights: Weights, config: VisionConfig) -> Network:
    """`build_clip`, or the tower alone of a backbone without text."""
    if weights.backbone.startswith(PREFIX):
        return build_timm(weights.backbone, weights.state, weights.architecture, config)
    return build_clip(weights, config)


def read_architecture(
    state: dict[str, Tensor], *, quick_gelu: bool, heads: tuple[int, int] | None = None
) -> Architecture:
    """The towers' sizes from the tensors' shapes.

    Args:
        state: Tensors under OpenAI's names.
        quick_gelu: The activation, which no shape tells.
        heads: Of the vision and the text tower, which no shape tells either; None for heads that are 64 wide, as in
            all known models of OpenAI's widths.

    Raises:
        InputError: If a tensor that tells a size is missing or tells none, or the widths are such as have other heads;
            the message names it.
    """
    dimensions = {
        "visual.conv1.weight": 4,
        "visual.positional_embedding": 2,
        "positional_embedding": 2,
        "text_projection": 2,
        "token_embedding.weight": 2,
        "visual." + BLOCK.format(0): 1,
        BLOCK.format(0): 1,
        "visual." + HIDDEN: 2,
        HIDDEN: 2,
    }
    missing = [name for name in dimensions if name not in state]
    if missing:
        raise InputError(
            f"weights must have OpenAI's CLIP tensor names, but {', '.join(missing[:3])} is missing; "
            f"the file's first names are {', '.join(sorted(state)[:3])}"
        )
    for name, count in dimensions.items():
        if state[name].ndim != count or 0 in state[name].shape:
            raise InputError(f"{name} must have {count} dimensions, got the shape {tuple(state[name].shape)}")
    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    context_length, text_width = state["positional_embedding"].shape
    patches = len(state["visual.positional_embedding"]) - 1
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        raise InputError(
            f"visual.positional_embedding must have 1 + a square number of rows, got {patches + 1}"
        )
    heads = heads or (_usual_heads("vision", vision_width), _usual_heads("text", text_width))
    return Architecture(
        embed_dim=state["text_projection"].shape[1],
        vision_width=vision_width,
        vision_layers=_count_blocks(state, "visual." + BLOCK),
        vision_heads=heads[0],
        patch_size=patch_size,
        vision_grid=math.isqrt(patches),
        context_length=context_length,
        vocab_size=len(state["token_embedding.weight"]),
        text_width=text_width,
        text_layers=_count_blocks(state, BLOCK),
        text_heads=heads[1],
        quick_gelu=quick_gelu,
        vision_hidden=len(state["visual." + HIDDEN]),
        text_hidden=len(state[HIDDEN]),
    )


def _usual_heads(side: str, width: int) -> int:
    if width % HEAD_WIDTH or width > MOST_WIDTH[side]:
        raise InputError(
            f"heads of a {side} tower of width {width} cannot be told from the file; pass --backbone with the model's "
            "name in open_clip, such as ViT-H-14, ViT-g-14 or ViT-bigG-14"
        )
    return width // HEAD_WIDTH


def _count_blocks(state: dict[str, Tensor], pattern: str) -> int:
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _from_file(path: Path, backbone: str | None, *, quick_gelu: bool | None) -> Weights:
    raw = read_state(path)
    declared = None if backbone is None or path == TINY_PATH else declared_by_name(backbone)
    basis, default = _assumption(path, raw, backbone, declared, is_chosen=quick_gelu is not None)
    try:
        state = _sanitize(raw)
        architecture = read_architecture(
            state,
            quick_gelu=_choose(basis, default, quick_gelu),
            heads=None if declared is None else (declared.vision_heads, declared.text_heads),
        )
        if backbone is not None and declared is not None:
            _check_backbone(backbone, architecture)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    name = (
        backbone or f"ViT {architecture.vision_width}x{architecture.vision_layers}/{architecture.patch_size}"
    )
    basis += "" if quick_gelu in (None, default) else "; activation as chosen"
    return Weights(state, architecture, name, path.name, _digest(state), basis)


def _assumption(
    path: Path,
    state: dict[str, Tensor],
    backbone: str | None,
    declared: Declared | None,
    *,
    is_chosen: bool,
) -> tuple[str, bool]:
    """What a file's heads and activation are known from, and whether that says QuickGELU; a guess is told."""
    if path == TINY_PATH:
        return "the package's own model", True
    if state.keys() >= OPENAI_MARKS:
        return "OpenAI's archive", True
    if declared is None:
        return ASSUMED, True
    if declared.others and not is_chosen:
        words = ("GELU", "QuickGELU")
        LOG.info(
            "%s: %s is assumed for %s; pass %s if these are the weights %s",
            *(path, words[declared.quick_gelu], backbone),
            *(("--quick-gelu", "--gelu")[declared.quick_gelu], ", ".join(declared.others)),
        )
    return declared.basis, declared.quick_gelu


def _choose(basis: str, default: bool, chosen: bool | None) -> bool:
    """The activation; one that was chosen against what is known is told."""
    if chosen is None:
        return default
    if chosen != default and basis != ASSUMED:
        LOG.info(
            "the weights run with %s, though %s says %s",
            *(("GELU", "QuickGELU")[chosen], basis, ("GELU", "QuickGELU")[default]),
        )
    return chosen


def _check_backbone(backbone: str, architecture: Architecture) -> None:
    for name, size in sizes_declared(backbone).items():
        if (found := getattr(architecture, name)) != size:
            raise InputError(
                f"{name} of {backbone} must be {size}, got {found}; name the backbone that the weights are of"
            )


def _from_open_clip(backbone: str, tag: str, *, quick_gelu: bool | None) -> Weights:
    declared = declared_by_tag(backbone, tag)
    raw = read_state(_download(backbone, tag))
    state = _sanitize(raw)
    return _with_declared(state, declared, backbone, tag, quick_gelu)


def _from_timm(backbone: str, weights: str | None, *, quick_gelu: bool | None) -> Weights:
    if quick_gelu:
        raise InputError(f"{backbone} has its own activation; leave --quick-gelu out")
    found = read_timm(backbone, weights)
    state = _sanitize(found.state)
    facts = f"{found.backbone.partition('.')[0]} {found.architecture.mean} {found.architecture.std}"
    return Weights(
        state, found.architecture, found.backbone, found.source, _digest(state, facts), found.basis
    )


def _download(backbone: str, tag: str) -> Path:
    """The file of a tag in open_clip's cache, fetched if it is not there."""
    from open_clip import factory

    declared = factory.get_pretrained_cfg(backbone, tag)
    if (cached := _find_cached(declared)) is not None:
        return cached
    LOG.info("open_clip gives the weights %s of %s, from the internet unless it has them", tag, backbone)
    logging.disable(logging.ERROR)  # twenty lines about retries, which the error below says in one
    try:
        if declared.get("hf_hub"):
            check_hub()
        return Path(factory.download_pretrained(declared))
    except (OSError, RuntimeError) as error:
        address = (
            declared.get("url") or f"the Hugging Face repository {str(declared.get('hf_hub')).strip('/')}"
        )
        raise InputError(
            f"open_clip could not load {backbone} {tag} ({first_line(error)}); where there is a network, fetch it "
            f"from {address} and pass it with --weights FILE"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _find_cached(declared: Mapping[str, Any]) -> Path | None:
    """What an earlier download from the Hugging Face Hub left; published weights do not change."""
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, file = str(declared.get("hf_hub") or "").rpartition("/")
    names = (file,) if file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    return find_in_cache(repository, names) if repository else None


def weights_of_open_clip(model: Any, backbone: str, tag: str, *, quick_gelu: bool | None = None) -> Weights:
    """Take the weights of an open_clip model.

    Heads and activation of published weights are those that open_clip declares for them; the activation of the module
    may be another, because open_clip builds plain GELU for weights that were trained with QuickGELU unless the model's
    name says so. Of other weights they are the module's.

    Raises:
        InputError: If the model's tensors do not have OpenAI's names (SigLIP, CoCa, timm towers).
    """
    import open_clip

    state = _sanitize(model.state_dict())
    if tag in open_clip.list_pretrained_tags_by_model(backbone):
        return _with_declared(state, declared_by_tag(backbone, tag), backbone, tag, quick_gelu)
    vision, text = model.visual.transformer.resblocks[0], model.transformer.resblocks[0]
    built = Declared(
        vision.attn.num_heads,
        text.attn.num_heads,
        type(vision.mlp.gelu).__name__ == "QuickGELU",
        f"the module {backbone}",
    )
    return _with_declared(state, built, backbone, tag, quick_gelu)


def _with_declared(
    state: dict[str, Tensor], declared: Declared, backbone: str, tag: str, quick_gelu: bool | None
) -> Weights:
    architecture = read_architecture(
        state,
        quick_gelu=_choose(declared.basis, declared.quick_gelu, quick_gelu),
        heads=(declared.vision_heads, declared.text_heads),
    )
    basis = declared.basis
    basis += "" if quick_gelu in (None, declared.quick_gelu) else "; activation as chosen"
    return Weights(state, architecture, backbone, tag, _digest(state), basis)


def _sanitize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors without the archive's integers; the tiny backbone's token table is unfolded."""
    kept = {
        name: _to_float(name, tensor)
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and name not in NOT_WEIGHTS and not name.endswith(".ids")
    }
    rows = kept.pop("token_embedding.rows", None)
    if rows is not None:  # only the rows that occur in its captions are stored; the others are zero
        kept["token_embedding.weight"] = _unfold(rows, state.get("token_embedding.ids"))
    if "logit_scale" in kept and kept["logit_scale"].numel() == 1:  # some of open_clip's have one dimension
        kept["logit_scale"] = kept["logit_scale"].reshape(())
    return kept


def _to_float(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise InputError(
            f"{name} must be floating-point numbers, got {tensor.dtype}; take weights that are not quantised"
        )
    values = tensor.detach().float().contiguous()
    if not values.isfinite().all():
        raise InputError(f"{name} holds NaN or infinity; the weights are damaged, fetch them again")
    return values


def _unfold(rows: Tensor, ids: Tensor | None) -> Tensor:
    if ids is None or ids.is_floating_point() or ids.shape != rows.shape[:1] or rows.ndim != 2:
        raise InputError(
            "token_embedding.rows must be a table with token_embedding.ids, a number for each row"
        )
    ids = ids.long()
    if len(ids) and not ((ids >= 0) & (ids < VOCABULARY)).all():
        raise InputError(f"token_embedding.ids must lie in 0..{VOCABULARY - 1}")
    table = torch.zeros(VOCABULARY, rows.shape[1])
    table[ids] = rows
    return table


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
        raise InputError(
            f"weights do not fit CLIP's ViT: {len(missing)} tensors are missing (first: "
            f"{', '.join(missing[:3]) or 'none'}), {len(surplus)} are unknown (first: "
            f"{', '.join(surplus[:3]) or 'none'})"
        )
    if wrong:
        first = wrong[0]
        raise InputError(f"{first} must be {tuple(expected[first])}, got {tuple(state[first].shape)}")


def _digest(state: dict[str, Tensor], facts: str = "") -> str:
    """Of values, and of what else decides about what they compute."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].reshape(-1).numpy().data)
    return digest.hexdigest()
