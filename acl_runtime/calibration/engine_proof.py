"""Prove a TensorRT engine on images of the line too, since the golden ones are few and mostly drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from acl_runtime.calibration.images import Progress
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError
from acl_runtime.images.frame import Frame
from acl_runtime.sources.files import Source, iter_frames, spread

LOG = logging.getLogger("acl")
IMAGES = 8  # each takes the CPU a float32 pass: seconds with a ViT-L
WHAT = "proving the engine on good parts"


def prove_on_parts(detector: Detector, sources: Sequence[Source], progress: Progress) -> None:
    """Compare a detector's engine with the CPU's float32 on good parts, and note it in the engine's certificate.

    Other backends need no such proof. Where the CPU cannot compute the graph in float32, a note says why there is none.

    Args:
        detector: Whose engine.
        sources: Images of good parts; at most `IMAGES` of them are used, spread evenly.
        progress: Called before the comparison and after it.

    Raises:
        BackendError: The engine computes something else; its certificate says so from then on.
    """
    if detector.backend != "tensorrt":
        return
    from acl_runtime.backends.tensorrt.certificate import prove_on_images
    from acl_runtime.backends.tensorrt.session import TrtSession

    session, bundle = detector.session, detector.bundle
    assert isinstance(session, TrtSession)
    try:
        from acl_runtime.backends.onnx_session import OnnxSession
    except BackendError as error:
        LOG.warning("the engine is not proven on images of the line: %s", error)
        return
    if "fp32" not in bundle.manifest.arithmetics():
        LOG.warning("the engine is not proven on images of the line: the bundle has no graph in fp32")
        return
    images = _pick(detector, sources)
    if not len(images):
        return  # none can be read, which is told by whoever judges them
    progress(WHAT, 0, 1)
    exact = OnnxSession(bundle.cpu_graph_path, "cpu")
    try:
        prove_on_images(session, bundle, images, exact)
    finally:
        exact.close()
    progress(WHAT, 1, 1)


def _pick(detector: Detector, sources: Sequence[Source]) -> np.ndarray:
    """An image of each of some frames as the graph takes it, whole or a tile from the middle: (N, S, S, 3) uint8."""
    picked = []
    for frame in iter_frames(spread(sources, IMAGES)):
        if isinstance(frame, Frame):
            works = detector.stages.preprocess([frame])
            images = [image for work in works for image in work.images if isinstance(image, np.ndarray)]
            picked += images[len(images) // 2 :][:1]
    return np.stack(picked) if picked else np.empty((0,), np.uint8)
