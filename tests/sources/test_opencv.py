"""Area cameras of the net: a bounded wait for each frame, and frames go on when the camera is back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath

import cv2
import numpy as np
import pytest

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.address import hide_password
from acl_runtime.sources.block import LineSource
from acl_runtime.sources.files import iter_frames, list_sources
from acl_runtime.sources.frames import read_frames
from acl_runtime.sources.lines import open_line_source, parse_source
from acl_runtime.sources.opencv import OpenCVOptions, OpenCVSource


class _Camera(BaseHTTPRequestHandler):
    """A network camera that sends JPEGs, each grey level ten brighter than the one before."""

    frames = 1000  # then it hangs up
    pause_s = 0.02
    silent_after = 1000  # frames, then it sends nothing and does not hang up

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        try:
            for index in range(self.frames):
                if index == self.silent_after:
                    time.sleep(5)
                    return
                picture = np.full((48, 64, 3), 10 * index % 250, np.uint8)
                data = cv2.imencode(".jpg", picture)[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(self.pause_s)
        except (BrokenPipeError, ConnectionResetError):  # the reader has enough
            return

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextmanager
def camera(port: int = 0, **behaviour: float) -> Iterator[str]:
    """The address of such a camera."""
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Camera", (_Camera,), behaviour))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/video"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_frame_is_a_block_with_its_number() -> None:
    with camera() as address:
        source = open_line_source(address)
        assert (source.width, source.height, source.numbers) == (64, 48, None)
        blocks = [source.read(5.0) for _ in range(5)]
        source.close()
        source.close()
    assert [block.number for block in blocks if block] == [0, 1, 2, 3, 4]
    assert all(block.complete and block.lines.shape == (48, 64, 3) for block in blocks if block)
    levels = [int(block.lines.mean()) for block in blocks if block]
    assert levels == sorted(set(levels))
    with pytest.raises(SourceError, match="is closed"):
        source.read(0.1)


def test_a_camera_that_falls_silent_keeps_nobody_waiting() -> None:
    with camera(silent_after=3) as address:
        source = OpenCVSource(parse_source(address), OpenCVOptions(wait_s=0.4))
        began = time.monotonic()
        with pytest.raises(SourceError, match="(gave no frame for .* s|gives no frame); check that it"):
            read_on(source)
        assert 0.4 < time.monotonic() - began < 3
        source.close()


def read_on(source: LineSource) -> None:
    while True:
        source.read(0.1)


def test_frames_go_on_when_the_camera_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with camera(frames=4) as address:
        port = int(address.split(":")[2].split("/")[0])
        frames = read_frames(address, PurePath("x"), again_s=0.05)
        first = [next(frames) for _ in range(3)]
        while isinstance(first[-1], Frame):
            first.append(next(frames))
    assert isinstance(first[-1], BadFrame)
    assert first[-1].problem == f"{address}: gives no frame; check that it is connected"
    caplog.clear()
    with caplog.at_level(logging.INFO, "acl"), camera(port):
        item = next(frames)
    messages = [message for message in caplog.messages if "passed over" not in message]
    frames.close()  # type: ignore[attr-defined]
    assert isinstance(item, Frame)
    assert item.index == len(first)
    assert item.name == PurePath(f"http-127.0.0.1-{port}-video_{len(first):06d}")
    assert messages == [f"{address}: is away; waiting for it to come back", f"{address}: is back"]


def test_a_camera_that_stays_away_is_given_up() -> None:
    with camera(frames=4) as address:
        frames = read_frames(address, PurePath("x"), again_s=0.01, give_up_s=0.2)
        items = [next(frames)]
    items += list(frames)
    assert [type(item) for item in items[-3:]] == [Frame, BadFrame, BadFrame]
    assert isinstance(items[-1], BadFrame)
    assert items[-1].problem == f"{address}: did not come back within 0.2 s; connect it"


def test_a_camera_that_was_never_there_is_one_bad_frame() -> None:
    for text in ("opencv:77", "http://127.0.0.1:9/video"):
        (item,) = iter_frames(list_sources([text]))
        assert isinstance(item, BadFrame)
        assert item.problem == f"{text}: gives no frame; check that it is connected"
    (item,) = iter_frames(list_sources(["77"]))
    assert isinstance(item, BadFrame)
    assert item.problem.startswith("opencv:77: gives no frame")


def test_lost_and_incomplete_frames_are_bad_ones_in_their_place() -> None:
    text = "drawn:1?width=64&height=8&lines=4000&loss=0.2"
    source, items = list_sources([text])[0], list(iter_frames(list_sources([text])))
    assert source.is_camera
    assert source.is_video
    assert [item.index for item in items] == list(range(len(items)))
    frames = [item for item in items if isinstance(item, Frame)]
    problems = [item.problem for item in items if isinstance(item, BadFrame)]
    incomplete = [problem for problem in problems if "came incomplete" in problem]
    never = [int(problem.split(": ")[1].split()[0]) for problem in problems if "never came" in problem]
    assert len(incomplete) > 20
    assert len(frames) + len(incomplete) + sum(never) == pytest.approx(
        500, abs=3
    )  # those at the end nobody counts
    assert len({frame.frame.tobytes() for frame in frames}) == len(frames), "each has pixels of its own"
    assert frames[0].name == PurePath(f"drawn-1_{frames[0].index:06d}")


def test_results_of_cameras_lie_beside_those_of_files() -> None:
    names = [source.name for source in list_sources(["rtsp://me:secret@10.0.0.7:554/a?b=c", "aravis:PART01"])]
    assert names == [PurePath("rtsp-me-10-0-0-7-554-a-b-c"), PurePath("aravis-part01")]


def test_a_password_is_not_shown() -> None:
    assert hide_password("rtsp://me:secret@10.0.0.7:554/a") == "rtsp://me:***@10.0.0.7:554/a"
    assert hide_password("rtsp://10.0.0.7:554/a@b") == "rtsp://10.0.0.7:554/a@b"
    (item,) = iter_frames(list_sources(["http://me:secret@127.0.0.1:9/video"]))
    assert isinstance(item, BadFrame)
    assert "secret" not in item.source + item.problem


@pytest.mark.skipif(
    not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV was built without GStreamer"
)
def test_a_pipeline_gives_frames_until_it_ends() -> None:
    shape = "video/x-raw,format=GRAY8,width=64,height=48"
    source = open_line_source(f"gst:videotestsrc num-buffers=3 ! videoconvert ! {shape} ! appsink")
    assert (source.width, source.height) == (64, 48)
    assert source.read(5.0) is not None
    with pytest.raises(SourceError, match="gives no frame"):
        read_on(source)


@pytest.mark.skipif(
    cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER),
    reason="this OpenCV has GStreamer; the other way is tested",
)
def test_an_opencv_without_gstreamer_says_so() -> None:
    with pytest.raises(SourceError, match="was built without GStreamer; use one that was built with it"):
        open_line_source("gst:nvarguscamerasrc ! nvvidconv ! appsink")


def test_what_is_wrong_with_a_camera_s_number_is_said() -> None:
    with pytest.raises(
        InputError, match="opencv:front: must name a camera's number, such as opencv:0, got 'front'"
    ):
        open_line_source("opencv:front")
    with pytest.raises(InputError, match="has no option wait .*; there are open_s, wait_s, buffers"):
        open_line_source("opencv:0?wait=3")
