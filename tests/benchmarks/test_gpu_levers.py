"""What the levers gain is measured on the stand-ins of GPU and TensorRT as it would be on real ones."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import StandinMachine
from graphs import SIDE, drawn_frame, write_tiny_bundle

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.backends.tensorrt import ladder
from acl_runtime.bundle.bundle import Bundle, load_bundle, write_manifest
from benchmarks import gpu, gpu_levers


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Bundle, Bundle]:
    """One for frames of any size, and one whose graph takes them."""
    plain, framed = (load_bundle(write_tiny_bundle(tmp_path / name)) for name in ("plain", "framed"))
    preprocessing = replace(framed.manifest.preprocessing, color="BGR", resize="in the graph")
    write_manifest(framed.path, replace(framed.manifest, preprocessing=preprocessing))
    return plain, load_bundle(framed.path)


def test_each_lever_is_a_row_with_its_parity(
    bundles: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, framed = bundles
    machine = StandinMachine(plain)
    monkeypatch.setattr(ladder, "build_engine", machine.build)
    monkeypatch.setattr(gpu, "Cuda", lambda: machine.cuda)
    monkeypatch.setattr(gpu, "load_library", lambda name: machine.library)
    bench = gpu.Bench({"fp16": plain}, None, [1, 3], 1, [], framed)
    assert gpu.frame_size(bench) == (SIDE, SIDE)
    rows = list(gpu.levers(bench, "tensorrt"))
    assert [(row.what.removeprefix("tensorrt, "), row.batch) for row in rows] == [
        *(("engine of this batch size alone", batch) for batch in (1, 3)),
        *((f"stream, slots: {slots}", batch) for slots in (1, 2) for batch in (1, 3)),
        ("maps: all", 3),
        (rows[7].what.removeprefix("tensorrt, "), 3),
        *(
            (f"frames {where}, --frame-size", batch)
            for batch in (1, 3)
            for where in ("from the computer", "on the GPU")
        ),
    ]
    assert "maps: defects, " in rows[7].what
    assert all(row.latency_ms and row.image_logits is not None and row.image_logits < 1e-4 for row in rows)
    assert not any(machine.cuda.counts.held.values()), "all is given back"
    assert {request.graph.parent.name for request in machine.requests} == {"plain", "framed"}
    assert {(r.min_batch, r.max_batch) for r in machine.requests} == {(1, 3), (1, 1), (3, 3)}


def test_without_a_gpu_they_are_not_run(bundles: tuple[Bundle, Bundle]) -> None:
    bench = gpu.Bench({"fp16": bundles[0]}, None, [1], 1, [], None)
    assert gpu.frame_size(bench) == gpu.FRAME_SIZE
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("there is a GPU")
    with pytest.raises(gpu.NotHereError):
        next(gpu.levers(bench, "tensorrt-rtx"))


def test_left_maps_are_counted(bundles: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = bundles
    calibration = replace(plain.manifest.calibration, region_threshold=0.99)
    write_manifest(plain.path, replace(plain.manifest, calibration=calibration))
    bundle, machine = load_bundle(plain.path), StandinMachine(plain)
    monkeypatch.setattr(ladder, "build_engine", machine.build)
    place = gpu_levers.Place(machine.cuda, machine.library, [1, 2], 1)
    engine = place.build(bundle, 1, 2)
    whole, left = gpu_levers.maps(place, bundle, engine, np.ascontiguousarray(drawn_frame(1)))
    assert (whole.what, left.what) == ("maps: all", "maps: defects, 2 of 2 left")
