"""The published pipeline in PyTorch as one who takes part in a benchmark."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from acl_export.torch_session import load_clip
from acl_runtime.bench.contenders import REFERENCE, Contender
from acl_runtime.bundle import Bundle, load_text_embeddings
from acl_train.reference import run_reference

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT_BYTES = 1 << 30


def enter_reference(bundle: Bundle, weights: str | None = None) -> Contender:
    """The network that a bundle was exported from, as the published code runs it: eager, float32, one frame at a time.

    Args:
        bundle: Says which weights, layers and text embeddings.
        weights: open_clip tag or file of the weights; None for what the bundle was exported from.

    Raises:
        FileNotFoundError: The weights were a file and it is not here.
        ValueError: They are not those of the bundle.
    """
    clip = load_clip(bundle, weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clip = clip.to(device)
    text = torch.from_numpy(load_text_embeddings(bundle))

    def judge(frames: Sequence[np.ndarray]) -> Mapping[str, float]:
        return run_reference(clip, text, frames, blur_sigma=bundle.manifest.blur_sigma).latency_ms

    return Contender(REFERENCE, device.upper(), "fp32", 1, judge)


def keep_freed_memory() -> bool:
    """Have glibc keep large freed blocks for reuse, in this process; whether it does.

    PyTorch's eager attention frees and asks for hundreds of megabytes in every block, and without this the system
    clears their pages anew each time: seconds per frame at 518 pixels. A comparison that leaves it so flatters us.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(which, KEPT_BYTES) for which in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    )
