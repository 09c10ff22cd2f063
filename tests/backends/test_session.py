"""Every backend gives a session that names itself as the option does, and that can be closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import drawn_frame, write_tiny_bundle
from sessions import Around

from acl_runtime import Detector
from acl_runtime.backends.choose import BACKENDS, Backend, open_session
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.openvino_session import OpenVinoSession
from acl_runtime.backends.session import Session, backend_in_record
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.files.errors import BackendError, InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("sessions") / "bundle"))


OPENERS: dict[str, Callable[[Bundle], Session]] = {
    "onnxruntime": lambda bundle: OnnxSession.of_bundle(bundle, "cpu"),
    "openvino": OpenVinoSession.of_bundle,
    "openvino-int8": lambda bundle: OpenVinoSession.of_bundle(bundle, precision="int8"),
}


@pytest.mark.parametrize("name", OPENERS)
def test_a_session_names_itself_as_the_option_does_and_is_closed_once_and_for_all(
    bundle: Bundle, name: str
) -> None:
    session = OPENERS[name](bundle)
    side = bundle.manifest.image_size
    images = np.zeros((1, side, side, 3), np.uint8)
    assert session.backend == name
    assert session.provider.startswith("CPU")
    assert session(images)
    session.close()
    session.close()
    with pytest.raises(BackendError, match="the session was closed; open another"):
        session(images)


def test_a_detector_closes_its_session_and_says_what_computes(bundle: Bundle) -> None:
    inner = OnnxSession.of_bundle(bundle, "cpu")
    session = Around(inner, inner)
    with Detector(bundle, session=session) as detector:
        assert (detector.backend, detector.provider) == ("onnxruntime", "CPUExecutionProvider")
        detector(drawn_frame(0))
    assert session.closed == 1


@pytest.mark.parametrize(
    ("recorded", "name"),
    [
        (("OnnxSession", "CPUExecutionProvider"), "onnxruntime"),
        (("OpenVinoSession", "CPU f32"), "openvino"),
        (("OpenVinoSession", "CPU int8"), "openvino-int8"),
        (("TrtSession", "NVIDIA L4, tensorrt 10.13.3.9, fp16"), "tensorrt"),
        (("onnxruntime-int8", "CPUExecutionProvider"), "onnxruntime-int8"),
    ],
)
def test_records_that_name_a_class_are_understood(recorded: tuple[str, str], name: str) -> None:
    assert backend_in_record(*recorded) == name


def test_the_table_has_every_backend_that_can_be_named() -> None:
    assert {"auto", *BACKENDS} == {each.value for each in Backend}


def write_endless_graph(path: Path) -> None:
    """A graph whose loop never ends."""
    helper, kinds = onnx.helper, onnx.TensorProto
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [value("turn", kinds.INT64, []), value("go", kinds.BOOL, []), value("v", kinds.FLOAT, None)],
        [value("again", kinds.BOOL, []), value("w", kinds.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Constant", [], ["go"], value=helper.make_tensor("t", kinds.BOOL, [], [True])),
        helper.make_node("Cast", ["images"], ["x"], to=kinds.FLOAT),
        helper.make_node("Loop", ["", "go", "x"], ["y"], body=body),
    ]
    shape: list[str | int | None] = ["B", 1, 1, 3]
    inputs, outputs = [value("images", kinds.UINT8, shape)], [value("y", kinds.FLOAT, shape)]
    model = helper.make_model(
        helper.make_graph(nodes, "endless", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, path)


def test_a_call_that_does_not_end_is_ended_at_the_time_limit(tmp_path: Path) -> None:
    write_endless_graph(tmp_path / "model.onnx")
    session = OnnxSession(tmp_path / "model.onnx", "cpu", time_limit_s=0.3)
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"gave no answer on \(1, 1, 1, 3\) in 0.3 s, the time limit"):
        session(np.zeros((1, 1, 1, 3), np.uint8))
    assert time.monotonic() - started < 10


def test_a_time_limit_that_is_kept_changes_nothing(bundle: Bundle) -> None:
    frame = drawn_frame(0)
    with Detector(bundle, time_limit_s=100) as limited, Detector(bundle) as free:
        np.testing.assert_array_equal(limited(frame).anomaly_map, free(frame).anomaly_map)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"backend": "openvino", "provider": "cpu"},
            "provider is for backend onnxruntime, got cpu with backend openvino",
        ),
        (
            {"backend": "openvino", "time_limit_s": 1.0},
            "time_limit_s is for backend onnxruntime, onnxruntime-int8, triton, got 1.0 with backend openvino",
        ),
        ({"backend": "cuda"}, "backend must be one of auto, onnxruntime, .*, got cuda"),
    ],
)
def test_a_setting_that_does_nothing_is_refused(
    bundle: Bundle, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_session(bundle, **settings)
