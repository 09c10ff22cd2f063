"""What Triton's Python backend runs: the bundle's network in a session of ours, and the verdict on a picture.

`triton_python_backend_utils` exists inside the server only, so the `model.py` that `acl triton` writes hands it over.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar

import numpy as np

from acl_runtime.backends.choose import open_session
from acl_runtime.backends.parity import check_parity
from acl_runtime.backends.triton_session import version_of
from acl_runtime.bundle.bundle import check_judges, load_bundle
from acl_runtime.bundle.identity import network_sha256
from acl_runtime.bundle.manifest import Graph
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.files.errors import BackendError, FrameError, UserError
from acl_runtime.images.decode import ReadSettings, decode_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.outputs.json_lines import json_record
from acl_runtime.triton.repository import BUNDLE_FOLDER, NETWORK_MODEL, PROVIDER, READING, SESSION


class NetworkModel:
    """The network: images as the graph takes them, arrays as it gives them."""

    pb_utils: ClassVar[Any]

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the bundle and its graph, as `acl run` does; the server calls it once."""
        if args["model_instance_kind"] == "GPU":  # each instance is a process; its GPU is then number 0 there
            os.environ["CUDA_VISIBLE_DEVICES"] = args["model_instance_device_id"]
        config = json.loads(args["model_config"])
        self._bundle = load_bundle(_version_folder(args) / BUNDLE_FOLDER)
        self._session = open_session(
            self._bundle,
            backend=_parameter(config, SESSION),
            provider=_parameter(config, PROVIDER),
        )
        self._input = self._bundle.manifest.graph.inputs[0].name

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the requests that the server put together, as one batch."""
        parts = [_input(self.pb_utils, request, self._input) for request in requests]
        try:
            outputs = self._session(np.concatenate(parts) if len(parts) > 1 else parts[0])
        except BackendError as error:
            return [_refusal(self.pb_utils, error) for _ in requests]
        ends = np.cumsum([len(part) for part in parts])
        return [
            _response(
                self.pb_utils,
                request,
                {name: _with_an_axis(array[end - len(part) : end]) for name, array in outputs.items()},
            )
            for request, part, end in zip(requests, parts, ends, strict=True)
        ]

    def finalize(self) -> None:
        """Give back what the session holds."""
        self._session.close()


class PictureModel:
    """A picture as a file: the verdict of the bundle, by the network that the server serves beside it."""

    pb_utils: ClassVar[Any]

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the bundle; the network may not be there yet."""
        config = json.loads(args["model_config"])
        bundle = load_bundle(_version_folder(args) / BUNDLE_FOLDER)
        check_judges(bundle)
        bits = _parameter(config, READING.format("bits"))
        self._reading = ReadSettings(
            bits=int(bits) if bits else None,
            exif=_parameter(config, READING.format("exif")) == "true",
            max_megapixels=float(_parameter(config, READING.format("max_megapixels"))),
        )
        self._session = _ServedSession(
            self.pb_utils,
            _parameter(config, NETWORK_MODEL),
            version_of(network_sha256(bundle)),
            bundle.manifest.graph,
        )
        self._detector = Detector(bundle, session=self._session)
        self._is_proven, self._lock = False, threading.Lock()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Judge the pictures of the requests that the server put together."""
        pictures = [_input(self.pb_utils, request, "picture").reshape(-1) for request in requests]
        frames = (self._frame(data) for each in pictures for data in each)
        try:
            self._prove()
            results = iter(list(self._detector.stages.judge(frames)))
        except BackendError as error:
            return [_refusal(self.pb_utils, error) for _ in requests]
        return [
            self._respond(request, [next(results) for _ in each])
            for request, each in zip(requests, pictures, strict=True)
        ]

    def _prove(self) -> None:
        """See, before the first picture, that the network computes what was trained."""
        with self._lock:
            if not self._is_proven:
                bundle = self._detector.bundle
                batches = sorted({1, bundle.manifest.max_batch})
                check_parity(self._session, bundle, batches=batches, who=f"model {self._session.provider}")
                self._is_proven = True

    def _frame(self, data: bytes) -> Frame | BadFrame:
        try:
            return Frame("posted", 0, PurePath("posted"), decode_frame(data, self._reading))
        except FrameError as error:
            return BadFrame("posted", 0, str(error))

    def _respond(self, request: Any, results: list[Result]) -> Any:
        judged = [result for result in results if isinstance(result, Inspected)]
        for result in results:
            if isinstance(result, BadFrame):
                return _refusal(self.pb_utils, FrameError(result.problem))
        maps = [result.verdict.anomaly_map for result in judged]
        if len({each.shape for each in maps}) > 1:
            return _refusal(
                self.pb_utils, FrameError("pictures of one request must be of one size; send one in each")
            )
        records = [json_record(result) for result in judged]
        for record in records:
            del record["source"], record["index"], record["unusual"]
        outputs = {
            "score": _column((record["score"] for record in records), np.float64),
            "peak": _column((record["peak"] for record in records), np.float64),
            "is_anomalous": _column((record["is_anomalous"] for record in records), np.bool_),
            "regions": _column((json.dumps(record["regions"]).encode() for record in records), np.object_),
            "record": _column((json.dumps(record).encode() for record in records), np.object_),
            "anomaly_map": np.stack(maps),
        }
        return _response(self.pb_utils, request, outputs)


class _ServedSession:
    """The network that the same server serves, as a session."""

    backend = "triton"

    def __init__(self, pb_utils: Any, model: str, version: int, graph: Graph) -> None:
        self.provider = model
        self._pb_utils, self._version, self._graph = pb_utils, version, graph

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        pb_utils = self._pb_utils
        request = pb_utils.InferenceRequest(
            model_name=self.provider,
            model_version=self._version,
            requested_output_names=[output.name for output in self._graph.outputs],
            inputs=[pb_utils.Tensor(self._graph.inputs[0].name, images)],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        answer = request.exec()
        if answer.has_error():
            raise BackendError(f"model {self.provider}: {answer.error().message()}")
        arrays = {}
        for output in self._graph.outputs:
            array = pb_utils.get_output_tensor_by_name(answer, output.name).as_numpy()
            arrays[output.name] = array.reshape(len(images), *array.shape[1 : len(output.shape)])
        return arrays

    def close(self) -> None:
        """It holds nothing."""


def _version_folder(args: Mapping[str, str]) -> Path:
    return Path(args["model_repository"]) / args["model_version"]


def _input(pb_utils: Any, request: Any, name: str) -> np.ndarray:
    array: np.ndarray = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _response(pb_utils: Any, request: Any, outputs: Mapping[str, np.ndarray]) -> Any:
    """What the server sends: the outputs that were asked for."""
    wanted = set(request.requested_output_names())
    tensors = [
        pb_utils.Tensor(name, np.ascontiguousarray(array))
        for name, array in outputs.items()
        if name in wanted
    ]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _refusal(pb_utils: Any, error: UserError) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))


def _with_an_axis(array: np.ndarray) -> np.ndarray:
    """(B,) as (B, 1): Triton has no arrays of the batch alone."""
    return array[:, None] if array.ndim == 1 else array


def _column(values: Iterable[object], dtype: type) -> np.ndarray:
    """(B, 1), a value for each picture."""
    return np.array(list(values), dtype=dtype)[:, None]


def _parameter(config: Mapping[str, Any], name: str) -> str:
    return str(config["parameters"].get(name, {}).get("string_value", ""))
