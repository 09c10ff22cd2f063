"""`acl triton` writes a whole repository or none; what a server does with it is in test_triton_server.py."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from console import acl, assert_one_line
from graphs import drawn_frame, edit_manifest, write_tiny_bundle
from standin_cuda import StandinCuda
from standin_trt import make_standin_engine, standin_library

from acl_runtime.backends.tensorrt import choose, session
from acl_runtime.backends.tensorrt.choose import open_engine
from acl_runtime.backends.tensorrt.execution import SUMMARIES
from acl_runtime.backends.triton_session import version_of
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.identity import bundle_sha256, network_sha256
from acl_runtime.detection.detector import Detector
from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import BundleError
from acl_runtime.triton.models import PictureModel


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "Parts of steel", ladder=("fp16", "fp32")))


def write(bundle: Bundle, *options: object) -> Path:
    """A repository beside the bundle."""
    output = bundle.path.parent / "repository"
    done = acl("triton", bundle.path, "-o", output, *options)
    assert done.exit_code == 0, done.output
    return output


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_python_backend_gets_the_whole_bundle_once_on_disk(bundle: Bundle) -> None:
    output = write(bundle, "--session", "openvino", "--device", "cpu")
    network, picture = version_of(network_sha256(bundle)), version_of(bundle_sha256(bundle))
    files = ["bundle/" + name for name in names(bundle.path)] + ["model.py"]
    assert names(output) == sorted(
        [
            "acl-triton.txt",
            "parts-of-steel/config.pbtxt",
            "parts-of-steel-picture/config.pbtxt",
            *(f"parts-of-steel/{network}/{name}" for name in files),
            *(f"parts-of-steel-picture/{picture}/{name}" for name in files),
        ]
    )
    first = output / "parts-of-steel" / str(network) / "bundle" / "model.onnx"
    second = output / "parts-of-steel-picture" / str(picture) / "bundle" / "model.onnx"
    assert first.samefile(second)
    assert not first.samefile(bundle.path / "model.onnx")
    assert load_bundle(second.parent).manifest == bundle.manifest
    config = (output / "parts-of-steel" / "config.pbtxt").read_text()
    assert 'key: "acl.session" value { string_value: "openvino" }' in config
    assert f'key: "acl.network_sha256" value {{ string_value: "{network_sha256(bundle)}" }}' in config


def test_onnx_runtime_gets_the_graph_for_its_device(bundle: Bundle) -> None:
    for device, graph, kind in (("gpu", "model.onnx", "KIND_GPU"), ("cpu", "model.fp32.onnx", "KIND_CPU")):
        output = write(
            bundle, "--backend", "onnxruntime", "--device", device, "--instances", 2, "--name", "parts"
        )
        folder = output / "parts"
        assert names(folder) == [f"{version_of(network_sha256(bundle))}/{graph}", "config.pbtxt"]
        config = (folder / "config.pbtxt").read_text()
        assert f'default_model_filename: "{graph}"' in config
        assert f"instance_group [ {{ count: 2 kind: {kind} }} ]" in config
        assert ('key: "use_tf32" value: "0"' in config) is (device == "gpu")
        logits = re.search(r'output {\n  name: "image_logits".*?\n}', config, re.DOTALL)
        assert logits is not None
        assert "dims: [ 1 ]\n  reshape { shape: [ ] }" in logits[0]  # the graph gives (batch,)


@pytest.fixture
def standin_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU and TensorRT that only keep accounts."""
    for module in (choose, session):
        monkeypatch.setattr(module, "Cuda", lambda device=0: StandinCuda())
        monkeypatch.setattr(module, "load_library", standin_library)


@pytest.mark.usefixtures("standin_gpu")
def test_tensorrt_gets_an_engine_that_is_proven_with_its_certificate(bundle: Bundle) -> None:
    arguments = ("triton", bundle.path, "-o", bundle.path.parent / "repository", "--backend", "tensorrt")
    assert_one_line(
        acl(*arguments), "has no engine that Triton serves (it has none); build one on the server's GPU with"
    )
    make_standin_engine(bundle, batch=(2, 3))
    assert_one_line(acl(*arguments), "takes batches of 2..3 alone")
    engine = make_standin_engine(bundle, batch=(1, 3))
    assert_one_line(acl(*arguments), "has no certificate that holds")
    open_engine(bundle, batch=1).close()  # which proves it
    output = write(bundle, "--backend", "tensorrt", "--name", "parts")
    version = output / "parts" / str(version_of(network_sha256(bundle)))
    assert names(version) == ["model.certificate.json", "model.json", "model.plan"]
    assert sha256(version / "model.plan") == engine.record.sha256
    config = (output / "parts" / "config.pbtxt").read_text()
    assert 'backend: "tensorrt"\ndefault_model_filename: "model.plan"\nmax_batch_size: 3' in config
    assert_one_line(acl(*arguments, "--device", "cpu"), "TensorRT runs on a GPU")


@pytest.mark.usefixtures("standin_gpu")
def test_a_certificate_of_another_engine_or_that_was_edited_lets_no_engine_be_served(bundle: Bundle) -> None:
    arguments = ("triton", bundle.path, "-o", bundle.path.parent / "repository", "--backend", "tensorrt")
    engine = make_standin_engine(bundle, batch=(1, 3))
    open_engine(bundle, batch=1).close()  # which proves it
    proven = engine.certificate_path.read_text()
    engine.certificate_path.write_text(proven.replace('"images": 2', '"images": 99'))
    assert_one_line(acl(*arguments), "was altered after it was made")
    engine.certificate_path.write_text(proven)
    make_standin_engine(bundle, batch=(1, 3), warning="built anew, as on a server of the same kind")
    assert_one_line(acl(*arguments), "has no certificate that holds")


@pytest.mark.usefixtures("standin_gpu")
def test_an_engine_of_eight_bits_is_not_served_though_it_is_newer_and_its_certificate_holds(
    tmp_path: Path,
) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", ladder=("fp16", "fp32", "int8")))
    arguments = ("triton", bundle.path, "-o", tmp_path / "repository", "--backend", "tensorrt")
    make_standin_engine(bundle, batch=(1, 3), arithmetic="int8", created="2026-01-01T00:00:00+00:00")
    open_engine(bundle, low="int8").close()  # which proves it
    assert_one_line(
        acl(*arguments), "is in int8: serve it with --session tensorrt-int8, where acl qualify passed"
    )
    outputs = (*bundle.manifest.graph.outputs, *SUMMARIES)
    engine = make_standin_engine(bundle, batch=(1, 3), outputs=outputs)
    open_engine(bundle, batch=1).close()
    output = write(bundle, "--backend", "tensorrt", "--name", "parts")
    (plan,) = output.glob("parts/*/model.plan")
    assert sha256(plan) == engine.record.sha256
    config = (output / "parts" / "config.pbtxt").read_text()
    for name in (
        "image_logits",
        "anomaly_maps",
        "map_peaks",
        "map_sums",
    ):  # a server wants all of an engine's
        assert f'output {{\n  name: "{name}"' in config


def test_a_picture_is_not_judged_by_a_bundle_that_has_nothing_to_judge_by(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "1" / "bundle", head="embeddings")
    edit_manifest(bundle, lambda document: document["prompts"].update(method="memory"))
    with pytest.raises(BundleError, match="remembers no good parts yet, so it cannot judge"):
        PictureModel().initialize(
            {
                "model_repository": str(tmp_path),
                "model_version": "1",
                "model_config": json.dumps({"parameters": {}}),
            }
        )
    with Detector(bundle, threshold=0.9) as detector:
        with pytest.raises(BundleError, match="it cannot judge"):
            detector(drawn_frame(0))
        with pytest.raises(BundleError, match="it cannot judge"):
            detector.stream([drawn_frame(0)])


def test_a_repository_is_replaced_and_nothing_else_is(bundle: Bundle, tmp_path: Path) -> None:
    write(bundle, "--name", "old")
    output = write(bundle, "--name", "new")
    assert {path.name for path in output.iterdir()} == {"acl-triton.txt", "new", "new-picture"}
    other = tmp_path / "photographs"
    shutil.copytree(output / "new", other)
    assert_one_line(acl("triton", bundle.path, "-o", other), "is not empty and holds no acl-triton.txt")
    assert_one_line(acl("triton", bundle.path, "-o", bundle.path / "repository"), "lies in the bundle")
    assert_one_line(acl("triton", bundle.path, "-o", tmp_path / "x", "--name", "a b"), "give --name")
    assert_one_line(
        acl("triton", bundle.path, "-o", tmp_path / "x", "--session", "triton"), "--session must be"
    )
    assert not (tmp_path / "x").exists()


def test_a_bundle_that_cannot_judge_yet_is_not_served(bundle: Bundle, tmp_path: Path) -> None:
    edit_manifest(bundle.path, lambda document: document["prompts"].update(method="memory"))
    assert_one_line(acl("triton", bundle.path, "-o", tmp_path / "x"), "so it cannot judge; run acl calibrate")
    assert not (tmp_path / "x").exists()
