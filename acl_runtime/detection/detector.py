"""Look at frames and say which show a defect, and where."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Literal

from acl_runtime.backends.choose import open_session
from acl_runtime.backends.gpu_pixels import gpu_pixels
from acl_runtime.backends.session import GpuSession, Session
from acl_runtime.bundle.bundle import Bundle, check_judges, load_bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.gpu_frame import GpuFrame
from acl_runtime.detection.pipeline import MAX_LATENCY_MS
from acl_runtime.detection.stages import MOST_WORKERS, MapsOf, Stages
from acl_runtime.detection.stream import ArrayStream, Stream, check_batch, wrap_arrays
from acl_runtime.detection.verdict import Result, Verdict
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.images.ignore import Ignore, load_ignore
from acl_runtime.images.preprocess import choose_resize
from acl_runtime.images.tiles import tile_side
from acl_runtime.scoring.heads import defect_directions
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_file import load_memory
from acl_runtime.scoring.rule import Rule, bundle_rule


class Detector:
    """A bundle with its graph loaded; call it with a frame to get a Verdict.

    Both heads give the same verdict. Frames are (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or
    uint16; sizes may differ from frame to frame, unless the graph itself resizes (`Manifest.frame_size`). To a
    TensorRT engine of such a graph they may also be (H, W, 3) uint8 BGR on its GPU: arrays of cupy, PyTorch, pycuda and
    whatever else has `__dlpack__` or `__cuda_array_interface__`, see `gpu_pixels.py`.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        backend: str = "auto",
        provider: str = "auto",
        triton: str | None = None,
        session: Session | None = None,
        time_limit_s: float | None = None,
        batch: int | None = None,
        threads: int = 0,
        threshold: float | None = None,
        tiling: Tiling | Literal["bundle"] | None = "bundle",
        fast_resize: bool = False,
        maps: MapsOf = "all",
    ) -> None:
        """Load the graph.

        Args:
            bundle: A loaded bundle, or the path of one.
            backend: What runs the graph; see `Backend`.
            provider: Where ONNX Runtime computes; see `OnnxSession`.
            triton: Address of a Triton server that computes; see `open_session`.
            session: What to compute with instead, whatever the backend; it may give the outputs of either
                head.
            time_limit_s: Longest that a call of the network may take, see `open_session`; for a service that must not
                hang.
            batch: Frames per call to choose a TensorRT engine for, where the bundle has several; None, and where frames
                are cut into tiles, for as many as one takes.
            threads: CPU threads that compute, where a CPU does, and that prepare images; 0 for one per core.
            threshold: Smallest score that makes a frame anomalous, and then the only rule; None for the
                bundle's own rule.
            tiling: How large frames are cut; None to squash each whole, "bundle" for what the bundle's
                thresholds were measured with.
            fast_resize: Whether frames and tiles are resized nearly as by Pillow, but faster; see `fast_resize.py`.
            maps: "all", or "defects" to leave on the GPU, where a TensorRT engine computes, the maps of whole frames
                that are good and have no region: such a `Verdict.anomaly_map` is then (0, 0). Nothing else changes.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        manifest = self.bundle.manifest
        self.tiling = manifest.calibration.tiling if tiling == "bundle" else tiling
        if self.tiling is not None:
            if manifest.frame_size is not None:
                raise InputError(
                    f"{self.bundle.path}: was exported with --frame-size and takes whole frames; export one without it "
                    "to cut them into tiles"
                )
            tile_side(
                self.tiling, image_size=manifest.image_size, grid=manifest.grid
            )  # refuses what cannot be
        self.fast_resize = fast_resize
        self.stages = Stages(
            manifest=manifest,
            resize=choose_resize(manifest, fast=fast_resize),
            tiling=self.tiling,
            directions=defect_directions(load_text_embeddings(self.bundle), temperature=manifest.temperature),
            memory=load_memory(self.bundle),
            ignore=load_ignore(self.bundle),
            rule=bundle_rule(manifest.calibration) if threshold is None else Rule(threshold, None),
            maps=maps,
            session=open_session(
                self.bundle,
                backend=backend,
                provider=provider,
                triton=triton,
                time_limit_s=time_limit_s,
                batch=batch if self.tiling is None else None,
                threads=threads,
            )
            if session is None
            else session,
            workers=min(threads or os.cpu_count() or 1, MOST_WORKERS),
        )

    def with_memory(self, memory: Memory | None) -> Detector:
        """The same detector, on the same session, with another memory of good parts, or by the text alone."""
        other = copy.copy(self)
        other.stages = replace(self.stages, memory=memory)
        return other

    def with_ignore(self, ignore: Ignore | None) -> Detector:
        """The same detector, on the same session, for which other parts of a frame do not count."""
        other = copy.copy(self)
        other.stages = replace(self.stages, ignore=ignore)
        return other

    def with_tiling(self, tiling: Tiling) -> Detector:
        """The same detector, on the same session, that cuts large frames otherwise."""
        other = copy.copy(self)
        other.tiling, other.stages = tiling, replace(self.stages, tiling=tiling)
        return other

    def with_calibration(self, bundle: Bundle, memory: Memory | None) -> Detector:
        """The same detector, on the same session, with the calibration that its bundle has by now.

        Args:
            bundle: Its bundle, read again.
            memory: Of that calibration, see `load_memory`.
        """
        other, calibration = copy.copy(self), bundle.manifest.calibration
        other.bundle, other.tiling = bundle, calibration.tiling
        other.stages = replace(
            self.stages,
            manifest=bundle.manifest,
            tiling=calibration.tiling,
            memory=memory,
            ignore=load_ignore(bundle),
            rule=bundle_rule(calibration),
        )
        return other

    def with_session(self, session: Session) -> Detector:
        """The same detector on another session, such as one that was opened again."""
        other = copy.copy(self)
        other.stages = replace(self.stages, session=session)
        return other

    def close(self) -> None:
        """Give back what the session holds, a GPU's memory above all; the detector cannot be used any more."""
        self.session.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def backend(self) -> str:
        """What computes, such as "onnxruntime"; see `Session`."""
        return self.session.backend

    @property
    def provider(self) -> str:
        """Where it computes, such as "CPUExecutionProvider"; see `Session`."""
        return self.session.provider

    @property
    def session(self) -> Session:
        """What computes."""
        return self.stages.session

    @property
    def rule(self) -> Rule:
        """When a frame is anomalous."""
        return self.stages.rule

    def __call__(self, frame: Any) -> Verdict:
        """The verdict on one frame, an array or a `Frame`.

        Raises:
            FrameError: It is no frame, or one that cannot be judged.
        """
        return self.detect([frame])[0]

    def detect(self, frames: Sequence[Any]) -> list[Verdict]:
        """The verdicts on frames, in their order, computed in batches of the bundle's `max_batch` at most.

        Args:
            frames: Arrays or `Frame`s, all checked before any is looked at; or a (B, H, W, 3) array.

        Raises:
            FrameError: One of them is no frame, or cannot be judged.
            BundleError: There is nothing to judge by, see `check_judges`.
        """
        self._check_judges()
        given = list(wrap_arrays(frames, copy=False, gpu=self._take_from_gpu))
        return [_verdict(result) for result in self.stages.judge(given)]

    def stream(
        self,
        frames: Iterable[Any],
        *,
        batch: int = 1,
        max_latency_ms: float | None = MAX_LATENCY_MS,
        drop_oldest: bool = False,
        copy: bool = True,
    ) -> ArrayStream:
        """Verdicts on frames as they come: reading, preprocessing and inference overlap, order kept.

        A loop over it may be left at any time; its threads and `frames` then end.

        Args:
            frames: Read in a thread of its own, and no faster than they are judged. What it raises, or a frame that is
                none or cannot be judged, is raised in its place, after the verdicts before it; `Stream` has results
                in place of such frames, and goes on.
            batch: Frames to judge together, at most the bundle's `max_batch`.
            max_latency_ms: Maximum time in ms that a frame waits for its batch to fill, up to an hour; None for as
                long as it takes.
            drop_oldest: Drop the oldest frame that waits where frames come faster than they are judged; counted in
                `dropped`.
            copy: Copy each frame as it comes, since most cameras use its memory again for the next one. False is for
                frames that stay as they are until their verdicts are there; it must be False for frames on the GPU.

        Returns:
            Pairs of frame and verdict, to be iterated once; `close` ends it early.

        Raises:
            BundleError: There is nothing to judge by, see `check_judges`.
        """
        self._check_judges()
        return ArrayStream(
            Stream(
                self.stages,
                wrap_arrays(frames, copy=copy, gpu=self._take_from_gpu),
                batch=batch,
                max_latency_ms=max_latency_ms,
                drop_oldest=drop_oldest,
            )
        )

    def _take_from_gpu(self, array: Any, number: int) -> Frame:
        """An array on the GPU as a frame; FrameError if it is none, or not one for this detector."""
        session = self.session
        if not isinstance(session, GpuSession):
            raise FrameError(
                f"a frame on the GPU is for an engine of TensorRT, got backend {session.backend}; build one with "
                "acl build, or give arrays of numpy"
            )
        if self.bundle.manifest.frame_size is None:
            raise FrameError(
                f"{self.bundle.path}: its graph does not resize, so a frame on the GPU would have to leave it; "
                "export it with --frame-size"
            )
        pixels = gpu_pixels(array)
        session.check_on_gpu(pixels)
        return GpuFrame("", number, PurePath(str(number)), pixels, session.fetch)

    def _check_judges(self) -> None:
        if self.stages.memory is None:
            check_judges(self.bundle)

    def check_batch(self, batch: int) -> None:
        """Raise InputError unless the bundle takes so many frames at once."""
        check_batch(batch, self.bundle.manifest.max_batch)


def _verdict(result: Result) -> Verdict:
    if isinstance(result, BadFrame):
        raise FrameError(result.problem)
    return result.verdict
