"""Webhooks, with a real HTTP server as the receiver."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from station_events import Control, defect, free_port, part, status, wait_until
from tls import certified

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.station import StationEvent, WebRecord
from acl_runtime.outputs.webhook import Options, Webhook, open_output

KEY = "a-long-key-of-the-plant"
KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from station_events import Control, part
from acl_runtime.outputs.webhook import Options, open_output
output = open_output(
    Options(url=sys.argv[1], secret_file=Path(sys.argv[2], "key"), spool=Path(sys.argv[2], "spool")), Control(), "hook"
)
for number in range(1, 21):
    output(part(number, "ng"))
while len(output._spool) < 20:
    pass
print("spooled", flush=True)
sys.stdin.read()
"""


class Receiver:
    """A web server that keeps what is posted, and can be stopped, slow, or answer otherwise."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answer = 200
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.gate.wait(20)
                headers = {key.lower(): value for key, value in self.headers.items()}
                outer.posts.append(({**headers, ":path": self.path}, body))
                self.send_response(outer.answer)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Nothing: the other side may go."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def numbers(self) -> list[int]:
        return [json.loads(body)["number"] for _, body in list(self.posts) if b'"number"' in body]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def options(folder: Path, port: int, **given: Any) -> Options:
    key = folder / "key"
    if not key.exists():
        key.touch(0o600)
        key.write_text(KEY + "\n")
    return Options(
        url=f"http://127.0.0.1:{port}/hook?line=1", secret_file=key, spool=folder / "spool", **given
    )


def post_to(folder: Path, port: int, **given: Any) -> Webhook:
    return open_output(options(folder, port, **given), Control(), "hook")


def test_what_is_posted_is_signed_so_that_the_receiver_knows_who_when_and_that_it_is_whole(
    tmp_path: Path, receiver: Receiver
) -> None:
    output = post_to(tmp_path, receiver.port)
    output(part(1, "ok"))
    output(part(2, "ng", part_id="Ä"))
    output.close(5)
    ((headers, body),) = receiver.posts
    assert headers[":path"] == "/hook?line=1"
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(KEY.encode(), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    record = json.loads(body)
    assert (record["schema"], record["number"], record["part_id"], record["verdict"]) == (1, 2, "Ä", "ng")
    assert (output.dropped, output.problem) == (0, "")


def test_the_signature_is_checked_with_openssl_as_the_page_says(tmp_path: Path, receiver: Receiver) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    output = post_to(tmp_path, receiver.port)
    output(part(1, "ng"))
    output.close(5)
    ((headers, body),) = receiver.posts
    (tmp_path / "body").write_bytes(body)
    script = (
        '{ printf "%s.%s." "$1" "$2"; cat body; } | openssl dgst -sha256 -hmac "$3" -binary | openssl base64'
    )
    command = ["sh", "-c", script, "sh", headers["webhook-id"], headers["webhook-timestamp"], KEY]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert headers["webhook-signature"] == f"v1,{found}"


def test_a_key_in_base64_is_decoded(tmp_path: Path, receiver: Receiver) -> None:
    given = options(tmp_path, receiver.port)
    given.secret_file.write_text("whsec_" + base64.b64encode(KEY.encode()).decode())
    output = open_output(given, Control(), "hook")
    output(part(1, "ng"))
    output.close(5)
    ((headers, body),) = receiver.posts
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert base64.b64decode(headers["webhook-signature"][3:]) == hmac.digest(KEY.encode(), signed, "sha256")
    given.secret_file.write_text("whsec_?")
    with pytest.raises(InputError, match="must go on in base64"):
        open_output(given, Control(), "hook")


def test_ng_alone_or_all_and_a_state_where_it_changed(tmp_path: Path, receiver: Receiver) -> None:
    output = post_to(tmp_path, receiver.port)
    judged = WebRecord(number=4, camera="web", roll="R", record={"event": "judged"})
    events: list[StationEvent] = [status(), part(1), part(2, "not judged"), defect(3), judged]
    for event in events:
        output(event)
        wait_until(lambda: not output._spooling.waiting and output._spooling._status is None)
    for changed in (status(judged=5), status("fault")):
        output(changed)
        wait_until(lambda: output._spooling._status is None)
    output.close(5)
    assert receiver.numbers == [2, 3]
    states = [json.loads(body)["state"] for _, body in receiver.posts if b'"status"' in body]
    assert states == ["running", "fault"]
    everything = post_to(tmp_path, receiver.port, send="all")
    everything(part(11))
    everything(judged)
    everything.close(5)
    assert receiver.numbers == [2, 3, 11, 4]


def test_what_waits_while_the_receiver_is_away_is_posted_in_order_with_the_same_id(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = 503
    output = post_to(tmp_path, receiver.port)
    for number in range(1, 6):
        output(part(number, "ng"))
    wait_until(lambda: "answers 503" in output.problem and len(output._spool) == 5)
    refused = [headers["webhook-id"] for headers, _ in receiver.posts]
    receiver.stop()
    output(part(6, "ng"))
    wait_until(lambda: "is away" in output.problem)
    again = Receiver(receiver.port)
    wait_until(lambda: again.numbers == [1, 2, 3, 4, 5, 6])
    assert {again.posts[0][0]["webhook-id"]} == set(refused)
    wait_until(lambda: not output.problem)
    output.close(5)
    assert output.dropped == 0
    assert not list((tmp_path / "spool").iterdir())
    again.stop()


def test_a_station_that_was_killed_posts_what_waited_after_its_next_start(tmp_path: Path) -> None:
    port = free_port()
    options(tmp_path, port)
    tests = str(Path(__file__).parent.parent)
    command = [
        sys.executable,
        "-c",
        KILLED,
        f"http://127.0.0.1:{port}/",
        str(tmp_path),
        tests,
        str(Path(tests).parent),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as station:
        assert station.stdout is not None
        assert station.stdout.readline() == b"spooled\n"
        station.send_signal(signal.SIGKILL)
    receiver = Receiver(port)
    output = post_to(tmp_path, port)
    wait_until(lambda: receiver.numbers == [*range(1, 21)])
    output.close(5)
    receiver.stop()


def test_the_spool_is_bounded_and_drops_the_oldest(tmp_path: Path) -> None:
    output = post_to(tmp_path, free_port(), most_spooled=3)
    for number in range(1, 11):
        output(part(number, "ng"))
    wait_until(lambda: output.dropped == 7)
    output.close(5)
    kept = [json.loads(path.read_bytes())["number"] for path in sorted((tmp_path / "spool").iterdir())]
    assert kept == [8, 9, 10]


def test_a_receiver_that_hangs_delays_neither_the_station_nor_its_end(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.gate.clear()
    output = post_to(tmp_path, receiver.port, timeout_s=0.2)
    began = time.perf_counter()
    for number in range(1, 31):
        output(part(number, "ng"))
    assert time.perf_counter() - began < 1
    wait_until(lambda: len(output._spool) == 30)
    wait_until(lambda: "is away (timed out)" in output.problem)
    began = time.perf_counter()
    output.close(1)
    assert time.perf_counter() - began < 5
    receiver.gate.set()
    again = post_to(tmp_path, receiver.port)
    wait_until(lambda: set(receiver.numbers) == set(range(1, 31)))  # at least once
    again.close(5)


def test_https_posts_only_to_a_receiver_whose_certificate_is_trusted(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    receiver = Receiver(tls=tls)
    given = replace(options(tmp_path, 1), url=f"https://localhost:{receiver.port}/hook")
    stranger = open_output(given, Control(), "hook")
    stranger(part(1, "ng"))
    wait_until(lambda: "certificate verify failed" in stranger.problem)
    stranger.close(1)
    output = open_output(replace(given, ca_file=certificate), Control(), "hook")
    wait_until(lambda: receiver.numbers == [1])
    output.close(5)
    receiver.stop()


def test_what_the_receiver_will_never_take_is_given_up_and_counted(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = 422
    output = post_to(tmp_path, receiver.port)
    output(part(1, "ng"))
    wait_until(lambda: output.dropped == 1)
    receiver.answer = 404  # that may be mended there
    output(part(2, "ng"))
    wait_until(lambda: "answers 404" in output.problem)
    receiver.answer = 204
    wait_until(lambda: not output.problem)
    output.close(5)
    assert receiver.numbers[0] == 1
    assert set(receiver.numbers[1:]) == {2}
    assert output.dropped == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"url": "ftp://mes/"}, "url must be like https://host/path"),
        ({"url": "https://me:secret@mes/"}, "without user and password"),
        ({"most_spooled": 0}, "most_spooled must be 1"),
        ({"timeout_s": 0.0}, "timeout_s must be 0.1"),
    ],
)
def test_options_that_cannot_be_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Options(**{"url": "https://mes/", "secret_file": Path("key"), "spool": Path("spool"), **given})
