"""The benchmark measures what it says, in turn, with the parity of each row."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES, MINI
from graphs import SIDE, tiny_manifest, write_tiny_bundle
from PIL import Image
from typer.testing import CliRunner

from acl_export.config import Head
from acl_export.reference_candidate import keep_freed_memory, make_reference
from acl_export.torch_session import load_clip
from acl_runtime.backends import choose
from acl_runtime.backends.choose import BACKENDS, open_backend
from acl_runtime.backends.session import Session
from acl_runtime.bench import run
from acl_runtime.bench.candidates import Candidate, label, make_candidates
from acl_runtime.bench.flop import flop_per_image, measure_cpu_peak
from acl_runtime.bench.measure import COUNTED, FEWEST_ROUNDS, measure, sustain
from acl_runtime.bench.probe import probe
from acl_runtime.bench.report import HEADER, cells, draw, to_json, to_markdown, to_text
from acl_runtime.bench.run import Benchmark, run_benchmark
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.cli import app
from acl_runtime.detection.stages import STAGES
from acl_runtime.files.errors import BackendError

FRAMES = [np.full((40, 50, 3), number, np.uint8) for number in range(3)]


def silent(what: str, done: int, total: int) -> None:
    pass


def taking(milliseconds: float, batch: int = 1, log: list[float] | None = None) -> Candidate:
    """One who says that inference took so long, and does take it."""

    def run(frames: Sequence[np.ndarray]) -> Mapping[str, float]:
        assert len(frames) == batch
        time.sleep(milliseconds / 1000)
        if log is not None:
            log.append(milliseconds)
        return {"preprocess": 1.0, "inference": milliseconds, "postprocess": 0.5}

    return Candidate(backend="none", provider="CPU", precision="fp32", batch=batch, run=run)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


def test_all_take_turns_on_equal_terms() -> None:
    log: list[float] = []
    laps = measure([taking(1, log=log), taking(2, log=log)], FRAMES, seconds=0, progress=silent)
    assert [len(each.stages_ms) for each in laps] == [COUNTED * FEWEST_ROUNDS] * 2
    firsts = log[4 :: 2 * (COUNTED + 1)]  # after two passes that only find out how long it takes
    assert set(firsts) == {1, 2}  # nobody is always first
    assert [each.overlapped_fps for each in laps] == [None, None]


def test_a_batch_is_counted_by_the_frame() -> None:
    (laps,) = measure([taking(6, batch=3)], FRAMES, seconds=0, progress=silent)
    np.testing.assert_allclose(laps.stages_ms, [[1 / 3, 2, 0.5 / 3]] * len(laps.stages_ms))
    np.testing.assert_allclose(laps.total_ms, 2.5)
    assert not laps.is_noisy
    assert replace(laps, stages_ms=laps.stages_ms * np.geomspace(1, 3, len(laps.stages_ms))[:, None]).is_noisy


def test_more_time_makes_more_rounds() -> None:
    (laps,) = measure([taking(1)], FRAMES, seconds=0.1, progress=silent)
    assert len(laps.stages_ms) > COUNTED * FEWEST_ROUNDS


def test_a_long_run_is_told_in_parts() -> None:
    speeds = sustain(taking(2), FRAMES, seconds=0.2, parts=4, progress=silent)
    assert len(speeds) == 4
    assert all(50 < speed <= 500 for speed in speeds)


@pytest.mark.parametrize(("in_full", "expected"), [(True, 1222.9e9), (False, 1186.5e9)])
def test_the_work_of_a_frame_is_counted(in_full: bool, expected: float) -> None:
    """The figures are of ViT-L/14 at 518 pixels, four layers, second path from block 6."""
    manifest = tiny_manifest()
    backbone = replace(manifest.backbone, width=1024, blocks=24)
    manifest = replace(
        manifest, image_size=518, grid=37, layers=(6, 12, 18, 24), vv_from=6, backbone=backbone
    )
    assert flop_per_image(manifest, dimension=768, in_full=in_full) == pytest.approx(expected, rel=4e-3)
    unknown = replace(manifest, backbone=replace(backbone, width=None))
    assert flop_per_image(unknown, dimension=768) is None


def test_the_cpu_multiplies_at_some_speed() -> None:
    assert 1e9 < measure_cpu_peak() < 1e14


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_backend_takes_part_with_its_parity(bundle: Bundle, backend: str) -> None:
    pytest.importorskip(backend)
    session, precision = open_backend(bundle, backend)
    (one, two) = make_candidates(bundle, session, precision, [1, 2])
    assert (one.batch, two.batch, one.precision) == (1, 2, "fp32")
    assert one.image_logits < 1e-3  # OpenVINO adds a small number under the roots of this graph
    stages = two.run(FRAMES[:2])
    assert set(stages) == set(STAGES)
    assert min(stages.values()) > 0


def test_a_backend_that_does_not_exist_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="backend must be one of onnxruntime, .*, got abacus"):
        open_backend(bundle, "abacus")


def test_a_fresh_process_tells_its_start(bundle: Bundle, tmp_path: Path) -> None:
    start = probe(bundle.path, "onnxruntime")
    assert 0 < start.load_s < start.first_verdict_s < 60
    assert start.peak_bytes is None or start.peak_bytes > (start.before_bytes or 0) > 1e7
    with pytest.raises(RuntimeError, match="no such folder"):
        probe(tmp_path / "none", "onnxruntime")


@pytest.fixture
def only_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backends, of which one cannot be had."""

    def missing(bundle: Bundle) -> Session:
        raise BackendError("it is not installed")

    openvino = replace(BACKENDS["openvino"], open=missing)
    monkeypatch.setattr(choose, "BACKENDS", BACKENDS | {"openvino": openvino})
    monkeypatch.setattr(run, "LOCAL", ("onnxruntime", "openvino"))


def benchmark_of(bundle: Bundle, *, reference: Candidate | None = None) -> Benchmark:
    return run_benchmark(bundle, [], [1, 2], reference=reference, frames=FRAMES, seconds=0, progress=silent)


@pytest.mark.usefixtures("only_onnxruntime")
def test_every_row_has_its_ratio_and_what_cannot_run_is_told(bundle: Bundle, tmp_path: Path) -> None:
    result = benchmark_of(bundle, reference=replace(taking(5), backend="reference"))
    assert [(row.backend, row.batch) for row in result.rows] == [
        ("reference", 1),
        ("onnxruntime", 1),
        ("onnxruntime", 2),
    ]
    assert result.left_out == {"openvino": "it is not installed"}
    reference, one, _ = result.rows
    assert reference.ratio == 1
    assert reference.latency_ms["total"]["p50"] == pytest.approx(6.5)
    assert one.ratio == pytest.approx(6.5 / one.latency_ms["total"]["p50"])
    assert one.fps == pytest.approx(1000 / one.latency_ms["total"]["p50"])
    assert one.start is not None
    assert one.flop_per_s is not None
    document = json.loads(to_json(result))
    assert document["rows"][1]["latency_ms"]["inference"]["p95"] == one.latency_ms["inference"]["p95"]
    assert {"machine", "rows", "format", "format_version"} <= set(document)
    assert "not measured: openvino: it is not installed" in to_text(result)
    assert to_markdown(result).count("| onnxruntime |") == 2
    assert len(cells(one)) == len(HEADER)
    draw(result, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        colors = {color for _, color in picture.getcolors(1 << 20) or []}
    assert {(0, 114, 178), (230, 159, 0)} <= colors


def test_a_backend_that_is_named_must_be_there(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="needs an NVIDIA GPU|has no engines; build one here"):
        run_benchmark(bundle, ["tensorrt"], [1], seconds=0, progress=silent)
    with pytest.raises(ValueError, match=r"batch must lie in 1\.\."):
        run_benchmark(bundle, ["onnxruntime"], [99], seconds=0, progress=silent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "a"), "batch must be numbers"),
        (("--backend", "abacus"), "backend must be one of onnxruntime"),
        (("--backend", "onnxruntime", "--batch", "64"), "batch must lie in 1.."),
        (("none.png",), "no such file or folder"),
        (("--data", "."), "--data is for the comparison with PyTorch: add --against reference"),
        (("--weights", "w.pt"), "--weights is for the comparison with PyTorch: add --against reference"),
        (("--untuned",), "--untuned is for the comparison with PyTorch: add --against reference"),
    ],
)
def test_wrong_options_are_one_sentence(bundle: Bundle, options: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", str(bundle.path), *options])
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_what_is_called_by_its_precision_says_it_once() -> None:
    assert label("openvino-bf16", "bf16", 1) == "openvino-bf16, batch 1"
    assert label("openvino", "fp32", 4) == "openvino fp32, batch 4"


def test_the_reference_is_the_published_pipeline(bundles: dict[Head, Path], clip_path: Path) -> None:
    bundle = load_bundle(bundles[Head.map])
    reference = make_reference(bundle, load_clip(bundle, str(clip_path)))
    assert (reference.backend, reference.batch, reference.image_logits) == ("reference", 1, 0.0)
    stages = reference.run([np.zeros((SIDE, SIDE, 3), np.uint8)])
    assert set(stages) == set(STAGES)


def test_freed_memory_is_kept_where_the_system_can() -> None:
    import sys

    assert keep_freed_memory() is (sys.platform == "linux")


def test_the_command_prints_the_table_and_writes_the_files(
    bundles: dict[Head, Path], clip_path: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundles[Head.map], tmp_path / "bundle")
    arguments = [
        *(
            "bench",
            copy,
            FIXTURES / "images" / "synth0.png",
            "--against",
            "reference",
            "--weights",
            clip_path,
        ),
        *("--backend", "onnxruntime", "--batch", "1,2", "--seconds", 0, "--json", tmp_path / "b.json"),
        *("--data", MINI, "--markdown", tmp_path / "b.md", "--plot", tmp_path / "b.png", "--sustained", 0.1),
    ]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split()[0] == "backend"
    assert "frames/s in each tenth: " in result.stdout
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["backend"] for row in rows] == ["reference", "onnxruntime", "onnxruntime"]
    assert rows[1]["max_map_difference"] < 1e-5
    assert rows[0]["drift"] is None
    assert abs(rows[1]["drift"]["pixel_auroc"]) < 1e-4
    assert (tmp_path / "b.md").read_text().startswith("| backend | precision |")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_what_comes_before_and_after_is_timed(bundle: Bundle, tmp_path: Path) -> None:
    files = [FIXTURES / "images" / "synth0.png"]
    result = run_benchmark(
        bundle,
        ["onnxruntime"],
        [1],
        frames=FRAMES,
        files=files,
        seconds=0,
        progress=silent,
    )
    assert 0 < result.edges_ms["publish"] < result.edges_ms["decode"]
    assert "before and after the stages, in ms a frame: decode " in to_text(result)
    drawn = run_benchmark(bundle, ["onnxruntime"], [1], seconds=0, progress=silent)
    assert set(drawn.edges_ms) == {"publish"}


def test_joules_are_told_where_they_were_metered(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_meters", list)
    result = run_benchmark(bundle, ["onnxruntime"], [1], frames=FRAMES, seconds=0, progress=silent)
    assert "energy: not told here" in to_text(result)
    metered = replace(result, rows=(replace(result.rows[0], joules={"CPU, RAPL": 0.5}),))
    told = "joules a frame, idle power included: onnxruntime fp32, batch 1 0.50 (CPU, RAPL)"
    assert told in to_text(metered)
    assert json.loads(to_json(metered))["rows"][0]["joules"] == {"CPU, RAPL": 0.5}
