"""Where torch computes."""

from __future__ import annotations

import torch

from acl_runtime.files.errors import InputError


def choose_device(name: str) -> str:
    """`auto` is CUDA where there is a GPU, else the CPU.

    Raises:
        InputError: If CUDA is asked for and torch has none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda is not available to this torch; pass --device cpu, or install CUDA's torch"
        )
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
