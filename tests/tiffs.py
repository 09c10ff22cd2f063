"""TIFF files by hand, as Pillow does not write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def make_tiff(
    strips: Sequence[bytes],
    *,
    width: int,
    height: int,
    rows_per_strip: int,
    bits: Sequence[int] = (8,),
    tags: Sequence[tuple[int, int]] = (),
) -> bytes:
    """Little-endian TIFF, uncompressed unless the tags say otherwise.

    Args:
        strips: The data of each.
        width: In pixels.
        height: In pixels.
        rows_per_strip: Of all strips but the last.
        bits: Of each sample.
        tags: Further ones (tag, value), or other values for those that are set here.
    """
    offsets = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    counts = [len(strip) for strip in strips]
    entries: dict[int, list[int]] = {
        **{256: [width], 257: [height], 258: list(bits), 259: [1], 262: [1 if len(bits) == 1 else 2]},
        **{273: offsets, 277: [len(bits)], 278: [rows_per_strip], 279: counts},
        **{tag: [value] for tag, value in tags},
    }
    start = 8 + sum(counts)
    after, extra, directory = start + 2 + 12 * len(entries) + 4, b"", struct.pack("<H", len(entries))
    for tag, values in sorted(entries.items()):
        kind, code = (4, "I") if tag in (256, 257, 273, 278, 279) else (3, "H")
        packed = struct.pack(f"<{len(values)}{code}", *values)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", after + len(extra))
        extra += packed if len(packed) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, len(values)) + place
    return b"II*\0" + struct.pack("<I", start) + b"".join(strips) + directory + bytes(4) + extra
