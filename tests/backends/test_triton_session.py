"""What a box says of a server that is none, is silent, or speaks something else; without Triton."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest
from console import acl, assert_one_line
from graphs import drawn_frame, write_tiny_bundle

from acl_runtime.backends import triton_client, triton_session
from acl_runtime.backends.choose import open_backend, open_session
from acl_runtime.backends.triton_address import parse_address
from acl_runtime.backends.triton_session import NETWORK, version_of
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.identity import network_sha256
from acl_runtime.files.errors import BackendError, InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("session") / "bundle"))


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The address of a web server that answers everything with the same."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing is printed."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("text", "whole", "model"),
    [
        ("gpu-box", "http://gpu-box:8000", ""),
        ("gpu-box:9000/parts", "http://gpu-box:9000", "parts"),
        ("http://10.0.0.2/", "http://10.0.0.2:8000", ""),
        ("https://triton.plant/parts", "https://triton.plant:443", "parts"),
        ("[::1]:8000", "http://[::1]:8000", ""),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port_and_a_model(text: str, whole: str, model: str) -> None:
    address = parse_address(text)
    assert (str(address), address.model) == (whole, model)


@pytest.mark.parametrize(
    "text", ["", "grpc://gpu-box:8001", "gpu-box:port", "gpu-box/v2/models", "me@gpu-box", "[::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"a Triton server must be HOST\[:PORT\]\[/MODEL\], such as gpu-box:8000, got"
    ):
        parse_address(text)


def test_a_port_where_nobody_listens_is_one_line(bundle: Bundle, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    cv2.imwrite(str(tmp_path / "part.png"), drawn_frame(0))
    run = acl("run", bundle.path, tmp_path / "part.png", "--triton", f"127.0.0.1:{port}")
    assert_one_line(run, f"http://127.0.0.1:{port}: the Triton server cannot be reached ([Errno")


def test_a_server_that_is_silent_is_waited_for_as_long_as_the_time_limit(bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(BackendError, match="gave no answer in 0.2 s; see whether the server is there"):
            open_session(bundle, triton=f"127.0.0.1:{silent.getsockname()[1]}", time_limit_s=0.2)
    assert time.monotonic() - started < 10


def test_a_web_server_that_is_no_triton_is_told_apart(bundle: Bundle) -> None:
    with (
        answering(200, b"<html>Welcome</html>") as address,
        pytest.raises(BackendError, match="not as Triton does"),
    ):
        open_session(bundle, triton=address)
    with (
        answering(404, b"<html>") as address,
        pytest.raises(BackendError, match="answers with HTTP status 404"),
    ):
        open_session(bundle, triton=address)
    with (
        answering(200, b'[{"name": "cats", "version": "1"}]') as address,
        pytest.raises(
            BackendError, match=r"does not serve the network of .*; it serves cats; serve what acl triton"
        ),
    ):
        open_session(bundle, triton=address)


def test_a_server_goes_with_no_other_backend_and_needs_an_address(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="triton is for backend triton, got gpu-box with backend openvino"):
        open_session(bundle, backend="openvino", triton="gpu-box")
    with pytest.raises(InputError, match="provider is for backend onnxruntime, got cpu with backend triton"):
        open_session(bundle, provider="cpu", triton="gpu-box")
    for opening in (open_session, open_backend):
        with pytest.raises(BackendError, match="needs the server's address: --triton HOST"):
            opening(bundle, backend="triton")


@pytest.mark.parametrize("body", [b"[1]", b'[{"version": "1"}]', b"[null]", b"7", b"[" * 100_000])
def test_an_answer_of_another_shape_is_told_apart(bundle: Bundle, body: bytes) -> None:
    with answering(200, body) as address, pytest.raises(BackendError, match="not as Triton does"):
        open_session(bundle, triton=address)


def test_an_answer_that_would_fill_the_memory_is_not_read(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_client, "_MOST_BYTES", 100)
    with answering(200, b" " * 101) as address, pytest.raises(BackendError, match="more than 100 bytes"):
        open_session(bundle, triton=address)


def test_a_server_is_not_given_more_at_once_than_the_bundle_takes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, asked = network_sha256(bundle), list[int]()
    config = {"max_batch_size": 10**9, "parameters": {NETWORK: {"string_value": network}}}
    index = [{"name": "parts", "version": str(version_of(network))}]

    def ask(client: object, path: str, body: object = None) -> Any:
        return index if path.endswith("index") else config

    monkeypatch.setattr(triton_client.TritonClient, "ask", ask)
    monkeypatch.setattr(triton_session, "check_parity", lambda *args, batches, who: asked.extend(batches))
    open_session(bundle, triton="gpu-box")
    assert asked == [1, bundle.manifest.max_batch]
