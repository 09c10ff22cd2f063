"""Every backend gives a session that names itself as the option does, and that can be closed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from sessions import Around

from acl_runtime import Detector
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.openvino_session import OpenVinoSession
from acl_runtime.backends.session import Session, backend_in_record
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.files.errors import BackendError


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
