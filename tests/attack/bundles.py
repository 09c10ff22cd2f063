"""Attack everything that reads a bundle with mutated ones, whose hashes and checksum are made anew.

Every mutant must be refused as a `UserError` in one line, or judge frames with finite scores; nothing may hang, and no
file outside may appear or change. Mutants are judged in processes of their own, because ONNX Runtime is a C++ library
that a mutated graph may crash; crashes are counted beside the faults, since they are not ours to mend.

    python tests/attack/bundles.py --seed 0 --count 5000
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import hashlib
import io
import json
import math
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from graphs import drawn_frame, sealed, write_tiny_bundle
from parts import draw_parts

LONGEST = 20.0  # seconds that one mutant may take
MEMORY = 6 << 30  # bytes of address space that a process may have
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 7, 255, 256, 4096, 2**31, 2**32, 2**63, 2**64, 10**40, -(10**40), True, False, None),
    *(0.0, -0.0, 1e-40, 1e-300, 1e7, 1e30, 1e300, 1.7e308, 0.5, 0.999999999, "NaN", "1", "", "auto", [], {}),
    *(
        "../outside/secret",
        "/etc/hostname",
        "a\r\x1b[2K",
        "\ud800",
        "\u202e",
        "x" * 70_000,
        "model.onnx",
        [[]],
    ),
    *("calibrations/0001.npz", "golden.npz", "embeddings", "map", "fp16", "in the graph", "batch"),
)


@dataclass
class Figures:
    """What became of the mutants."""

    judged: int = 0
    refused: int = 0
    crashed: int = 0  # the process died in ONNX Runtime
    slowest: float = 0.0  # seconds
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)  # tracebacks, hangs, scores that are none, files outside
    crashes: list[str] = field(default_factory=list)


def attack(seed: int, count: int, *, processes: int = 2) -> Figures:
    """Judge with `count` mutants of small bundles; see the module."""
    figures, lock = Figures(), Lock()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        outside = root / "outside"
        outside.mkdir()
        (outside / "secret").write_text("secret")
        seeds = _write_seeds(root / "seeds")
        before = _state(root)
        numbers = iter(range(count))

        def work(worker: int) -> None:
            judge = _Judge(root / f"home{worker}")
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return judge.close()
                folder = root / f"mutant{worker}"
                kind = _mutate(random.Random(f"{seed} {number}"), seeds, folder)
                started = time.perf_counter()
                answer = judge(folder)
                seconds = time.perf_counter() - started
                shutil.rmtree(folder)
                with lock:
                    _count(figures, f"{kind} {number}", answer, seconds)

        with ThreadPoolExecutor(processes) as pool:
            list(pool.map(work, range(processes)))
        if (after := _state(root)) != before:
            figures.faults.append(f"files outside: {sorted(set(before.items()) ^ set(after.items()))[:5]}")
    return figures


def attack_arrays(seed: int, count: int) -> Figures:
    """Read `count` odd `.npy` and `.npz` files: each is an array of finite numbers, or refused in a line."""
    from acl_runtime.files.arrays import read_array, read_arrays
    from acl_runtime.files.errors import BundleError

    figures, rng = Figures(), random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            data, kind = _odd_array(rng)
            path = Path(scratch) / f"a.{kind}"
            path.write_bytes(data)
            started = time.perf_counter()
            try:
                arrays = (
                    [read_array(path, remedy="mend it")]
                    if kind == "npy"
                    else read_arrays(path, ("a", "b"), remedy="mend it")
                )
                if not all(array.dtype.kind in "biu" or np.isfinite(array).all() for array in arrays):
                    figures.faults.append(f"array {number}: not finite")
                answer = "judged"
            except BundleError as error:
                answer = "refused" if "\n" not in str(error) else f"fault: {error}"
            except Exception:
                answer = f"fault: {traceback.format_exc()}"
            _count(figures, f"{kind} {number}", answer, time.perf_counter() - started)
    return figures


def _count(figures: Figures, name: str, answer: str, seconds: float) -> None:
    figures.slowest = max(figures.slowest, seconds)
    figures.kinds[f"{name.split(maxsplit=1)[0]} {answer.split(':', maxsplit=1)[0]}"] += 1
    if answer == "judged":
        figures.judged += 1
    elif answer == "refused":
        figures.refused += 1
    elif answer.startswith("crash"):
        figures.crashed += 1
        figures.crashes.append(f"{name}: {answer}")
    else:
        figures.faults.append(f"{name}: {answer}")


class _Judge:
    """A process that judges mutants one by one; another is started where it dies or hangs."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._start()

    def __call__(self, folder: Path) -> str:
        self._pipe.send(str(folder))
        try:
            if self._pipe.poll(LONGEST):
                answer = self._pipe.recv()
                assert isinstance(answer, str)
                return answer
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            self._start()
            return f"crash: exit code {code}"
        self._process.kill()
        self._process.join()
        self._start()
        return f"hang: over {LONGEST:g} s"

    def close(self) -> None:
        self._pipe.close()
        self._process.join()

    def _start(self) -> None:
        self._home.mkdir(exist_ok=True)
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=_serve, args=(theirs, str(self._home)), daemon=True
        )
        self._process.start()
        theirs.close()


def _serve(pipe: Connection, home: str) -> None:
    os.environ["HOME"] = home
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # ONNX Runtime writes there
    while True:
        try:
            folder = pipe.recv()
        except EOFError:
            return
        pipe.send(_judge(Path(folder)))


def _judge(folder: Path) -> str:
    from acl_runtime.bundle.bundle import load_bundle, load_golden
    from acl_runtime.calibration.record import check_calibration
    from acl_runtime.commands.describe import describe
    from acl_runtime.detection.detector import Detector
    from acl_runtime.files.errors import FrameError, UserError

    refused = False
    try:
        for step in (_judge_frames(folder, Detector), lambda: load_golden(load_bundle(folder))):
            try:
                step()
            except FrameError:
                pass
            except UserError as error:
                refused = True
                if "\n" in str(error):
                    return f"fault: more than a line: {error}"
        try:
            bundle = load_bundle(folder)
            describe(bundle)
            check_calibration(bundle)
        except UserError:
            refused = True
    except (
        FileNotFoundError,
        PermissionError,
        IsADirectoryError,
        NotADirectoryError,
    ):  # one line for the user too
        return "refused"
    except Exception:
        return f"fault: {traceback.format_exc()}"
    return "refused" if refused else "judged"


def _judge_frames(folder: Path, detector_of: Callable[..., Any]) -> Callable[[], None]:
    def judge() -> None:
        detector = detector_of(folder, provider="CPUExecutionProvider", backend="onnxruntime")
        for seed in (1, 2):
            verdict = detector(drawn_frame(seed))
            if not math.isfinite(verdict.score) or not np.isfinite(verdict.anomaly_map).all():
                raise AssertionError(f"score {verdict.score}, is_anomalous {verdict.is_anomalous}")

    return judge


def _write_seeds(root: Path) -> list[Path]:
    """Bundles of each kind: a map; embeddings, calibrated with a patch memory; several graphs."""
    from acl_runtime.calibration.calibrate import calibrate_bundle
    from acl_runtime.detection.detector import Detector
    from acl_runtime.sources.files import list_sources

    plain = write_tiny_bundle(root / "map")
    calibrated = write_tiny_bundle(root / "embeddings", head="embeddings")
    parts = draw_parts(root / "parts", good=36, defective=0)
    calibrate_bundle(Detector(calibrated), list_sources([parts / "good"]), memory=8)
    ladder = write_tiny_bundle(root / "ladder", ladder=("fp16", "fp32"))
    for folder in (plain, calibrated, ladder):
        (folder / ".lock").unlink(missing_ok=True)
    return [plain, calibrated, ladder]


def _mutate(rng: random.Random, seeds: list[Path], folder: Path) -> str:
    """Write a mutant and return its kind; hashes are made anew, except where the bytes of the manifest are changed."""
    shutil.copytree(rng.choice(seeds), folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    kinds = ("manifest",) * 4 + ("array",) * 3 + ("graph",) * 3 + ("record",) * 2 + ("bytes",)
    kind = rng.choice(kinds)
    suffixes = {"array": (".npy", ".npz"), "graph": (".onnx",), "record": (".json",)}
    chosen = [path for path in files if path.suffix in suffixes.get(kind, ())]
    if kind == "bytes" or (kind in suffixes and not chosen):
        data = (folder / "manifest.json").read_bytes()
        (folder / "manifest.json").write_bytes(_flip(rng, data))
        return "bytes"
    document = json.loads((folder / "manifest.json").read_text())
    if kind == "manifest":
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _change(rng, document)
    else:
        path = rng.choice(chosen)
        if kind == "record":
            record = json.loads(path.read_text())
            _change(rng, record)
            path.write_text(json.dumps(record))
        elif kind == "array" and rng.random() < 0.5:
            path.write_bytes(_change_array(rng, path))
        else:
            path.write_bytes(_flip(rng, path.read_bytes()))
        if rng.random() < 0.02:
            target = folder.parent / "outside" / "secret"
            path.unlink()
            path.symlink_to(target)
    for path in files:  # the hashes of what was changed
        name = path.relative_to(folder).as_posix()
        entry = document.get("files", {}).get(name) if isinstance(document.get("files"), dict) else None
        if kind != "manifest" and isinstance(entry, dict):
            data = path.read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "manifest.json").write_text(json.dumps(sealed(document)))
    return kind


def _change(rng: random.Random, document: dict[str, Any]) -> None:
    """Put an odd value, or none, at a random place."""
    value: Any = document
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.85:
            value = value[key]
            continue
        draw = rng.random()
        if draw < 0.08:
            del value[key]
        elif draw < 0.12 and isinstance(value, dict):
            value[rng.choice(("more", "../x", "\x1b[31m", "format"))] = value[key]
        elif draw < 0.35 and type(value[key]) in (int, float):
            value[key] = value[key] * rng.choice((-1, 0.5, 2, 3, 10, 1000)) + rng.choice((0, 1, -1))
        else:
            value[key] = copy.deepcopy(rng.choice(NUMBERS))
        return


def _flip(rng: random.Random, data: bytes) -> bytes:
    """Change, insert or remove a few bytes, or cut the end off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, draw = rng.randrange(max(1, len(changed))), rng.random()
        if draw < 0.6 and changed:
            changed[at] = rng.choice((changed[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 0xFF, 0x7F))
        elif draw < 0.75:
            changed[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
        elif draw < 0.9:
            del changed[at : at + rng.choice((1, 2, 8))]
        elif draw < 0.93:
            del changed[at:]
        else:
            changed[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**16, 2**31, 2**32 - 1)))
    return bytes(changed)


def _change_array(rng: random.Random, path: Path) -> bytes:
    """The file with a number that is none, another shape or another type in one of its arrays."""
    loaded = np.load(path)
    arrays = dict(loaded) if path.suffix == ".npz" else {"": loaded}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    draw = rng.randrange(6)
    if draw == 0 and array.dtype.kind == "f":
        array = array.copy()
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf, 6e4))
    elif draw == 1:
        array = array.astype(rng.choice(("f2", "f4", "f8", "u1", "i8", "?", "c8", "O", "U5")))
    elif draw == 2:
        array = array[..., : array.shape[-1] // 2] if array.ndim else array
    elif draw == 3:
        array = array[None]
    elif draw == 4:
        array = array[:0]
    else:
        array = array * rng.choice((0, -1, 1e30, 1e-30)) if array.dtype.kind == "f" else array + 1
    arrays[name] = array
    if rng.random() < 0.1:
        del arrays[name]
    buffer = io.BytesIO()
    with np.errstate(all="ignore"):
        if path.suffix == ".npz":
            np.savez(buffer, **arrays)
        else:
            np.save(buffer, arrays.get("", np.zeros(0)), allow_pickle=True)
    return buffer.getvalue()


def _odd_array(rng: random.Random) -> tuple[bytes, str]:
    """A file of one or two arrays, odd in its header or in its bytes."""
    kind = rng.choice(("npy", "npz"))
    dtype = rng.choice(("<f4", ">f8", "<f2", "|u1", "|b1", "<i8", "<c8", "|O", "<U3", "<M8[s]"))
    shape = tuple(rng.randrange(4) for _ in range(rng.randrange(5)))
    array = np.zeros(shape, dtype)
    if array.dtype.kind == "f" and rng.random() < 0.2 and array.size:
        array.reshape(-1)[0] = rng.choice((np.nan, np.inf))
    buffer = io.BytesIO()
    save = rng.choice((np.savez, np.savez_compressed))
    np.save(buffer, array, allow_pickle=True) if kind == "npy" else save(buffer, a=array, b=array)
    data = buffer.getvalue()
    if rng.random() < 0.3:
        words = (b"(" * 99, b"{" * 30, b"1" * 40, b"-1", b"1e9", b"0x7", b"1<<9", b"'''", b"\\N{", b"\x00")
        place = max(data.find(b"shape"), 10) + rng.randrange(12)
        data = data[:place] + rng.choice(words) + data[place:]
    return (_flip(rng, data) if rng.random() < 0.7 else data), kind


def _state(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file that no mutant may touch, those of a user's home among them."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).parts[0].startswith("mutant")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--arrays", type=int, default=500)
    arguments = parser.parse_args()
    started = time.perf_counter()
    for name, figures in (
        ("bundles", attack(arguments.seed, arguments.count)),
        ("arrays", attack_arrays(arguments.seed, arguments.arrays)),
    ):
        print(
            f"{name}: {figures.judged} judged, {figures.refused} refused, {figures.crashed} crashed in ONNX Runtime, "
            f"{len(figures.faults)} faults; slowest {figures.slowest:.2f} s"
        )
        print(*sorted(figures.kinds.items()), *figures.crashes[:20], *figures.faults, sep="\n")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
