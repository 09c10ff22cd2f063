"""Files of tensors in the formats that CLIP is published in, read without running anything in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a `.safetensors`, a `.pt` state dict, or a TorchScript archive; never runs its code.

    Raises:
        ValueError: If the file is none of these, is damaged, or is a pickle that wants to run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # torch's advice to those who save such files, not to those who read
            warnings.simplefilter("ignore")
            if _is_torchscript(path):
                archive = torch.jit.load(path, map_location="cpu")
                return dict(archive.state_dict())
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: not a plain file of tensors (its pickle asks to run code, or is damaged); refused"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged or not a file of tensors ({_first_line(error)})") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]  # open_clip's training checkpoints
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError(f"{path}: must hold a dictionary of tensors, got {type(loaded).__name__}")
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
