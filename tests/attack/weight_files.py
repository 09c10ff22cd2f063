"""Attack the readers of weights, checkpoints, prompts and loss logs with mutated files.

Every mutant must be read, or refused as a `UserError` in one line; nothing may hang, and no file may appear.

    python tests/attack/weight_files.py --seed 0 --count 2000
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import signal
import struct
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save

from acl_runtime.files.errors import UserError
from acl_train.clip import Architecture
from acl_train.config import VisionConfig
from acl_train.convert import convert_checkpoint
from acl_train.log import check_log
from acl_train.prompts import METADATA, PromptsConfig, check_output, load_prompts
from acl_train.weights import Weights, build_clip, load_weights

SECONDS = 20
WIDTH, JOINT, PATCH, LAYERS = 64, 32, 14, 2
VISION = VisionConfig(28, (2,), 1)
NASTY = (0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TEXTS = ("NaN", "1e999", "-1", "100000000", "null", "[]", "{}", '"x"', "true", "[" * 2000, "1" * 5000)


@dataclass
class Figures:
    """What became of the mutants."""

    read: int = 0
    refused: int = 0
    slowest: tuple[float, str] = (0.0, "")  # seconds and which
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class HangError(BaseException):
    """The reader took too long; no reader catches this."""


class Marker:
    """A pickle that makes a file when it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def attack(seed: int, count: int) -> Figures:
    """Read `count` mutants, the same ones for the same seed."""
    rng, figures = random.Random(seed), Figures()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights = small_weights()
        seeds = make_seeds(folder, weights)
        readers = make_readers(weights)
        for name, content in seeds.items():  # the good ones are read, which also imports what torch puts off
            good = folder / f"good{Path(name).suffix}"
            good.write_bytes(content)
            readers[name.partition(".")[0]](good)
            good.unlink()
        before = set(folder.iterdir())
        for number in range(count):
            name = rng.choice(sorted(seeds))
            mutation = rng.choice(MUTATIONS)
            target = folder / f"mutant{Path(name).suffix}"
            target.write_bytes(mutation(rng, seeds[name], folder))
            _try(
                figures,
                readers[name.partition(".")[0]],
                target,
                f"{seed}:{number} {name} {mutation.__name__}",
            )
            target.unlink()
            if appeared := set(folder.iterdir()) - before:
                figures.faults.append(f"{seed}:{number} {name} {mutation.__name__}: wrote {appeared}")
                before |= appeared
    warnings.resetwarnings()
    return figures


def _try(figures: Figures, reader: Callable[[Path], object], path: Path, label: str) -> None:
    started = time.monotonic()
    previous = signal.signal(signal.SIGALRM, _hang)
    signal.alarm(SECONDS)
    try:
        reader(path)
        figures.read += 1
    except (UserError, FileNotFoundError) as error:
        figures.refused += 1
        figures.kinds[label.split()[1]] += 1
        if "\n" in str(error) or len(str(error)) > 2000:
            figures.faults.append(f"{label}: a message of several lines: {error}")
    except (Exception, HangError) as error:
        figures.faults.append(f"{label}: {type(error).__name__}: {error}"[:300])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    figures.slowest = max(figures.slowest, (time.monotonic() - started, label))


def _hang(number: int, frame: FrameType | None) -> None:
    raise HangError(f"more than {SECONDS} s")


def small_weights() -> Weights:
    """A CLIP that is read in milliseconds."""
    architecture = Architecture(JOINT, WIDTH, LAYERS, 1, PATCH, 2, 77, 60, WIDTH, LAYERS, 1, quick_gelu=True)
    from acl_train.clip import CLIP

    torch.manual_seed(0)
    clip = CLIP(architecture, VISION)
    state = {name: torch.randn_like(tensor) * 0.02 for name, tensor in clip.state_dict().items()}
    return Weights(state, architecture, "small", "small.pt", "0" * 64)


class Archive(torch.nn.Module):
    """The weights as modules, for TorchScript."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def as_archive(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Modules nested as the names are."""
    root = Archive()
    for name, tensor in state.items():
        node: torch.nn.Module = root
        *parents, leaf = name.split(".")
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, Archive())
            node = dict(node.named_children())[parent]
        node.register_parameter(leaf, torch.nn.Parameter(tensor, requires_grad=False))
    return root


def make_seeds(folder: Path, weights: Weights) -> dict[str, bytes]:
    """Good files of every format, by the reader's name and a suffix."""
    saved: dict[str, bytes] = {}

    def keep(name: str, write: Callable[[Path], object]) -> None:
        path = folder / name
        write(path)
        saved[name] = path.read_bytes()
        path.unlink()

    state = weights.state
    half = {name: tensor.half() for name, tensor in state.items()}
    keep("weights.zip.pt", lambda path: torch.save(half, path))
    keep("weights.nested.pt", lambda path: torch.save({"epoch": 1, "state_dict": state}, path))
    keep("weights.old.pt", lambda path: torch.save(half, path, _use_new_zipfile_serialization=False))
    keep("weights.safetensors", lambda path: path.write_bytes(save(half)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(as_archive(half))
        keep("weights.archive.pt", script.save)
    learner = {name: torch.randn(1, 1, 12, WIDTH) for name in ("ctx_pos", "ctx_neg")}
    learner["compound_prompts_text.0"] = torch.randn(4, WIDTH)
    keep("checkpoint.pth", lambda path: torch.save({"prompt_learner": learner}, path))
    keep(
        "checkpoint.old.pth",
        lambda path: torch.save({"prompt_learner": learner}, path, _use_new_zipfile_serialization=False),
    )
    config = PromptsConfig("small", "small.pt", "0" * 64, True, VISION, "released", {"epochs": 1})
    tensors = {"ctx": torch.randn(2, 12, WIDTH), "deep_ctx": torch.randn(1, 4, WIDTH)}
    keep("prompts.safetensors", lambda path: path.write_bytes(save(tensors, {METADATA: config.to_json()})))
    keep("log.jsonl", lambda path: path.write_text('{"epoch": 1, "step": 1, "loss": 0.5}\n' * 3))
    return saved


def make_readers(weights: Weights) -> dict[str, Callable[[Path], object]]:
    """What reads the files, by the first part of their names."""
    return {
        "weights": lambda path: build_clip(load_weights(weights=str(path)), VISION),
        "checkpoint": lambda path: convert_checkpoint(path, weights, VISION),
        "prompts": _read_prompts,
        "log": check_log,
    }


def _read_prompts(path: Path) -> None:
    load_prompts(path)
    check_output(path)


def flip_bits(rng: random.Random, data: bytes, folder: Path) -> bytes:
    """Some bits, more often at the beginning and the end, where the structure is."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        near = min(len(data), rng.choice((64, 1000, len(data))))
        place = rng.randrange(near) if rng.random() < 0.5 else len(data) - 1 - rng.randrange(near)
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes, folder: Path) -> bytes:
    """The file's beginning, end, or all but a part."""
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return rng.choice((data[:start], data[end:], data[:start] + data[end:], data + data[start:end]))


def set_number(rng: random.Random, data: bytes, folder: Path) -> bytes:
    """An extreme number somewhere in the structure."""
    changed, place = bytearray(data), rng.randrange(min(len(data) - 8, 4000))
    changed[place : place + 4] = struct.pack("<I", rng.choice(NASTY))
    return bytes(changed)


def change_record(rng: random.Random, data: bytes, folder: Path) -> bytes:
    """A record of a zip file with its checksum made again, a header of safetensors, or bytes of another file."""
    if data[:4] == b"PK\x03\x04":
        return _change_zip(rng, data, folder)
    if data[8:9] == b"{":
        return _change_header(rng, data)
    return _change_pickle(rng, data, folder)


def _change_zip(rng: random.Random, data: bytes, folder: Path) -> bytes:
    source, target = folder / ".in", folder / ".out"
    source.write_bytes(data)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", rng.choice((0, 0, 0, 8))) as new:
        names = old.namelist()
        chosen = next((name for name in names if name.endswith("data.pkl")), names[0])
        chosen = chosen if rng.random() < 0.8 else rng.choice(names)
        for name in names:
            record = old.read(name)
            if name == chosen:
                how = rng.randrange(5)
                if how == 4:
                    continue
                record = _change_pickle(rng, record, folder) if how < 3 else cut(rng, record or b"0", folder)
            new.writestr(name, record)
    changed = target.read_bytes()
    source.unlink()
    target.unlink()
    return changed


def _change_pickle(rng: random.Random, data: bytes, folder: Path) -> bytes:
    how = rng.randrange(6)
    if how == 0:
        return pickle.dumps(Marker(folder / "ran"), rng.choice((2, 4)))
    if how == 1:  # something dangerous in the middle
        place = rng.randrange(max(1, len(data)))
        return data[:place] + pickle.dumps(Marker(folder / "ran"), 2)[2:-1] + data[place:]
    if how == 2:
        for old, new in (
            (b"HalfStorage", b"LongStorage"),
            (b"FloatStorage", b"OddStorage"),
            (b"torch", b"posix"),
        ):
            if rng.random() < 0.5:
                data = data.replace(old, new, 1)
        return data
    if how == 3:  # an operation that is repeated very often
        place = rng.randrange(max(1, len(data)))
        return (
            data[:place] + rng.choice((b"(", b"}", b"]", b"\x85", b"N", b"2", b"0")) * 100_000 + data[place:]
        )
    changed = bytearray(data or b"0")
    for _ in range(rng.choice((1, 4, 32))):
        changed[rng.randrange(min(len(changed), 5000))] = rng.choice(
            (*b"()}]RQbst.\x85\x81cqrhKMJX", rng.randrange(256))
        )
    return bytes(changed)


def _change_header(rng: random.Random, data: bytes) -> bytes:
    (size,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + size].decode(), data[8 + size :]
    document = json.loads(header)
    name = rng.choice(list(document))
    entry = document[name]
    how = rng.randrange(5)
    if how == 0:
        document[name + "x"] = document.pop(name)
    elif how == 1 and "dtype" in entry:
        entry["dtype"] = rng.choice(("F32", "F64", "I64", "BOOL", "F8_E4M3", "F4", "C64", "BF16", "X"))
    elif how == 2 and "shape" in entry:
        entry["shape"] = rng.choice(([], [0], [2**62, 4], [-1], entry["shape"][::-1], [1, *entry["shape"]]))
    elif how == 3 and METADATA in document.get("__metadata__", {}):
        document["__metadata__"][METADATA] = _change_json(rng, document["__metadata__"][METADATA])
    else:
        body = flip_bits(rng, body, Path()) if rng.random() < 0.5 else body.replace(body[:2], b"\x00\x7c", 3)
    written = json.dumps(document).encode()
    return struct.pack("<Q", len(written)) + written + body


def _change_json(rng: random.Random, text: str) -> str:
    document = json.loads(text)
    holder = document if rng.random() < 0.6 else document["vision"]
    key = rng.choice(list(holder))
    if rng.random() < 0.2:
        del holder[key]
        return json.dumps(document)
    holder[key] = "CHANGED"
    return json.dumps(document).replace('"CHANGED"', rng.choice(TEXTS))


def change_text(rng: random.Random, data: bytes, folder: Path) -> bytes:
    """A value of the JSON inside, as text: its length stays, or the file is damaged."""
    for _ in range(rng.choice((1, 3))):
        old = rng.choice(
            (b'"epoch"', b"1", b"true", b"false", b"[", b"vision", b"{}", b"28", b"released", b"shape")
        )
        new = rng.choice((b"null", b"9", b"-", b"[", b"{", b"\xff", b"99", old * 2))
        data = data.replace(old, new, 1)
    return data


MUTATIONS: tuple[Callable[[random.Random, bytes, Path], bytes], ...] = (
    flip_bits,
    cut,
    set_number,
    change_record,
    change_record,
    change_record,
    change_text,
)


def main() -> None:
    """Print the figures; exit 1 if a mutant did anything else than be read or refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    arguments = parser.parse_args()
    started = time.monotonic()
    figures = attack(arguments.seed, arguments.count)
    print(
        f"{arguments.count} mutants in {time.monotonic() - started:.0f} s: {figures.read} read, {figures.refused} "
        f"refused in a line, slowest {figures.slowest[0]:.2f} s ({figures.slowest[1]}), {len(figures.faults)} faults"
    )
    for fault in figures.faults[:50]:
        print(fault)
    raise SystemExit(bool(figures.faults))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    main()
