"""Against a real Triton server: the same arrays and verdicts as here, and what happens when it is not what it was."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import triton_server
from console import acl, assert_one_line
from graphs import SIDE, drawn_frame, write_tiny_bundle
from triton_server import Server, serving

from acl_runtime.backends.choose import open_session
from acl_runtime.backends.triton_address import parse_address
from acl_runtime.backends.triton_client import RefusedError, TritonClient
from acl_runtime.bundle.bundle import Bundle, load_bundle, replace_manifest
from acl_runtime.bundle.identity import bundle_sha256, network_sha256
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError
from acl_runtime.images.decode import load_frame
from acl_runtime.inspection.station.judge import Engine, open_detector_of
from acl_runtime.inspection.station.station_file import StationSection

pytestmark = pytest.mark.skipif(bool(triton_server.why_not()), reason=triton_server.why_not())
HEADS = ("map", "embeddings")


@dataclass(frozen=True)
class Plant:
    """A server with the models of two bundles, one for each head, and where it all lies."""

    server: Server
    bundles: dict[str, Bundle]
    folder: Path


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("triton")
    bundles = {head: load_bundle(write_tiny_bundle(folder / head, head=head)) for head in HEADS}
    for head in HEADS:
        written = acl("triton", folder / head, "-o", folder / f"repository-{head}", "--device", "cpu")
        assert written.exit_code == 0, written.output
    with serving([folder / f"repository-{head}" for head in HEADS], folder) as server:
        yield Plant(server, bundles, folder)


def images(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("head", HEADS)
def test_the_arrays_are_those_of_this_machine_bit_for_bit(plant: Plant, head: str) -> None:
    bundle = plant.bundles[head]
    here, there = open_session(bundle, provider="cpu"), open_session(bundle, triton=plant.server.address)
    assert (there.backend, there.provider) == ("triton", "acl on cpu, fp32")
    for count in (1, 3, 8):  # the bundle takes 3 at once
        expected, found = here(images(count)), there(images(count))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].flags.writeable
            assert found[name].dtype == array.dtype
    there.close()
    with pytest.raises(BackendError, match="the session was closed; open another"):
        there(images(1))


def test_eight_clients_at_once_get_each_their_own(plant: Plant) -> None:
    bundle = plant.bundles["map"]
    here = open_session(bundle, provider="cpu")
    shared = open_session(bundle, triton=plant.server.address)

    def inspect(client: int) -> None:
        own = open_session(bundle, triton=plant.server.address)
        for turn in range(10):
            batch = images(1 + turn % 3, seed=100 * client + turn)
            expected, is_full = here(batch), len(batch) == bundle.manifest.max_batch
            for session in (own, shared):
                found = session(batch)
                for (
                    name,
                    array,
                ) in expected.items():  # what shares a batch with others is summed in another order
                    np.testing.assert_allclose(found[name], array, rtol=0, atol=0 if is_full else 1e-5)
        own.close()

    with ThreadPoolExecutor(8) as clients:
        for done in [clients.submit(inspect, client) for client in range(8)]:
            done.result()
    shared.close()


def test_acl_run_says_the_same_by_the_server(plant: Plant, tmp_path: Path) -> None:
    for seed in range(4):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), drawn_frame(seed))
    bundle, lines = plant.bundles["map"].path, {}
    for where in (("--provider", "cpu"), ("--triton", plant.server.address)):
        done = acl("run", bundle, tmp_path, "--json", "-", "--batch", 2, *where)
        assert done.exit_code == 0, done.output
        records = [json.loads(line) for line in done.stdout.splitlines()]
        lines[where[0]] = [{**record, "latency_ms": None} for record in records]
    assert len(lines["--triton"]) == 4
    assert lines["--triton"] == lines["--provider"]


def ask(plant: Plant, head: str, data: bytes) -> dict[str, Any]:
    """What the model of pictures answers to a file's bytes, posted as they are."""
    request = urllib.request.Request(
        f"http://{plant.server.address}/v2/models/{head}-picture/infer",
        data=data,
        headers={"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        payload, size = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
    found: dict[str, Any] = {}
    place = size
    for output in json.loads(payload[:size])["outputs"]:
        end = place + output["parameters"]["binary_data_size"]
        part, place = payload[place:end], end
        if output["datatype"] == "BYTES":
            found[output["name"]] = json.loads(part[4:])  # behind its length
        else:
            dtype = {"FP64": np.float64, "FP32": np.float32, "BOOL": np.bool_}[output["datatype"]]
            found[output["name"]] = np.frombuffer(part, dtype).reshape(output["shape"])[0].squeeze()
    return found


@pytest.mark.parametrize("head", HEADS)
def test_a_posted_picture_has_the_verdict_that_acl_run_gives(plant: Plant, head: str, tmp_path: Path) -> None:
    for name in ("part.png", "part.jpg"):
        cv2.imwrite(str(tmp_path / name), drawn_frame(3))
        answer = ask(plant, head, (tmp_path / name).read_bytes())
        with Detector(plant.bundles[head], provider="cpu") as detector:
            verdict = detector(load_frame(tmp_path / name))
        assert answer["score"] == verdict.score
        assert answer["peak"] == verdict.peak
        assert answer["is_anomalous"] == verdict.is_anomalous
        assert answer["regions"] == [vars(region) for region in verdict.regions]
        assert answer["record"]["margin"] == verdict.margin
        np.testing.assert_array_equal(answer["anomaly_map"], verdict.anomaly_map)


def test_what_is_no_picture_is_refused_in_a_sentence_and_the_next_is_judged(plant: Plant) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(plant, "map", b"GIF89a is no picture")
    assert "the picture: cannot be decoded" in caught.value.read().decode()
    assert 0 <= ask(plant, "map", cv2.imencode(".png", drawn_frame(0))[1].tobytes())["score"] <= 1


def test_a_server_with_another_bundles_model_is_refused(plant: Plant, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", ladder=("fp32", "fp16"))
    cv2.imwrite(str(tmp_path / "part.png"), drawn_frame(0))
    run = acl("run", other, tmp_path / "part.png", "--triton", plant.server.address)
    assert_one_line(run, "does not serve the network of")
    assert "it serves embeddings, embeddings-picture, map, map-picture" in run.stderr
    run = acl("run", other, tmp_path / "part.png", "--triton", f"{plant.server.address}/map")
    assert_one_line(run, "model map is not the network of")
    run = acl("run", other, tmp_path / "part.png", "--triton", f"{plant.server.address}/maps")
    assert_one_line(run, "unknown model: 'maps'")


def test_another_calibration_of_the_bundle_needs_no_other_server(plant: Plant, tmp_path: Path) -> None:
    copy = load_bundle(shutil.copytree(plant.bundles["map"].path, tmp_path / "copy"))
    replace_manifest(copy, copy.manifest)  # the same but for the spelling
    manifest = copy.path / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    copy = load_bundle(copy.path)
    assert bundle_sha256(copy) != bundle_sha256(plant.bundles["map"])
    assert network_sha256(copy) == network_sha256(plant.bundles["map"])
    open_session(copy, triton=plant.server.address).close()


def test_a_server_that_was_killed_is_an_error_and_the_station_opens_it_again(
    plant: Plant, tmp_path: Path
) -> None:
    server = Server([tmp_path / "repository"], plant.server.backends, tmp_path / "log")
    shutil.copytree(plant.folder / "repository-map" / "map", tmp_path / "repository" / "map")
    server.start()
    stop, bundle = threading.Event(), plant.bundles["map"]
    section = StationSection(bundle=bundle.path, mode="part", triton=server.address)
    engine = Engine(section, open_detector=open_detector_of)
    session = open_session(bundle, triton=server.address)
    try:
        before = engine.detector(drawn_frame(1))
        server.kill()
        with pytest.raises(
            BackendError, match="the Triton server cannot be reached .*; see that tritonserver runs"
        ) as gone:
            engine.detector(drawn_frame(1))
        with ThreadPoolExecutor(1) as thread:
            opening = thread.submit(engine.reopen, gone.value, stop)
            server.start()
            assert opening.result(timeout=60)
        assert engine.detector(drawn_frame(1)).score == before.score
        assert session(images(1)).keys()  # one that was not opened again looks at the new server itself
        shutil.rmtree(tmp_path / "repository" / "map")
        shutil.copytree(
            plant.folder / "repository-embeddings" / "embeddings", tmp_path / "repository" / "map"
        )
        config = tmp_path / "repository" / "map" / "config.pbtxt"
        config.write_text(config.read_text().replace('name: "embeddings"', 'name: "map"'))
        server.load("map")
        with pytest.raises(BackendError, match="does not serve the network of .*/map; it serves map;"):
            session(images(1))
        version = next(
            path.name for path in (plant.folder / "repository-map" / "map").iterdir() if path.is_dir()
        )
        client = TritonClient(parse_address(server.address), time_limit_s=30)
        with (
            closing(client),
            pytest.raises(RefusedError, match="unknown model|version"),
        ):  # the number would do
            client.infer("map", version, {"images": images(1)}, [])
    finally:
        stop.set()
        engine.close()
        session.close()
        server.kill()


def test_the_server_reads_the_configurations_of_the_backends_that_it_lacks(
    plant: Plant, tmp_path: Path
) -> None:
    written = acl(
        "triton", plant.bundles["map"].path, "-o", tmp_path / "repository", "--backend", "onnxruntime"
    )
    assert written.exit_code == 0, written.output
    shutil.rmtree(tmp_path / "repository" / "map-picture")
    server = Server([tmp_path / "repository"], plant.server.backends, tmp_path / "log")
    with pytest.raises(AssertionError):
        server.start()
    log = (tmp_path / "log").read_text()
    assert "unable to find backend library for backend 'onnxruntime'" in log
