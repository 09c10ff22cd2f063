"""A benchmark as a table for a terminal or for Markdown, as JSON, and as a picture.

The JSON's keys: `format` "anomalyclip-bench", `format_version` 1, and the fields of `Benchmark`, `rows` with those of
`Measured`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from acl_runtime.bench.candidates import label
from acl_runtime.bench.run import Benchmark, Measured
from acl_runtime.detection.stages import STAGES

T = TypeVar("T")

HEADER = (
    *("backend", "precision", "batch", "ms a frame", "p95", "frames/s", "overlapped", "times reference"),
    *("log-odds off", "map off", "AUROC", "of peak", "MB", "first verdict"),
)
COLORS = {"preprocess": (230, 159, 0), "inference": (0, 114, 178), "postprocess": (0, 158, 115)}
WIDTH, LINE, MARGIN, LABEL = 1000, 34, 24, 260


def to_json(benchmark: Benchmark) -> str:
    """All figures."""
    document = {"format": "anomalyclip-bench", "format_version": 1, **asdict(benchmark)}
    return json.dumps(document, indent=2) + "\n"


def to_markdown(benchmark: Benchmark) -> str:
    """The table and what is needed to read it."""
    rows = [cells(row) for row in benchmark.rows]
    rule = ["---", "---", *["--:"] * (len(HEADER) - 2)]
    lines = [f"| {' | '.join(each)} |" for each in (HEADER, rule, *rows)]
    return "\n".join([*lines, "", *(f"{line}  " for line in notes(benchmark))]) + "\n"


def to_text(benchmark: Benchmark) -> str:
    """The same for a terminal."""
    rows = [HEADER, *(cells(row) for row in benchmark.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    table = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(line)
        )
        for line in ([*zip(row, widths, strict=True)] for row in rows)
    ]
    return "\n".join([*table, "", *notes(benchmark)])


def cells(row: Measured) -> list[str]:
    """A row of the table."""
    total, start = row.latency_ms["total"], row.start
    memory = None if start is None else start.peak_bytes
    return [
        row.backend,
        row.precision,
        str(row.batch),
        _short(total["p50"]),
        _short(total["p95"]),
        _short(row.fps),
        _dash(row.overlapped_fps, _short),
        _dash(row.ratio, lambda ratio: f"{ratio:.2f}{' noisy' if row.is_noisy else ''}"),
        f"{row.image_logits_difference:.0e}",
        f"{row.max_map_difference:.0e}",
        _dash(row.drift, _worst_auroc),
        _dash(row.peak_share, lambda share: f"{100 * share:.0f} %"),
        _dash(memory, lambda size: f"{size / 1e6:,.0f}"),
        _dash(start and start.first_verdict_s, lambda seconds: f"{seconds:.1f} s"),
    ]


def notes(benchmark: Benchmark) -> list[str]:
    """What the table's figures mean."""
    machine, bundle = benchmark.machine, benchmark.bundle
    versions = ", ".join(
        f"{name} {text}" for name, text in machine.items() if name not in ("cpu", "cores", "load")
    )
    lines = [
        f"{bundle['name']}: {bundle['backbone']}, {bundle['image_size']} px, {bundle['precision']}; {machine['cpu']}, "
        f"{machine['cores']} cores, load {machine['load']}; {versions}",
    ]
    fastest = max(benchmark.rows, key=lambda row: row.fps)
    stages = ", ".join(f"{stage} {fastest.latency_ms[stage]['p50']:.1f}" for stage in STAGES)
    lines.append(
        f"fastest, {fastest.backend} {fastest.precision} at batch {fastest.batch}, in ms a frame: {stages}"
    )
    if benchmark.flop_per_image is not None:
        lines.append(
            f"a frame is {benchmark.flop_per_image / 1e9:,.1f} GFLOP; a large float32 matrix product reaches "
            f"{benchmark.cpu_peak / 1e9:,.0f} GFLOP/s on this CPU"
        )
    if benchmark.fast_resize:
        lines.append(
            "frames were resized with --fast-resize, those of the reference by Pillow; the golden images, from which "
            "log-odds and map are off, are resized already"
        )
    edges = ", ".join(f"{name} {_short(ms)}" for name, ms in benchmark.edges_ms.items())
    lines.append(f"before and after the stages, in ms a frame: {edges}")
    energies = [
        f"{label(row.backend, row.precision, row.batch)} {_short(joules)} ({of})"
        for row in benchmark.rows
        for of, joules in row.joules.items()
    ]
    lines.append(
        f"joules a frame, idle power included: {', '.join(energies)}"
        if energies
        else "energy: not told here (tegrastats, nvidia-smi or a CPU's RAPL counters would tell)"
    )
    lines += [f"not measured: {backend}: {reason}" for backend, reason in benchmark.left_out.items()]
    if any(row.is_noisy for row in benchmark.rows):
        lines.append("noisy: other work disturbed these rows; measure again on a quiet machine")
    return lines


def draw(benchmark: Benchmark, path: Path) -> None:
    """A PNG: milliseconds a frame by stage, a bar per row; written to `path`."""
    rows, font = benchmark.rows, ImageFont.load_default(size=16)
    picture = Image.new("RGB", (WIDTH, 2 * MARGIN + LINE * (len(rows) + 1)), "white")
    pen = ImageDraw.Draw(picture)
    longest = max(sum(row.latency_ms[stage]["p50"] for stage in STAGES) for row in rows)
    x = MARGIN
    for stage, color in COLORS.items():
        pen.rectangle((x, MARGIN, x + 16, MARGIN + 16), fill=color)
        pen.text((x + 22, MARGIN - 2), stage, fill="black", font=font)
        x += 140
    pen.text((x, MARGIN - 2), "milliseconds a frame, median", fill="black", font=font)
    for number, row in enumerate(rows, start=1):
        y = MARGIN + LINE * number + 6
        pen.text((MARGIN, y), label(row.backend, row.precision, row.batch), fill="black", font=font)
        left = float(MARGIN + LABEL)
        for stage, color in COLORS.items():
            right = left + row.latency_ms[stage]["p50"] / longest * (WIDTH - LABEL - 2 * MARGIN - 130)
            pen.rectangle((left, y, right, y + LINE - 12), fill=color)
            left = right
        ratio = "" if row.ratio is None else f", {row.ratio:.2f}x"
        pen.text((left + 8, y), f"{_short(row.latency_ms['total']['p50'])}{ratio}", fill="black", font=font)
    picture.save(path, "PNG")


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _worst_auroc(drift: dict[str, float]) -> str:
    """In points; of images or pixels, whichever moved more."""
    moved = [drift[name] for name in ("image_auroc", "pixel_auroc") if name in drift]
    return f"{100 * max(moved, key=abs):+.2f}" if moved else "-"


def _dash(value: T | None, form: Callable[[T], str]) -> str:
    return "-" if value is None else form(value)
