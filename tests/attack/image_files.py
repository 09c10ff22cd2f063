"""Damaged images of every format that is read: each gives a frame or a FrameError, soon, in little memory.

python tests/attack/image_files.py --seed 0 --count 50000
"""

from __future__ import annotations

import argparse
import io
import resource
import signal
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from acl_runtime.files.errors import FrameError
from acl_runtime.images.decode import ReadSettings, load_frame

LONGEST = 20.0  # seconds that one image may take
Pixels = npt.NDArray[np.uint8]


@dataclass
class Outcome:
    """What became of the mutants."""

    frames: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds
    kinds: Counter[str] = field(default_factory=Counter)  # mutants by the format that they were made from


def attack(seed: int, count: int) -> Outcome:
    """Read `count` mutants of small images; anything but a frame or a FrameError of one line raises.

    Args:
        seed: Of the mutants.
        count: Of the mutants.
    """
    rng, outcome = np.random.default_rng(seed), Outcome()
    seeds = list(_seeds(rng))
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.png"
        for _ in range(count):
            kind, data = seeds[rng.integers(len(seeds))]
            path.write_bytes(_mutate(rng, data, [other for _, other in seeds]))
            reading = ReadSettings(
                bits=None if rng.random() < 0.7 else int(rng.integers(8, 17)), exif=bool(rng.random() < 0.3)
            )
            started = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, LONGEST)
            refusal = _read(path, reading)
            signal.setitimer(signal.ITIMER_REAL, 0)
            outcome.refused += bool(refusal)
            outcome.frames += not refusal
            outcome.slowest = max(outcome.slowest, time.perf_counter() - started)
            outcome.kinds[kind] += 1
    return outcome


def _read(path: Path, reading: ReadSettings) -> str:
    """The sentence by which an image is refused; empty where it is read."""
    try:
        frame = load_frame(path, reading)
    except FrameError as error:
        refusal = str(error)
        assert refusal.startswith(f"{path}: "), refusal
        assert "\n" not in refusal
        return refusal
    assert frame.dtype in (np.uint8, np.uint16)
    assert frame.ndim == 2 or frame.shape[2] in (3, 4)
    assert frame.size
    return ""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"an image takes more than {LONGEST:g} s")


def _seeds(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """A small image of each format, mode and compression that can be written here."""
    colour = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    colour[4:20, 4:20] = 90
    rgb = Image.fromarray(colour)
    modes = [rgb.convert(mode) for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK")]
    modes.append(Image.fromarray(rng.integers(0, 65536, (24, 32), dtype=np.uint16)))
    exif = Image.Exif()
    exif[0x0112] = 6
    packings: tuple[object, ...] = (
        "tiff_lzw",
        "tiff_adobe_deflate",
        "packbits",
        "jpeg",
        "lzma",
        "zstd",
        "group4",
    )
    options: dict[str, list[dict[str, Any]]] = {
        "PNG": [{}, {"optimize": True}],
        "JPEG": [{}, {"progressive": True}, {"exif": exif}],
        "BMP": [{}],
        "GIF": [{}, {"interlace": 0}, {"save_all": True, "append_images": [rgb.rotate(90).convert("P")]}],
        "WEBP": [{}, {"lossless": True}, {"exif": exif}],
        "PPM": [{}],
        "JPEG2000": [{}, {"irreversible": True}],
        "TIFF": [{}, {"exif": exif}, {"save_all": True, "append_images": [rgb]}],
    }
    options["TIFF"] += [{"compression": packing} for packing in packings]
    for kind, variants in options.items():
        for image in modes:
            for variant in variants:
                buffer = io.BytesIO()
                try:
                    image.save(buffer, kind, **variant)
                except (OSError, ValueError, KeyError, RuntimeError):  # not every format has every mode
                    continue
                yield kind, buffer.getvalue()
    yield "PPM", b"P2\n6 4\n4095\n" + b" ".join(b"%d" % value for value in range(24))
    yield "BMP", _rle_bmp()


def _rle_bmp() -> bytes:
    body = b"".join(bytes([16, row]) + b"\0\0" for row in range(12)) + b"\0\1"
    sizes = (40, 16, 12)
    header = (
        b"".join(size.to_bytes(4, "little") for size in sizes) + b"\1\0\x08\0" + (1).to_bytes(4, "little")
    )
    rest = len(body).to_bytes(4, "little") + bytes(8) + (256).to_bytes(4, "little") + bytes(4)
    palette = b"".join(bytes([value, value, value, 0]) for value in range(256))
    start = 14 + len(header + rest + palette)
    return (
        (
            b"BM"
            + (start + len(body)).to_bytes(4, "little")
            + bytes(4)
            + start.to_bytes(4, "little")
            + header
            + rest
        )
        + palette
        + body
    )


def _mutate(rng: np.random.Generator, data: bytes, others: list[bytes]) -> bytes:
    """Change bytes, cut, fill with zeros, repeat or join with another image."""
    mutant = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(0, max(1, min(len(mutant), 200 if rng.random() < 0.6 else len(mutant)))))
        way = int(rng.integers(0, 8))
        if way <= 2:
            for _ in range(int(rng.integers(1, 9))):
                mutant[int(rng.integers(place, min(len(mutant), place + 64)))] = int(rng.integers(0, 256))
        elif way == 3:
            mutant[place : place + 4] = (
                rng.choice([0, 1, 255, 2**31 - 1, 2**16, 2**31]).astype("<u4").tobytes()
            )
        elif way == 4:
            mutant[place : place + 4] = (
                rng.choice([0, 1, 255, 2**31 - 1, 2**16, 20000]).astype(">u4").tobytes()
            )
        elif way == 5:
            del mutant[place : place + int(rng.integers(1, max(2, len(mutant) // 2)))]
        elif way == 6:
            end = min(len(mutant), place + int(rng.integers(1, max(2, len(mutant)))))
            mutant[place:end] = bytes(end - place)
        else:
            other = others[int(rng.integers(len(others)))]
            mutant[place:] = other[int(rng.integers(0, len(other))) :]
        if not mutant:
            mutant = bytearray(data[:3])
    return _remake_sums(mutant) if rng.random() < 0.7 else bytes(mutant)


def _remake_sums(mutant: bytearray) -> bytes:
    """Give the chunks of a PNG right checksums, so that what they hold is looked at."""
    position = 8
    while mutant.startswith(b"\x89PNG") and position + 12 <= len(mutant):
        end = position + 8 + int.from_bytes(mutant[position : position + 4], "big")
        mutant[end : end + 4] = zlib.crc32(mutant[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(mutant)


def main() -> None:
    """Print what became of many mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=50_000)
    given = parser.parse_args()
    started = time.perf_counter()
    outcome = attack(given.seed, given.count)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.count} mutants of {dict(sorted(outcome.kinds.items()))}")
    print(f"{outcome.frames} frames, {outcome.refused} refused in one sentence, nothing else")
    print(
        f"slowest {outcome.slowest:.2f} s, peak memory {memory:.0f} MiB, {time.perf_counter() - started:.0f} s in all"
    )


if __name__ == "__main__":
    main()
