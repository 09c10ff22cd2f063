"""A benchmark of a bundle: who takes part, what was measured, and what it means."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acl_runtime.backends.choose import LOCAL, open_backend
from acl_runtime.backends.host import cpu_model
from acl_runtime.bench.candidates import REFERENCE, Candidate, make_candidates
from acl_runtime.bench.energy import find_meters, joules_per_frame
from acl_runtime.bench.flop import flop_per_image, measure_cpu_peak
from acl_runtime.bench.measure import Laps, Progress, measure, measure_edges
from acl_runtime.bench.probe import Start, probe
from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Drift
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stages import STAGES
from acl_runtime.files.errors import BackendError

FRAME_SIZE = (720, 1280)  # of the frames that are drawn where none are given and the bundle takes any
FRAMES = 8
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One configuration.

    Attributes:
        backend: What computed, such as "onnxruntime"; "reference" for the published pipeline in PyTorch.
        provider: Where.
        precision: Of the products.
        batch: Frames judged together.
        latency_ms: Per frame, by stage and "total", each p50, p95 and p99.
        fps: Frames per second, one call after the other.
        overlapped_fps: The same with the stages overlapped; None for the reference.
        ratio: How many times the reference's frames per second; None without a reference.
        image_logits_difference: Worst difference from torch in float32 on the golden images, log-odds.
        max_map_difference: Worst difference, probability.
        joules: Of a frame, by what was metered, see `energy.py`; empty where nothing tells.
        drift: Of the metrics of `acl eval` from torch's, on labelled images; None if there were none.
        flop_per_s: Computed per second of inference; None if the bundle does not know its width.
        peak_share: Of what a large float32 matrix product reaches on this CPU; None on a GPU, in other precisions, and
            without `flop_per_s`.
        start: Of a fresh process; None for the reference.
        is_noisy: Whether the machine was too busy for the figures to mean much.
    """

    backend: str
    provider: str
    precision: str
    batch: int
    latency_ms: dict[str, dict[str, float]]
    fps: float
    overlapped_fps: float | None
    ratio: float | None
    image_logits_difference: float
    max_map_difference: float
    joules: dict[str, float]
    drift: dict[str, float] | None
    flop_per_s: float | None
    peak_share: float | None
    start: Start | None
    is_noisy: bool


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured.

    Attributes:
        machine: Processor, versions and the like, as text.
        bundle: Name, backbone and size.
        rows: The reference first, if there is one.
        left_out: Backends that cannot run here, and why.
        flop_per_image: See `flop_per_image`.
        cpu_peak: FLOP/s of a large matrix product.
        edges_ms: Of a frame, of `decode` (if files were given) and `publish`, whichever the backend.
        fast_resize: Whether the rows but the reference resized by `fast_resize.py`.
    """

    machine: dict[str, str]
    bundle: dict[str, Any]
    rows: tuple[Measured, ...]
    left_out: dict[str, str]
    flop_per_image: float | None
    cpu_peak: float
    edges_ms: dict[str, float]
    fast_resize: bool


def run_benchmark(
    bundle: Bundle,
    backends: Sequence[str],
    batches: Sequence[int],
    *,
    reference: Candidate | None = None,
    frames: Sequence[np.ndarray] = (),
    files: Sequence[Path] = (),
    drift_of: Callable[[Detector], Drift] | None = None,
    fast_resize: bool = False,
    seconds: float,
    progress: Progress,
) -> Benchmark:
    """Measure a bundle on backends, in turn.

    Args:
        bundle: What to measure.
        backends: Names of `LOCAL`; none for all that can be had here.
        batches: Frames to judge together.
        reference: The published pipeline, to take turns with.
        frames: To judge; drawn ones if there are none.
        files: Images that they were read from, to time that; none if they were not.
        drift_of: How far a detector moves the metrics; None to leave that out.
        fast_resize: As of `Detector`; not for the reference.
        seconds: About how long the turns may take.
        progress: Called with what is done, how much of it and of how much.

    Raises:
        RuntimeError: A backend that was named cannot be had here, or none can.
        ValueError: There is no such backend, or the bundle does not take such a batch.
    """
    candidates = [] if reference is None else [reference]
    starts: dict[str, Start] = {}
    drifts: dict[str, Drift] = {}
    left_out: dict[str, str] = {}
    for done, backend in enumerate(backends or LOCAL, start=1):
        try:
            session, precision = open_backend(bundle, backend)
        except BackendError as error:
            if backends:
                raise
            left_out[backend] = str(error)
        else:
            made = make_candidates(bundle, session, precision, batches, fast_resize=fast_resize)
            for candidate in made:
                assert candidate.detector is not None
                candidate.detector.check_batch(candidate.batch)
            candidates += made
            starts[backend] = probe(bundle.path, backend, fast_resize=fast_resize)
            if drift_of is not None and made[0].detector is not None:
                drifts[backend] = drift_of(made[0].detector)
        progress("loading backends", done, len(backends or LOCAL))
    if not starts:
        raise BackendError("; ".join(left_out.values()))
    frames = frames or draw_frames(bundle.manifest.frame_size)
    laps = measure(candidates, frames, seconds=seconds, progress=progress)
    joules = joules_per_frame(candidates, frames, find_meters(), progress)
    dimension = load_text_embeddings(bundle).shape[-1]
    flop, peak = flop_per_image(bundle.manifest, dimension=dimension), measure_cpu_peak()
    detector = next(each.detector for each in candidates if each.detector is not None)
    base = laps[0] if reference is not None else None
    return Benchmark(
        machine=describe_machine(),
        bundle={
            "name": bundle.path.resolve().name,
            "backbone": bundle.manifest.backbone.name,
            "image_size": bundle.manifest.image_size,
            "precision": bundle.manifest.precision,
        },
        rows=tuple(
            _row(each, base, used, starts, drifts, flop, peak)
            for each, used in zip(laps, joules, strict=True)
        ),
        left_out=left_out,
        flop_per_image=flop,
        cpu_peak=peak,
        edges_ms=measure_edges(files, frames[0], detector(frames[0])),
        fast_resize=fast_resize,
    )


def reopen_fastest(bundle: Bundle, benchmark: Benchmark) -> Candidate:
    """The fastest row's, loaded again."""
    fastest = max((row for row in benchmark.rows if row.backend != REFERENCE), key=lambda row: row.fps)
    session, precision = open_backend(bundle, fastest.backend)
    batches, fast_resize = [fastest.batch], benchmark.fast_resize
    return make_candidates(bundle, session, precision, batches, fast_resize=fast_resize)[0]


def draw_frames(size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """(H, W, 3) uint8 frames as a camera gives them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*(size or FRAME_SIZE), 3), dtype=np.uint8) for _ in range(FRAMES)]


def describe_machine() -> dict[str, str]:
    """What the figures were measured on."""
    from importlib.metadata import PackageNotFoundError, version

    facts = {
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for name in ("numpy", "Pillow", "cykooz-resizer", "onnxruntime", "onnxruntime-gpu", "openvino", "torch"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def _row(
    laps: Laps,
    reference: Laps | None,
    joules: dict[str, float],
    starts: dict[str, Start],
    drifts: dict[str, Drift],
    flop: float | None,
    peak: float,
) -> Measured:
    candidate, total = laps.candidate, laps.total_ms
    stages = dict(zip(STAGES, laps.stages_ms.T, strict=True)) | {"total": total}
    inference_s = float(np.median(stages["inference"])) / 1000
    flop_per_s = None if flop is None or candidate.backend == REFERENCE else flop / inference_s
    has_peak = candidate.provider.startswith("CPU") and candidate.precision == "fp32"
    return Measured(
        backend=candidate.backend,
        provider=candidate.provider,
        precision=candidate.precision,
        batch=candidate.batch,
        latency_ms={name: _percentiles(values) for name, values in stages.items()},
        fps=1000 / float(np.median(total)),
        overlapped_fps=laps.overlapped_fps,
        ratio=None if reference is None else laps.ratio_to(reference),
        image_logits_difference=candidate.image_logits,
        max_map_difference=candidate.anomaly_map,
        joules=joules,
        drift=dict(drifts[candidate.backend].metrics) if candidate.backend in drifts else None,
        flop_per_s=flop_per_s,
        peak_share=flop_per_s / peak if flop_per_s is not None and has_peak else None,
        start=starts.get(candidate.backend),
        is_noisy=laps.is_noisy,
    )


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in PERCENTILES}
