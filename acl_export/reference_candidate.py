"""The published pipeline in PyTorch as a candidate of a benchmark."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from acl_export.torch_session import TorchSession
from acl_runtime.bench.candidates import REFERENCE, Candidate
from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Drift
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.metric_change import measure_change
from acl_train.reference import run_reference
from acl_train.weights import Network

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT_BYTES = 1 << 30


def make_reference(bundle: Bundle, clip: Network) -> Candidate:
    """A network as the published code runs it: eager, float32, one frame at a time, on the device where it is.

    Args:
        bundle: Has the text embeddings and the size of the blur.
        clip: What the bundle was exported from, see `load_clip`.
    """
    vectors = torch.from_numpy(load_text_embeddings(bundle))
    device = str(clip.device).upper()

    def run(frames: Sequence[np.ndarray]) -> Mapping[str, float]:
        reference = run_reference(
            clip,
            vectors,
            frames,
            blur_sigma=bundle.manifest.blur_sigma,
            temperature=bundle.manifest.temperature,
        )
        return reference.latency_ms

    return Candidate(backend=REFERENCE, provider=device, precision="fp32", batch=1, run=run)


def drift_from(bundle: Bundle, clip: Network, data: Sequence[Path]) -> Callable[[Detector], Drift]:
    """Says how far a detector moves the metrics on labelled images from those of the network in PyTorch.

    Args:
        bundle: As in `make_reference`.
        clip: As there.
        data: Folders of data sets, as `acl eval` reads them.
    """
    session = TorchSession(clip, torch.from_numpy(load_text_embeddings(bundle)), bundle.manifest)
    return partial(measure_change, reference=Detector(bundle, session=session), data=data)


def keep_freed_memory() -> bool:
    """Have glibc keep large freed blocks for reuse, in this process; whether it does.

    PyTorch's eager attention frees and asks for large blocks in every layer, and without this the system clears their
    pages anew each time. A comparison at a large size that leaves it so flatters us.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(which, KEPT_BYTES) for which in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    )
