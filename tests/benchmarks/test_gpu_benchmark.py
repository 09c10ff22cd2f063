"""The GPU benchmark as far as a machine without one goes, on the small bundles."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import MINI
from graphs import write_tiny_bundle

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_export.config import Head
from acl_export.torch_session import load_clip
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.detection.detector import Detector
from benchmarks import gpu, gpu_torch, preparing


@pytest.fixture
def bench(
    bundles: dict[Head, Path], fp16_bundles: dict[Head, Path], clip_path: Path, tmp_path: Path
) -> gpu.Bench:
    copies = {
        name: load_bundle(shutil.copytree(folder, tmp_path / name))
        for name, folder in (("fp32", bundles[Head.map]), ("fp16", fp16_bundles[Head.map]))
    }
    clip = load_clip(copies["fp32"], str(clip_path))
    return gpu.Bench(copies, clip, [1, 2], 2, [MINI])


def test_every_step_is_a_row_or_says_why_it_was_not_run(bench: gpu.Bench) -> None:
    rows = list(gpu.run_steps(bench))
    assert not any(is_failure for _, is_failure in rows), rows
    timed = {(row.what, row.batch): row for row, _ in rows if row.ratio is not None}
    told = {row.what: row.note for row, _ in rows if row.note}
    if bench.has_gpu:
        pytest.skip("what follows is about a machine without a GPU")
    assert set(timed) == {(f"ONNX Runtime, cpu, {p}", batch) for p in ("fp32", "fp16") for batch in (1, 2)}
    assert all((row.image_logits or 1) < 1e-2 for row in timed.values())
    assert told["ONNX Runtime, cuda, fp16"] == "not run: this ONNX Runtime has no CUDA"
    assert any(name.startswith("tensorrt-rtx ") and "not run: no GPU" in note for name, note in told.items())
    assert "not run: tensorrt is not installed" in told["tensorrt"]
    assert "points on" in told["drift, cpu, fp16"]
    text = gpu.to_text([row for row, _ in rows])
    assert text.count("| ONNX Runtime, cpu") == 4
    assert "- drift, cpu, fp32: " in text
    assert all(row.latency_ms for row in timed.values())


def test_without_pytorch_it_measures_by_itself(bench: gpu.Bench) -> None:
    alone = replace(bench, clip=None, batches=[1])
    (row,) = gpu.onnx_runtime(alone, "fp32", "cpu")
    assert row.latency_ms is not None
    assert row.latency_ms > 0
    assert (row.ratio, row.spread) == (None, None)
    assert "|     1 |" in gpu.to_text([row])
    with pytest.raises(gpu.NotHereError, match="no PyTorch"):
        next(gpu.drift(alone))


def test_measuring_imports_no_pytorch(tmp_path: Path) -> None:
    """As on a box; what was prepared elsewhere is named if it is not there."""
    code = """
import sys
for name in ("torch", "acl_train", "acl_export", "onnx", "scipy"):
    sys.modules[name] = None
from benchmarks.gpu import app
app(["measure", sys.argv[1]])
"""
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tiny-precision-fp32" in process.stderr.splitlines()[-1]


def test_a_step_that_fails_is_a_row_and_the_rest_goes_on(
    bench: gpu.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr(gpu, "make_engine", broken)
    rows = {row.what: (row.note, is_failure) for row, is_failure in gpu.run_steps(bench)}
    assert rows["tensorrt-rtx"] == ("failed: out of luck", True)
    assert "drift, cpu, fp32" in rows


def test_in_pytorch_each_way_is_timed_and_compared(bench: gpu.Bench) -> None:
    assert bench.clip is not None
    exact, half = (
        next(gpu_torch.measure(bench.bundles["fp16"], bench.clip, way, "eager", [2], turns=1))
        for way in (gpu_torch.WAYS[0], gpu_torch.WAYS[3])
    )
    assert exact.image_logits < 1e-4 < half.image_logits < 0.5
    assert exact.tflops > 0
    flops = exact.tflops * 1e9 * exact.call_ms
    assert flops == pytest.approx(half.tflops * 1e9 * half.call_ms), "the same work"
    assert "| fp16, sums in fp16 | eager |" in gpu_torch.to_text([exact, half])
    assert not torch.backends.cuda.matmul.allow_fp16_accumulation, "as it was"


def test_preparing_is_timed_by_number_of_workers(tmp_path: Path) -> None:
    detector = Detector(write_tiny_bundle(tmp_path / "bundle"), provider="cpu", tiling=None)
    rows = preparing.measure(detector, [1, 2], turns=1)
    assert [(row.workers, row.what.partition(" ")[0]) for row in rows] == [
        (workers, what) for what in ("frames", "frames", "tiles") for workers in (1, 2)
    ]
    assert all(row.fastest_ms > 0 for row in rows)
    assert "| tiles of 56, cut out " in preparing.to_text(rows)
