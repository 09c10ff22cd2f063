"""From words to what embeddings are compared with: prompts, learned or hand-written, through the text tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from acl_runtime.files.errors import InputError
from acl_train.clip import CLIP
from acl_train.config import OBJECT
from acl_train.methods import METHODS, Method
from acl_train.prompts import Prompts
from acl_train.sentences import Pair
from acl_train.weights import Network


def head_vectors(
    clip: Network, tensors: Mapping[str, Tensor], method: Method, words: Sequence[str], names: Sequence[str]
) -> Tensor:
    """What embeddings of each product are compared with.

    Args:
        clip: The frozen network.
        tensors: What was learned, see `Prompts`.
        method: Says whether its sentences are hand-written.
        words: See `PromptsConfig`.
        names: Of C products.

    Returns:
        (C, H, 2, D) float32, unit norm, rows NORMAL, ANOMALOUS. H is 1 for the same vectors throughout, or 1 + L: for
        images first, then for each layer's patches; or 2 L: for each layer's class token first.

    Raises:
        InputError: Words are to be embedded and the network has no text tower.
    """
    if "vectors" in tensors:
        return F.normalize(tensors["vectors"], dim=-1).expand(len(names), -1, -1, -1)
    clip = require_text(clip)
    if method.sentences is not None:
        return torch.stack([embed_pair(clip, method.sentences(name)) for name in names]).unsqueeze(1)
    texts = [word.format(name) for name in names for word in words]
    embeddings = text_embeddings(clip, tensors["ctx"], tensors["deep_ctx"], texts)  # (2C, D)
    vectors: Tensor = embeddings.unflatten(0, (len(names), 1, 2))
    return vectors


def require_text(network: Network) -> CLIP:
    """The network if it can embed words; InputError otherwise."""
    if isinstance(network, CLIP):
        return network
    raise InputError(
        "the backbone has no text tower: learn vectors by --head-vectors decoupled, or export --method memory"
    )


def prompts_vectors(clip: Network, prompts: Prompts, name: str = OBJECT) -> Tensor:
    """`head_vectors` of one product, (H, 2, D), without gradients."""
    with torch.no_grad():
        method = METHODS[prompts.config.method]
        return head_vectors(clip, prompts.tensors, method, prompts.config.words, [name])[0]


def text_embeddings(
    clip: CLIP, ctx: Tensor, deep_ctx: Tensor, texts: Sequence[str] = ("object.", "damaged object.")
) -> Tensor:
    """Embed prompts `[ctx] text`, by default the paper's two.

    Args:
        clip: The frozen network.
        ctx: (2, N, W) float32, of NORMAL and ANOMALOUS, or (1, N, W) for both.
        deep_ctx: (K, M, W) float32, shared by all prompts. Rounded to fp16 here, and so is the gradient of
            each prompt on its way back, because the published code casts it so.
        texts: T of them, NORMAL and ANOMALOUS in turn.

    Returns:
        (T, D) float32, unit norm.
    """
    prompts, ends = assemble(clip, ctx.repeat(len(texts) // len(ctx), 1, 1), texts)
    deep = deep_ctx.unsqueeze(1).expand(-1, len(texts), -1, -1).half().float()  # (K, T, M, W)
    return clip.encode_text(prompts, ends, deep)


def assemble(clip: CLIP, ctx: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Put learned context before texts, (T, N, W) before T of them.

    Returns:
        (T, length, W) token embeddings, cut after the longest prompt's end (the tower is causal), and (T,) int64
        positions of the end-of-text tokens.
    """
    placeholders = " ".join("X" * ctx.shape[1])
    tokens = tokenize(clip, [f"{placeholders} {text}" for text in texts])
    ends = tokens.argmax(dim=1)  # end-of-text has the highest id
    tokens = tokens[:, : int(ends.max()) + 1]
    embedded = clip.token_embedding(tokens.to(ctx.device))  # (T, length, W)
    words = 1 + ctx.shape[1]
    return torch.cat([embedded[:, :1], ctx, embedded[:, words:]], dim=1), ends.to(ctx.device)


def embed_pair(clip: CLIP, pair: Pair) -> Tensor:
    """(2, D) directions of the means of two sets of sentences, for NORMAL and for ANOMALOUS."""
    return F.normalize(torch.stack([embed_texts(clip, texts).mean(dim=0) for texts in pair]), dim=-1)


def embed_texts(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """Embed hand-written texts: (N, D) float32, unit norm."""
    tokens = tokenize(clip, texts).to(clip.text_projection.device)
    ends = tokens.argmax(dim=1)  # end-of-text has the highest id
    tokens = tokens[:, : int(ends.max()) + 1]  # the tower is causal
    return clip.encode_text(clip.token_embedding(tokens), ends)


def tokenize(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """CLIP's byte-pair tokens, (N, context length) int64, zero-padded.

    Raises:
        InputError: A text is longer than the text tower takes; open_clip would cut it without a word.
    """
    tokenizer, most = _tokenizer(clip.architecture.context_length), clip.architecture.context_length - 2
    for text in texts:
        if (found := len(tokenizer.encode(text))) > most:
            raise InputError(
                f"a prompt must have at most {most} tokens, got {found}; shorten the product's name, --word or "
                f"--ctx-tokens (it begins {text[:40]!r})"
            )
    tokens: Tensor = tokenizer(list(texts))
    return tokens


@lru_cache
def _tokenizer(context_length: int) -> Any:
    """Reads its vocabulary in 80 ms, which every learning step would otherwise pay."""
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import

    return SimpleTokenizer(context_length=context_length)
