"""The live page over real connections: who may what, what is refused, what machines are told."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from station_events import Control, defect, free_port, part, status, wait_until
from tls import certified

pytest.importorskip("uvicorn", reason="the live page needs starlette, uvicorn and prometheus-client")

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.evidence.store import Options as EvidenceOptions
from acl_runtime.outputs.page import page_answers, page_server
from acl_runtime.outputs.page.live_page import LivePage, Options, open_output
from acl_runtime.outputs.station import ConflictError, StationOutput, WebRecord
from acl_runtime.outputs.strip_view import StripView

VIEWER, ADMIN = "v" * 24, "a" * 24
GETS: tuple[str, ...] = (
    "/",
    "/events",
    "/api/state",
    "/api/verdicts",
    "/api/defects",
    "/api/scores",
    "/api/thresholds",
    "/metrics",
    "/page.js",
)
GETS += (
    "/charts.js",
    "/thresholds.js",
    "/api/openapi.json",
    "/api/pictures/2/overlay",
    "/api/frames/0/picture",
)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Site:
    """A page that runs."""

    page: LivePage
    port: int
    control: Control
    stores: list[EvidenceStore]

    @property
    def outputs(self) -> list[StationOutput]:
        return [self.page, *self.stores]

    def close(self) -> None:
        for output in self.outputs:
            output.close(5)

    def ask(
        self, path: str, *, token: str = "", method: str = "GET", body: Any = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"Authorization": f"Bearer {token}"} if token else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body=body, headers=given)
            answer = connection.getresponse()
            data = b"" if answer.headers.get_content_type() == "text/event-stream" else answer.read()
            return Answer(answer.status, answer.headers, data)
        finally:
            connection.close()

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def write_token(path: Path, token: str) -> Path:
    path.write_text(token + "\n")
    path.chmod(0o600)
    return path


def open_site(folder: Path | None = None, **options: Any) -> Site:
    """A page that was told of four parts; with a folder, beside an evidence store."""
    port, control = free_port(), Control()
    stores = [] if folder is None else [EvidenceStore(EvidenceOptions(folder=folder, keep_free_gb=0.0))]
    page = open_output(Options(port=port, **options), control, "page")
    page.meet([page, *stores])
    wait_until(lambda: not page.problem, "it listens")
    site = Site(page, port, control, stores)
    for event in (status(dropped={"page": 0}), part(1), part(2, "ng"), part(3, "not judged"), part(4)):
        for output in site.outputs:
            output(event)
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Without tokens, on this machine."""
    opened = open_site(tmp_path_factory.mktemp("open") / "evidence", title="<script>alert(1)</script>")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With both tokens."""
    folder = tmp_path_factory.mktemp("tokens")
    opened = open_site(
        folder / "evidence",
        viewer_token_file=write_token(folder / "viewer", VIEWER),
        admin_token_file=write_token(folder / "admin", ADMIN),
    )
    opened.control.strip = begun_strip()
    yield opened
    opened.close()


def begun_strip() -> StripView:
    """Ten lines of a web."""
    view = StripView()
    view.begin(100, lines_per_pixel=1.0)
    view.add(0, np.full((10, 100), 200, np.uint8))
    return view


@pytest.mark.parametrize("path", GETS)
def test_who_has_no_token_sees_nothing_and_a_viewer_sees_all(guarded: Site, path: str) -> None:
    refused = guarded.ask(path)
    assert refused.status == (303 if path == "/" else 401)
    assert b"part" not in refused.body
    assert guarded.ask(path, token="x" * 24).status == refused.status
    assert guarded.ask(path, token=VIEWER).status == guarded.ask(path, token=ADMIN).status == 200


def test_only_the_administrator_reviews(guarded: Site) -> None:
    for token, expected in (("", 401), (VIEWER, 403), (ADMIN, 200)):
        assert guarded.ask("/api/review/2", token=token, method="POST", body="good").status == expected
    found = EvidenceReader(guarded.stores[0].folder).record(2)
    assert found is not None
    assert (found.review, found.reviewed_by) == ("good", "administrator")
    assert guarded.ask("/api/review/2", token=ADMIN, method="POST", body="good").json["proposal"] is None
    escaped = guarded.ask("/api/review/1", token=ADMIN, method="POST", body="defect")
    assert "1 reviewed OK parts were defective: a recalibration is due" in escaped.json["proposal"]
    assert guarded.ask("/api/review/9", token=ADMIN, method="POST", body="good").status == 422
    assert guarded.ask("/api/review/2", token=ADMIN, method="POST", body="<b>").status == 422


CHANGES: dict[str, dict[str, Any] | None] = {
    "/api/thresholds": {"score": 0.95, "peak": 0.7, "seen": "1"},
    "/api/thresholds/restore": {"seen": "1"},
    "/api/proposal": None,
    "/api/proposal/accept": {"proposal": "p1", "seen": "1"},
    "/api/proposal/drop": None,
}


@pytest.mark.parametrize("path", CHANGES)
def test_only_the_administrator_changes_thresholds(guarded: Site, path: str) -> None:
    thresholds, body = guarded.control.thresholds, json.dumps(CHANGES[path])
    thresholds.asked.clear()
    for token, expected in (("", 401), ("x" * 24, 401), (VIEWER, 403)):
        answer = guarded.ask(path, token=token, method="POST", body=body)
        assert (answer.status, thresholds.asked) == (expected, [])
    guest = guarded.ask(path, token=ADMIN, method="POST", body=body, Origin="http://evil.example")
    assert (guest.status, thresholds.asked) == (403, [])
    assert guarded.ask(path, token=ADMIN, method="GET").status == (200 if path == "/api/thresholds" else 405)
    assert guarded.ask(path, token=ADMIN, method="POST", body=body).status in (200, 202)
    assert len(thresholds.asked) == 1


def test_a_threshold_is_set_with_who_and_how_many_parts_would_change(guarded: Site) -> None:
    control = guarded.control.thresholds
    control.now = replace(control.now, score=0.5, peak=None)
    answer = guarded.ask(
        "/api/thresholds",
        token=ADMIN,
        method="POST",
        body=json.dumps({"score": 0.95, "peak": None, "seen": "1"}),
    )
    assert answer.json["now"]["by"] == "administrator"
    assert control.asked[-1] == (
        "set",
        (0.95, None, "1", "administrator", (1, 3)),
    )  # one of three judged was NG
    found = guarded.ask("/api/thresholds", token=VIEWER).json
    assert (found["now"]["score"], found["may_change"]) == (0.95, False)
    assert guarded.ask("/api/thresholds", token=ADMIN).json["may_change"] is True
    assert guarded.ask("/api/scores", token=VIEWER).json["score_threshold"] == 0.95
    assert guarded.ask("/api/state", token=VIEWER).json["thresholds"]["by"] == "administrator"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "must be JSON"),
        ("[1]", "must be JSON"),
        ('{"score": 0.5, "peak": null}', "lacks the key 'seen'"),
        ('{"score": "0.5", "peak": null, "seen": ""}', "score"),
        ('{"score": NaN, "peak": null, "seen": ""}', "score"),
        ('{"score": 1e999, "peak": null, "seen": ""}', "score"),
        ('{"score": 1.5, "peak": null, "seen": ""}', "must lie in 0..1, got 1.5"),
        ('{"score": 0.5, "peak": -1, "seen": ""}', "must lie in 0..1, got -1"),
        ('{"score": 0.5, "peak": null, "seen": "", "path": "/etc"}', "path"),
        ("[" * 4000, "must be JSON"),
    ],
)
def test_a_body_that_is_no_threshold_is_a_sentence(site: Site, body: str, said: str) -> None:
    site.control.thresholds.asked.clear()
    answer = site.ask("/api/thresholds", method="POST", body=body)
    assert answer.status == 422
    assert said in answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert site.control.thresholds.asked == []


def test_whoever_accepts_names_the_proposal_that_was_seen(guarded: Site) -> None:
    thresholds, path = guarded.control.thresholds, "/api/proposal/accept"
    thresholds.asked.clear()
    nameless = guarded.ask(path, token=ADMIN, method="POST", body='{"seen": "1"}')
    assert (nameless.status, thresholds.asked) == (422, [])
    assert "lacks the key 'proposal'" in nameless.json["error"]
    assert guarded.ask(path, token=ADMIN, method="POST", body=json.dumps(CHANGES[path])).status == 200
    assert thresholds.asked == [("accept", ("1", "p1", "administrator"))]


def test_what_the_station_refuses_is_answered_with_its_sentence(site: Site) -> None:
    thresholds = site.control.thresholds
    for error, expected in ((ConflictError("others are in force"), 409), (InputError("is none"), 422)):
        thresholds.refuses = error
        for path in ("/api/thresholds", "/api/thresholds/restore", "/api/proposal/accept"):
            answer = site.ask(path, method="POST", body=json.dumps(CHANGES[path]))
            assert (answer.status, answer.json["error"]) == (expected, str(error))
    thresholds.refuses = None
    assert site.ask("/api/thresholds", method="POST", body="g" * 5000).status == 413


def test_reviews_that_contradict_the_thresholds_are_told_and_a_proposal_is_shown(tmp_path: Path) -> None:
    site = open_site(tmp_path / "evidence")
    try:
        wait_until(lambda: site.ask("/api/review/1", method="POST", body="defect").status == 200, "a review")
        assert "a recalibration is due" in site.ask("/api/thresholds").json["due"]
        assert site.ask("/api/proposal", method="POST").json["proposal"]["words"] == "more"
        assert site.control.thresholds.asked == [("propose", tmp_path / "evidence")]
        assert site.ask("/api/state").json["proposal"]["facts"] == ["a fact"]
        assert site.ask("/api/proposal/drop", method="POST").json["proposal"] is None
    finally:
        site.close()


def test_without_evidence_nothing_is_proposed_and_before_the_engine_nothing_is_set() -> None:
    site = open_site()
    try:
        assert site.ask("/api/proposal", method="POST").status == 404
        site.control.thresholds = None  # type: ignore[assignment]
        assert site.ask("/api/thresholds").json["now"] is None
        assert site.ask("/api/state").json["thresholds"] is None
        assert (
            site.ask("/api/thresholds", method="POST", body=json.dumps(CHANGES["/api/thresholds"])).status
            == 503
        )
    finally:
        site.close()


def test_administrators_have_names_and_tokens_of_their_own(tmp_path: Path) -> None:
    admins = write_token(tmp_path / "admins", f"{ADMIN} Ana Ng\n{'b' * 24} <b>Ben</b>")
    site = open_site(tmp_path / "evidence", admin_token_file=admins)
    try:
        for token, name in ((ADMIN, "Ana Ng"), ("b" * 24, "<b>Ben</b>")):
            assert site.ask("/api/review/2", token=token, method="POST", body="good").status == 200
            found = EvidenceReader(tmp_path / "evidence").record(2)
            assert found is not None
            assert found.reviewed_by == name
        assert site.ask("/api/review/2", token="c" * 24, method="POST", body="good").status == 403
    finally:
        site.close()


def test_tokens_come_from_credentials_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "acl-admin").write_text(f"{ADMIN} Ana\n")
    (folder / "acl-viewer").write_text(VIEWER)
    for name in ("acl-admin", "acl-viewer"):
        (folder / name).chmod(0o440)  # as systemd shows those that it guards by an access list
    options: dict[str, Any] = {"viewer_credential": "acl-viewer", "admin_credential": "acl-admin"}
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(InputError, match="LoadCredential=acl-viewer:FILE"):
        open_output(Options(port=free_port(), **options), Control(), "page")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    site = open_site(**options)
    try:
        assert site.ask("/api/state").status == 401
        assert site.ask("/api/thresholds", token=VIEWER).json["may_change"] is False
        assert site.ask("/api/thresholds", token=ADMIN).json["may_change"] is True
    finally:
        site.close()
    with pytest.raises(InputError, match="cannot be read"):
        open_output(Options(port=free_port(), admin_credential="none"), Control(), "page")


def test_a_browser_logs_in_with_a_cookie_that_no_script_and_no_other_site_gets(guarded: Site) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert guarded.ask("/login", method="POST", body="token=wrong", **form).status == 401
    answer = guarded.ask("/login", method="POST", body=f"token={VIEWER}", **form)
    cookie = answer.headers["set-cookie"]
    assert answer.status == 303
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert guarded.ask("/api/state", Cookie=cookie.partition(";")[0]).status == 200


def test_the_page_is_open_on_this_machine_and_says_how_it_is(site: Site) -> None:
    state = site.ask("/api/state").json
    assert state["schema"] == 1
    assert state["last"]["verdict"] == "ok"
    assert state["status"]["state"] == "running"
    assert state["pictures"] == [2]
    assert (state["thresholds"]["score"], state["thresholds"]["peak"]) == (0.5, None)
    assert state["proposal"] is None
    assert [point[:2] for point in state["trend"]] == [[1, 0], [2, 1], [3, 2], [4, 0]]
    assert site.ask("/healthz").status in (200, 503)


def test_verdicts_are_answered_from_a_number_on_and_in_pieces(site: Site) -> None:
    first = site.ask("/api/verdicts?after=1&limit=2").json
    assert [each["number"] for each in first["verdicts"]] == [2, 3]
    assert first["verdicts"][0]["regions"][0]["width"] == 3
    assert first["verdicts"][1]["reason"] == "late"
    rest = site.ask(f"/api/verdicts?after={first['last']}").json
    assert [each["number"] for each in rest["verdicts"]] == [4]
    assert site.ask("/api/verdicts?after=4").json == {"schema": 1, "verdicts": [], "last": 4}


@pytest.mark.parametrize("after", ["-1", "x", "1" * 30, "%00", "1e3", "٣"])
def test_numbers_that_are_none_are_refused(site: Site, after: str) -> None:
    from urllib.parse import quote

    assert site.ask(f"/api/verdicts?after={quote(after, safe='%')}").status == 422


def test_pictures_are_those_of_the_part(site: Site) -> None:
    answer = site.ask("/api/pictures/2/picture")
    pixels = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (8, 8, 3)
    assert abs(int(pixels[4, 4, 0]) - 2) < 4
    assert site.ask("/api/pictures/99/picture").status == 404
    newest = site.ask("/api/frames/0/overlay")
    assert (newest.headers["X-Part"], newest.headers["X-Verdict"]) == ("4", "ok")


def test_pictures_that_the_page_forgot_come_from_the_evidence(tmp_path: Path) -> None:
    site = open_site(tmp_path / "evidence", keep_ng=1)
    try:
        for number in (5, 6):
            for output in site.outputs:
                output(part(number, "ng"))
        assert site.ask("/api/state").json["pictures"] == [6]
        wait_until(lambda: site.ask("/api/pictures/5/picture").status == 200, "the disk has it")
        answer = site.ask("/api/pictures/5/picture")
        assert answer.headers["content-type"] == "image/png"
        assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)[0, 0, 0] == 5  # type: ignore[index]
        assert site.ask("/api/pictures/5/overlay").headers["content-type"] == "image/jpeg"
        assert site.ask("/api/pictures/7/picture").status == 404
    finally:
        site.close()


@pytest.mark.parametrize(
    "path",
    [
        "/../page_routes.py",
        "/assets/page.html",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/pictures/2/..%2f..%2fetc%2fpasswd",
        "/api/pictures/..%2f2/picture",
        "//etc/passwd",
        "/page.css/../../options.py",
        "/api/pictures/2/picture%00.html",
    ],
)
def test_no_path_leads_out(site: Site, path: str) -> None:
    answer = site.ask(path)
    assert answer.status in (404, 422)
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


@pytest.mark.parametrize("path", [*GETS, "/login", "/healthz", "/none", "/api/verdicts?after=x"])
def test_every_answer_has_the_headers_that_keep_a_browser_safe(site: Site, path: str) -> None:
    headers = site.ask(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["access-control-allow-origin"] is None
    assert headers["server"] is None


def test_another_name_for_this_machine_is_refused(site: Site) -> None:
    for host in (
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "",
        "[::1",
        "127.0.0.1@evil.example",
    ):
        assert site.ask("/api/state", Host=host).status == 421, host
    for host in ("localhost", f"127.0.0.1:{site.port}", "[::1]:80"):
        assert site.ask("/api/state", Host=host).status == 200, host


def test_with_the_administrators_token_alone_others_on_this_machine_may_look_but_not_review(
    tmp_path: Path,
) -> None:
    site = open_site(tmp_path / "evidence", admin_token_file=write_token(tmp_path / "admin", ADMIN))
    try:
        assert site.ask("/api/state").status == 200
        assert site.ask("/api/review/2", method="POST", body="good").status == 403
        assert site.ask("/api/review/2", method="POST", body="good", token=ADMIN).status == 200
        assert site.ask("/api/state", Host="evil.example").status == 421
    finally:
        site.close()


def test_a_page_of_another_site_may_not_post(site: Site) -> None:
    for origin in ("http://evil.example", "null", "http://[", f"http://127.0.0.1:{site.port + 1}"):
        assert site.ask("/api/review/2", method="POST", body="good", Origin=origin).status == 403
    own = f"http://127.0.0.1:{site.port}"
    assert site.ask("/api/review/2", method="POST", body="good", Origin=own).status == 200


def test_what_is_asked_for_is_not_reflected(site: Site) -> None:
    script = "<script>alert(1)</script>"
    from urllib.parse import quote

    for path in (
        f"/{quote(script)}",
        f"/api/verdicts?after={quote(script)}",
        f"/api/pictures/{quote(script)}/picture",
    ):
        assert b"<script" not in site.ask(path).body
    assert site.ask("/login", method="POST", body=f"token={script}").body.count(b"<script") == 0
    assert b"alert" not in site.ask("/").body  # the title is set by the page's script, as text


def test_a_posted_picture_is_judged(site: Site) -> None:
    _, png = cv2.imencode(".png", np.full((5, 7, 3), 90, np.uint8))
    answer = site.ask("/api/inspect", method="POST", body=png.tobytes())
    assert answer.status == 200
    assert answer.json["verdict"] == "ng"
    assert answer.json["score"] == 0.9
    assert ("inspect", (5, 7)) in site.control.asked
    bad = site.ask("/api/inspect", method="POST", body=b"no picture")
    assert bad.status == 422
    assert "posted-" not in bad.json["error"]
    site.control.is_busy = True
    busy = site.ask("/api/inspect", method="POST", body=png.tobytes())
    site.control.is_busy = False
    assert busy.status == 503


def test_a_body_that_is_too_large_is_refused_before_it_is_read(site: Site) -> None:
    with site.raw() as peer:
        peer.sendall(b"POST /api/inspect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        sent = 0
        try:
            for _ in range(64):
                peer.sendall(piece)
                sent += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 40
    assert site.ask("/api/review/2", method="POST", body="g" * 5000).status == 413


def closed_after(peer: socket.socket, most_s: float) -> float:
    """Seconds until the other side ends the connection."""
    began = time.monotonic()
    peer.settimeout(most_s)
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_who_sends_slowly_or_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "PATIENCE_S", 0.4)
    monkeypatch.setattr(page_answers, "BODY_S", 0.3)
    site = open_site()
    try:
        with site.raw() as silent, site.raw() as slow, site.raw() as body:
            slow.sendall(b"GET /api/state HTTP/1.1\r\nHost: local")
            body.sendall(b"POST /api/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nx")
            for peer in (silent, slow, body):
                closed_after(peer, 10)
        assert site.ask("/api/state").status == 200
    finally:
        site.close()


def test_a_browser_that_reads_nothing_is_cut_off_and_the_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_server, "PATIENCE_S", 0.5)
    site = open_site(title="T" * 40_000)
    try:
        with site.raw() as dead, site.raw() as alive:
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for peer in (dead, alive):
                peer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data, number = b"", 4
            until = time.monotonic() + 20
            alive.settimeout(0.05)
            connections = site.page._server._server
            assert connections is not None
            while len(connections.server_state.connections) > 1:
                assert time.monotonic() < until
                for _ in range(20):
                    number += 1
                    site.page(part(number, "ng"))
                try:
                    data = (data + alive.recv(1 << 20))[-20_000:]
                except TimeoutError:
                    continue
            wait_for_number(alive, site, number + 1)
    finally:
        site.close()


def wait_for_number(peer: socket.socket, site: Site, number: int) -> None:
    """Tell of a part and wait until the peer is told."""
    site.page(part(number))
    data, until = b"", time.monotonic() + 20
    while f'"number":{number},'.encode() not in data:
        assert time.monotonic() < until
        try:
            data += peer.recv(1 << 20)
        except TimeoutError:
            continue


def test_a_thousand_connections_neither_stop_it_nor_stay(site: Site) -> None:
    server = site.page._server._server
    assert server is not None
    held, most = server.server_state.connections, 0
    peers = [socket.socket() for _ in range(1000)]
    try:
        for peer in peers:
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", site.port))
            most = max(most, len(held))
        wait_until(lambda: len(held) == page_server.MOST_CONNECTIONS, "as many are held as may be")
        assert most <= page_server.MOST_CONNECTIONS + page_server._BACKLOG
    finally:
        for peer in peers:
            peer.close()
    wait_until(lambda: len(held) < 10, "they are gone")
    assert site.ask("/api/state").status == 200


def test_as_many_watch_as_may() -> None:
    site = open_site(most_clients=2)
    try:
        peers = [site.raw() for _ in range(2)]
        for peer in peers:
            peer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in peer.recv(100)
            wait_for_number(peer, site, 9)
        assert site.ask("/events").status == 503
        peers.pop().close()
        wait_until(lambda: site.ask("/events").status == 200, "there is room again")
        peers.pop().close()
    finally:
        site.close()


def test_telling_costs_the_judging_thread_little_while_twenty_watch(site: Site) -> None:
    peers = [site.raw() for _ in range(20)]
    for peer in peers:
        peer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in peer.recv(100)
    events = [part(number, "ng", side=64) for number in range(100, 1100)]
    began = time.thread_time()
    for event in events:
        site.page(event)
    took_ms = 1000 * (time.thread_time() - began) / len(events)
    for peer in peers:
        peer.close()
    assert took_ms < 0.2
    assert len(site.ask("/api/state").json["pictures"]) == 24
    for event in (part(1), part(2, "ng"), part(3, "not judged"), part(4)):
        site.page(event)


def test_pictures_take_no_more_memory_than_may_be() -> None:
    site = open_site(keep_ng=100, keep_ng_mb=1)
    try:
        for number in range(10, 20):
            site.page(part(number, "ng", side=400))  # 480,000 bytes each
        assert site.ask("/api/state").json["pictures"] == [18, 19]
    finally:
        site.close()


def test_prometheus_reads_metrics_with_names_as_they_are(site: Site) -> None:
    name = 'a"b\\c\n<script>'
    site.page(status("fault", cameras={name: False}, dropped={"mqtt": 7}, faults=("camera away",)))
    text = site.ask("/metrics").body.decode()
    assert 'acl_parts_total{verdict="not_judged"}' in text
    assert 'acl_state{state="fault"} 1.0' in text
    assert 'acl_camera_up{camera="a\\"b\\\\c\\n<script>"} 0.0' in text
    assert 'acl_output_dropped_total{output="mqtt"} 7.0' in text
    assert site.ask("/healthz").status == 503
    site.page(status(dropped={"page": 0}))
    assert site.ask("/healthz").status == 200


def test_the_openapi_document_has_every_address_for_machines(site: Site) -> None:
    paths = site.ask("/api/openapi.json").json["paths"]
    routes = {
        route.path
        for route in page_routes_of(site)
        if route.path.startswith(("/api", "/healthz", "/metrics"))
    }
    assert set(paths) - {"/events"} == routes - {"/api/openapi.json"}


def page_routes_of(site: Site) -> Any:
    return site.page._server._app._app.routes


def test_a_web_shows_the_roll_that_runs() -> None:
    site = open_site()
    try:
        roll = {
            "event": "roll",
            "width": 2000,
            "mm_per_pixel": 0.1,
            "mm_per_line": 0.2,
            "region_threshold": 0.5,
        }
        site.page(WebRecord(number=5, camera="web", roll="R1", record=roll))
        site.page(defect(6))
        site.page(
            WebRecord(
                number=7,
                camera="web",
                roll="R1",
                record={"event": "judged", "first_line": 0, "last_line": 4999},
            )
        )
        found = site.ask("/api/state").json["roll"]
        assert found == {
            "name": "R1",
            "number": 5,
            "metres": 1.0,
            "width_mm": 200.0,
            "mm_per_line": 0.2,
            "last_defect": 6,
        }
        records = site.ask("/api/defects?after=0").json["records"]
        assert [(each["number"], each["record"]["y_mm"]) for each in records] == [(6, 123.4)]
        assert site.ask("/api/pictures/6/overlay").headers["content-type"] == "image/jpeg"
        site.page(WebRecord(number=8, camera="web", roll="R2", record=roll))
        assert site.ask("/api/defects").json["records"] == []
    finally:
        site.close()


def test_the_strip_of_a_web_comes_in_pieces(site: Site) -> None:
    assert site.ask("/api/strip").status == 204  # parts
    site.control.strip = view = begun_strip()
    first = site.ask("/api/strip")
    pixels = cv2.imdecode(np.frombuffer(first.body, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert (pixels.shape, first.headers["X-First"], first.headers["X-Lines"]) == ((100, 10), "0", "1")
    assert abs(int(pixels.mean()) - 200) < 3
    asked = f"/api/strip?strip={first.headers['X-Strip']}&after=10"
    assert (site.ask(asked).status, site.ask(asked).body) == (204, b"")
    view.add(10, np.full((4, 100), 50, np.uint8))
    assert site.ask(asked).headers["X-First"] == "10"
    assert site.ask("/api/strip?after=-1").status == site.ask("/api/strip?strip=x").status == 422
    site.control.strip = None


def test_https_with_a_certificate_and_a_secure_cookie(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    admin = write_token(tmp_path / "admin", ADMIN)
    viewer = write_token(tmp_path / "viewer", VIEWER)
    site = open_site(certificate=certificate, key=key, admin_token_file=admin, viewer_token_file=viewer)
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("localhost", site.port, context=context, timeout=20)
        connection.request("POST", "/login", f"token={ADMIN}")
        assert "secure" in connection.getresponse().headers["set-cookie"].lower()
        connection.close()
    finally:
        site.close()


def refusals(folder: Path) -> dict[str, Callable[[], object]]:
    """What cannot be, by what the message must say."""
    short, same = write_token(folder / "short", "abc"), write_token(folder / "same", ADMIN)
    other, open_to_all = write_token(folder / "other", ADMIN), write_token(folder / "open", VIEWER)
    open_to_all.chmod(0o644)

    def begin(**options: Any) -> LivePage:
        return open_output(Options(port=free_port(), **options), Control(), "page")

    return {
        "can be reached from other machines": lambda: Options(host="0.0.0.0"),
        "viewer_token_file and admin_token_file": lambda: Options(host="::", admin_token_file=same),
        "needs admin_token_file": lambda: Options(viewer_token_file=same),
        "belong together": lambda: Options(certificate=same),
        "letters and digits": lambda: begin(admin_token_file=short),
        "the viewer's token": lambda: begin(admin_token_file=same, viewer_token_file=other),
        "chmod 600": lambda: begin(admin_token_file=open_to_all),
        "cannot be used with": lambda: begin(certificate=same, key=same),
        "port must be": lambda: Options(port=0),
        "name one token twice": lambda: Options(admin_token_file=same, admin_credential="a"),
        "without a folder": lambda: Options(admin_credential="../etc/passwd"),
        "one name or one token": lambda: begin(
            admin_token_file=write_token(folder / "two", f"{ADMIN}\n{VIEWER}")
        ),
    }


def test_an_open_door_is_refused_before_it_opens(tmp_path: Path) -> None:
    for said, begin in refusals(tmp_path).items():
        with pytest.raises(InputError, match=said):
            begin()


def test_a_port_that_is_taken_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "AGAIN_S", 0.05)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        page = open_output(Options(port=other.getsockname()[1]), Control(), "page")
        wait_until(lambda: "cannot listen" in page.problem, "it says so")
        page(part(1))
    wait_until(lambda: not page.problem, "it listens")
    page.close(1)
    assert page.problem == ""
