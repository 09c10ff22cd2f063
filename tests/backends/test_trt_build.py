"""Engines are built by the real TensorRT-RTX, which needs no GPU for that; what goes wrong is one sentence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import write_tiny_graph

from acl_export.config import Head
from acl_export.graph import OUTPUTS, make_graph, write_onnx
from acl_runtime.backends.tensorrt import build
from acl_runtime.backends.tensorrt.build import (
    BuildError,
    BuildReport,
    BuildRequest,
    build_engine,
    request_from_json,
    request_to_json,
)
from acl_runtime.backends.tensorrt.execution import SUMMARIES
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.manifest import Arithmetic, Tensor
from acl_runtime.files.errors import BackendError
from acl_train.clip import Architecture, VisionTower
from acl_train.config import VisionConfig

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: the extra rtx")
GPUS = ("8.6", "8.9", "12.0")  # RTX 30, 40 and 50
VIT_B = Architecture(512, 768, 12, 12, 16, 14, 77, 49408, 512, 12, 8, quick_gelu=True)
VIT_B_SIZE, VIT_B_GRID, BATCH = 224, 14, 8
Request = Callable[..., BuildRequest]


@pytest.fixture
def request_for(tmp_path: Path) -> Request:
    """A request with the defaults."""

    def make(graph: Path, **changes: object) -> BuildRequest:
        request = BuildRequest(
            library="tensorrt-rtx", graph=graph, plan=tmp_path / "a.engine", compute_capabilities=GPUS
        )
        return replace(request, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def vit_b() -> VisionTower:
    """A tower of ViT-B/16's size with random weights, the second path from block 6 on."""
    torch.manual_seed(0)
    tower = VisionTower(VIT_B, VisionConfig(VIT_B_SIZE, (6, 12), 6))
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return tower.requires_grad_(False).eval()


@pytest.fixture
def built(tmp_path: Path) -> Callable[[BuildRequest], BuildReport]:
    return lambda request: build_engine(request, log=tmp_path / "a.log", progress=lambda *_: None)


def with_batch(tensors: tuple[Tensor, ...], batch: int | str) -> tuple[Tensor, ...]:
    return tuple(replace(tensor, shape=(batch, *tensor.shape[1:])) for tensor in tensors)


def summaries(head: Head) -> tuple[Tensor, ...]:
    """What the builder adds for maps that stay on the GPU."""
    return SUMMARIES if head is Head.map else ()


@pytest.mark.parametrize("head", Head)
@pytest.mark.parametrize("most", [1, BATCH])
def test_engines_of_a_bundle_have_the_manifests_inputs_and_outputs(
    fp16_bundles: dict[Head, Path],
    request_for: Request,
    built: Callable[[BuildRequest], BuildReport],
    head: Head,
    most: int,
) -> None:
    bundle = load_bundle(fp16_bundles[head])
    graph = bundle.manifest.graph
    weights = {}
    for arithmetic in ("fp16", "fp32"):
        request = request_for(bundle.path / bundle.manifest.graph_file(arithmetic), max_batch=most)
        report = built(request)
        batch = 1 if most == 1 else "batch"
        assert set(report.inputs) == set(with_batch(graph.inputs, batch))
        assert set(report.outputs) == set(with_batch((*graph.outputs, *summaries(head)), batch))
        assert report.activation_bytes is not None
        assert report.seconds > 0
        assert report.weights_bytes is not None
        assert request.plan.stat().st_size > report.weights_bytes / 2
        weights[arithmetic] = report.weights_bytes
    assert 1.5 < weights["fp32"] / weights["fp16"] < 2.5


def second_path_attentions(bundle: Bundle) -> int:
    """How many attentions a graph has whose result is used: the last block's ordinary one is, for the class token."""
    blocks = max(bundle.manifest.layers)
    return blocks + blocks - bundle.manifest.vv_from + 1


def test_attention_is_fused_in_fp16_alone_and_sums_are_in_fp32_where_asked_for(
    fp16_bundles: dict[Head, Path], request_for: Request, built: Callable[[BuildRequest], BuildReport]
) -> None:
    bundle = load_bundle(fp16_bundles[Head.map])
    fused, sums = {}, {}
    for arithmetic in bundle.manifest.arithmetics():
        request = request_for(bundle.path / bundle.manifest.graph_file(arithmetic))
        fused[arithmetic] = built(request).fused_attention
        kinds = re.findall(rb"accumulation_type=(\d)", request.plan.read_bytes())
        sums[arithmetic] = kinds.count(b"2") / len(kinds)  # 0 leaves it to the kernel, 2 is fp32
    assert sums["fp16"] == 0
    assert sums["fp16-accumulate-fp32"] > 0.8
    assert fused == {
        "fp16": second_path_attentions(bundle),
        "fp16-accumulate-fp32": second_path_attentions(bundle),
        "fp16-attention-fp32": 0,
        "fp16-attention-split": 0,
        "fp32": 0,
    }


@pytest.mark.parametrize("arithmetic", ["fp16", "fp32"])
@pytest.mark.parametrize("head", Head)
def test_engines_of_a_vit_b_are_built(
    vit_b: VisionTower,
    tmp_path: Path,
    request_for: Request,
    built: Callable[[BuildRequest], BuildReport],
    head: Head,
    arithmetic: Arithmetic,
) -> None:
    path = tmp_path / "model.onnx"
    text = np.eye(2, VIT_B.embed_dim, dtype=np.float32)[None]
    graph = make_graph(vit_b, text, head=head, blur_sigma=4.0, arithmetic=arithmetic)
    write_onnx(graph, path, head=head, max_batch=BATCH)
    shapes: dict[str, tuple[int | str, ...]] = {
        "image_logits": (),
        "anomaly_maps": (VIT_B_SIZE, VIT_B_SIZE),
        "image_embeddings": (VIT_B.embed_dim,),
        "patch_embeddings": (2, VIT_B_GRID**2, VIT_B.embed_dim),
    }
    for most, batch in ((1, 1), (BATCH, "batch")):
        report = built(request_for(path, max_batch=most))
        assert report.inputs == (Tensor("images", (batch, VIT_B_SIZE, VIT_B_SIZE, 3), "uint8"),)
        outputs = {Tensor(name, (batch, *shapes[name]), "float32") for name in OUTPUTS[head]}
        outputs |= {replace(tensor, shape=(batch,)) for tensor in summaries(head)}
        assert set(report.outputs) == outputs
        # 12 blocks and 7 of the second path; of the last block's ordinary path only one row, which needs no fusing
        assert report.fused_attention in ((12 + 7, 12 + 7 - 1) if arithmetic == "fp16" else (0,))


def test_an_engine_resizes_the_frame_itself(
    vit_b: VisionTower, tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport]
) -> None:
    path, text = tmp_path / "model.onnx", np.eye(2, VIT_B.embed_dim, dtype=np.float32)[None]
    settings = {"head": Head.map, "blur_sigma": 4.0, "arithmetic": "fp16", "frame_size": (480, 640)}
    write_onnx(make_graph(vit_b, text, **settings), path, head=Head.map, max_batch=BATCH)  # type: ignore[arg-type]
    report = built(request_for(path, max_batch=BATCH))
    assert report.inputs == (Tensor("frames", ("batch", 480, 640, 3), "uint8"),)
    assert report.fused_attention in (12 + 7, 12 + 7 - 1)


def test_without_a_list_of_gpus_there_must_be_one(
    tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport]
) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    with pytest.raises(
        BackendError, match=r"tensorrt builds for the GPU of this machine|is not installed"
    ) as caught:
        built(request_for(tmp_path / "model.onnx", library="tensorrt"))
    assert not isinstance(caught.value, BuildError), "all steps of the ladder would be tried"


@pytest.mark.parametrize("unknown", ["8.7", "9.0", "11.0", "ampere"])
def test_a_gpu_that_is_not_offered_is_named(
    tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport], unknown: str
) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    message = rf"compute capabilities .*8\.6, 8\.9.*, got {unknown}; for other GPUs build with tensorrt"
    with pytest.raises(BackendError, match=message) as caught:
        built(request_for(tmp_path / "model.onnx", compute_capabilities=("8.6", unknown)))
    assert not isinstance(caught.value, BuildError), "all steps of the ladder would be tried"
    assert not (tmp_path / "a.engine").exists()


def test_a_node_that_cannot_be_built_is_named(
    tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport]
) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    model.opset_import.add(domain="custom", version=1)
    node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    node.name, node.op_type, node.domain = "the_planted_one", "Squash", "custom"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        BuildError, match=r"node the_planted_one \(Squash\) cannot be built: .* does not know"
    ) as caught:
        built(request_for(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.engine").exists()


def test_weights_cannot_be_left_out_without_a_gpu(
    tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport], vit_b: VisionTower
) -> None:
    if has_gpu():
        pytest.skip("there is a GPU")
    write_tiny_graph(tmp_path / "model.onnx")
    request = request_for(tmp_path / "model.onnx", weightless=True)
    with pytest.raises(BackendError, match="on a machine with a GPU only; drop --weightless") as caught:
        built(request)
    assert not isinstance(caught.value, BuildError), "all steps of the ladder would be tried"


def has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def test_a_file_that_is_cut_short_is_an_error_of_one_line(
    tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport]
) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    whole = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BuildError, match=r"model\.onnx: .*export the bundle again") as caught:
        built(request_for(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_an_error_of_one_line(
    fp16_bundles: dict[Head, Path],
    tmp_path: Path,
    request_for: Request,
    built: Callable[[BuildRequest], BuildReport],
) -> None:
    (tmp_path / "model.onnx").write_bytes((fp16_bundles[Head.map] / "model.onnx").read_bytes())
    with pytest.raises(BuildError, match=r"model\.onnx.*export the bundle again") as caught:
        built(request_for(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, request_for: Request, built: Callable[[BuildRequest], BuildReport]
) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    with pytest.raises(BackendError, match=r"none/a\.engine: no such file or directory; see that") as caught:
        built(request_for(tmp_path / "model.onnx", plan=tmp_path / "none" / "a.engine"))
    assert not isinstance(caught.value, BuildError), (
        "more careful arithmetic would be tried, as on a full disk"
    )


def plant_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Let the builder process run this instead."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time, signal\nsys.stdin.read()\n{code}\n")
    path.chmod(0o755)
    monkeypatch.setattr("acl_runtime.backends.tensorrt.build.sys.executable", str(path))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "killed, most likely because the memory ran out: on an 8 GB board",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"the builder crashed \(SIGSEGV\)"),
        ("sys.exit(3)", r"ended without an engine \(exit code 3\)"),
    ],
)
def test_a_builder_that_dies_takes_nothing_along(
    tmp_path: Path,
    request_for: Request,
    built: Callable[[BuildRequest], BuildReport],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    message: str,
) -> None:
    request = request_for(tmp_path / "model.onnx")
    plant_worker(monkeypatch, tmp_path, f"open({str(request.plan)!r}, 'w').write('half'); {code}")
    with pytest.raises(BuildError, match=f"{message}.*; the log is .*a.log"):
        built(request)
    assert not request.plan.exists()


@pytest.mark.parametrize(("uuid", "seen"), [("GPU-1", "GPU-1"), (None, "0,1")])
def test_the_builder_sees_the_gpu_that_it_is_to_build_on(
    tmp_path: Path,
    request_for: Request,
    built: Callable[[BuildRequest], BuildReport],
    monkeypatch: pytest.MonkeyPatch,
    uuid: str | None,
    seen: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    plant_worker(
        monkeypatch, tmp_path, "print('{\"error\": \"' + os.environ['CUDA_VISIBLE_DEVICES'] + '\"}')"
    )
    with pytest.raises(BuildError, match=f"^{seen}$"):
        built(request_for(tmp_path / "model.onnx", gpu_uuid=uuid))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "the builder was killed, most likely because the memory ran out"),
        (0xC0000005, r"the builder crashed \(0xC0000005\); another version of TensorRT may not"),
        (3, r"the builder ended without an engine \(exit code 3\)"),
    ],
)
def test_how_a_builder_ended_is_told_on_windows_too(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    monkeypatch.delattr(signal, "SIGKILL")
    assert re.match(said, build._explain_end(code))


def test_an_interruption_ends_the_builder(
    tmp_path: Path, request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(tmp_path / "model.onnx")
    code = f"""
open({str(request.plan)!r}, 'w').write('half')
print('{{"progress": ["' + str(os.getpid()) + '", 0, 1]}}', flush=True)
time.sleep(60)"""
    plant_worker(monkeypatch, tmp_path, code)
    pids = []

    def interrupt(what: str, done: int, total: int) -> None:
        pids.append(int(what))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(request, log=tmp_path / "a.log", progress=interrupt)
    assert not request.plan.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_real_interruption_leaves_no_process(fp16_bundles: dict[Head, Path], tmp_path: Path) -> None:
    """As a user does it: SIGINT to the process that waits."""
    code = f"""
from pathlib import Path
from acl_runtime.backends.tensorrt.build import *
graph = Path({str(fp16_bundles[Head.map] / "model.onnx")!r})
request = BuildRequest(
    library="tensorrt-rtx", graph=graph, plan=Path("a.engine"), max_batch=8, compute_capabilities=("8.6",)
)
build_engine(request, log=Path("a.log"), progress=lambda *a: print(*a, flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_progress_is_told_and_the_log_kept(
    fp16_bundles: dict[Head, Path], tmp_path: Path, request_for: Request
) -> None:
    told: list[tuple[str, int, int]] = []
    build_engine(
        request_for(fp16_bundles[Head.map] / "model.onnx"),
        log=tmp_path / "a.log",
        progress=lambda *message: told.append(message),
    )
    assert told
    assert all(0 <= done <= total for _, done, total in told)
    last = {what: (done, total) for what, done, total in told}
    assert all(done == total for done, total in last.values())
    assert "Total Activation Memory" in (tmp_path / "a.log").read_text()


def test_a_request_survives_its_json(request_for: Request) -> None:
    for request in (
        request_for(Path("a b.onnx"), workspace_bytes=1 << 20, timing_cache=Path("é.timing")),
        request_for(Path("x.onnx"), compute_capabilities=(), optimization_level=3, weightless=True),
    ):
        assert request_from_json(request_to_json(request)) == request
