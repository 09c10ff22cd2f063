"""The road of a review through a real browser: from ten wrong rejects to thresholds with a promise, and back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Browser, chromium
from graphs import write_tiny_bundle
from station_events import free_port
from stations import PushedCamera, load, wait_until

pytest.importorskip("uvicorn", reason="the live page needs starlette, uvicorn and prometheus-client")

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.inspection.station import proposal
from acl_runtime.inspection.station.service import Station
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.scoring.rule import Rule, bundle_rule

VIEWER, ADMIN = "v" * 24, "a" * 24
PARTS, WRONG = 60, 10
STATION = """
[[camera]]
name = "top"
source = "drawn:1"
deadline_ms = 20000
[[output]]
kind = "evidence"
folder = "evidence"
sample_every = 1
most_waiting = 100
keep_free_gb = 0.0
[[output]]
kind = "page"
port = {port}
viewer_token_file = "viewer.token"
admin_token_file = "admin.token"
"""


@dataclass
class Line:
    """A station that runs, with its page in a browser."""

    station: Station
    camera: PushedCamera
    browser: Browser
    url: str
    folder: Path

    @property
    def rule(self) -> Rule:
        return bundle_rule(load_bundle(self.folder / "bundle").manifest.calibration)

    def judge_one(self) -> Rule:
        """The rule that the next part is judged by."""
        before = self.newest()
        self.camera.push()
        wait_until(lambda: self.newest() > before, "the part is written")
        record = EvidenceReader(self.folder / "evidence").record(self.newest())
        assert record is not None
        assert record.threshold is not None
        return Rule(record.threshold, record.peak_threshold)

    def newest(self) -> int:
        return EvidenceReader(self.folder / "evidence").records(limit=1)[0].number

    def log_in(self, token: str) -> None:
        self.browser.open(f"{self.url}/login")
        self.browser.wait("location.pathname == '/login' && document.querySelector('input') !== null")
        self.browser.js(f"document.querySelector('input').value = {token!r}; document.forms[0].submit()")
        self.browser.wait("document.querySelectorAll('#gallery button').length > 0")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    chromium()
    folder, port = tmp_path_factory.mktemp("road"), free_port()
    bundle = write_tiny_bundle(folder / "bundle")
    for name, text in (("viewer.token", VIEWER), ("admin.token", f"{ADMIN} Ana")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    camera, stop = PushedCamera(), threading.Event()
    station = Station(load(folder, bundle, STATION.format(port=port)), open_source=camera.open)
    thread = threading.Thread(target=station.run, args=(stop.is_set, lambda: False))
    thread.start()
    for _ in range(PARTS):
        camera.push()
    browser = Browser("about:blank")
    wait_until(lambda: station.status().judged == PARTS, "all are judged")
    yield Line(station, camera, browser, f"http://127.0.0.1:{port}", folder)
    browser.close()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def texts(browser: Browser, *names: str) -> list[str]:
    return [str(browser.js(f"document.getElementById('{name}').textContent")) for name in names]


def click(browser: Browser, name: str) -> None:
    browser.wait(f"document.getElementById('{name}').disabled === false")
    browser.js(f"document.getElementById('{name}').click()")


def test_ten_wrong_rejects_become_thresholds_that_are_accepted_and_taken_back(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposal, "NICENESS", 0)  # other tests would have the processor first
    browser, before = line.browser, line.rule
    line.log_in(ADMIN)
    browser.wait(f"document.querySelectorAll('#gallery li:not([hidden])').length >= {WRONG}")
    for index in range(WRONG):
        browser.js(f"document.querySelectorAll('#gallery button')[{index}].click()")
        browser.js("document.querySelector('[data-mark=good]').click()")
        browser.wait("document.getElementById('reviewed').textContent.startsWith('noted: good')")
        if index < WRONG - 1:
            assert browser.js("document.getElementById('contradicted').hidden")
            browser.js("document.getElementById('close').click()")
    assert (
        "10 of 10 reviewed rejects were good parts: a recalibration is due" in texts(browser, "reviewed")[0]
    )
    browser.js("document.getElementById('contradicted').click()")
    browser.wait("document.getElementById('thresholds').open")
    assert "a recalibration is due" in texts(browser, "due")[0]
    click(browser, "propose")
    is_ready = "!document.getElementById('accept').hidden && !document.getElementById('accept').disabled"
    browser.wait(is_ready, within_s=120)
    promise, facts = texts(browser, "proposal", "facts")
    assert "good images" in promise
    assert "of good parts are rejected, at 95 % confidence" in promise
    assert "from 10 parts reviewed as good" in facts
    assert "nobody reviewed them: good ones among them are missing" in facts
    assert line.rule == before == line.judge_one()  # nothing is in force yet
    click(browser, "accept")
    browser.wait("document.getElementById('answer').textContent == 'done'")
    accepted = line.rule
    assert accepted != before
    assert texts(browser, "statement")[0] in promise
    assert line.judge_one() == accepted
    click(browser, "restore")
    browser.wait("document.getElementById('statement').textContent.startsWith('The default')")
    assert line.rule == before == line.judge_one()
    changes = [
        json.loads(each) for each in (line.folder / "evidence" / "thresholds.jsonl").read_text().splitlines()
    ]
    assert [(each["how"], each["by"]) for each in changes] == [
        ("measured anew", "Ana"),
        ("taken back", "Ana"),
    ]
    review = EvidenceReader(line.folder / "evidence").records(review="good")
    assert {each.reviewed_by for each in review} == {"Ana"}
    assert browser.errors == []


def test_the_line_of_the_histogram_becomes_a_threshold_with_name_and_without_promise(line: Line) -> None:
    browser, before = line.browser, line.rule
    line.log_in(ADMIN)
    browser.wait("+document.getElementById('count').textContent >= 60")
    move = (
        "document.getElementById('threshold').value = 3; "
        "document.getElementById('threshold').dispatchEvent(new Event('input'))"
    )
    browser.js(move)
    effect = texts(browser, "effect")[0]
    browser.js("document.getElementById('open-thresholds').click()")
    browser.wait("document.getElementById('thresholds').open")
    wanted = texts(browser, "wanted")[0]
    assert effect in wanted
    assert "Nothing is promised" in wanted
    browser.js("document.getElementById('set').focus()")
    browser.press("Enter")
    browser.wait("document.getElementById('answer').textContent == 'done'")
    assert line.rule.score_threshold == pytest.approx(0.9526, abs=1e-3)
    assert line.judge_one() == line.rule
    (statement,) = texts(browser, "statement")
    assert statement.startswith("Set by hand on ")
    assert "by Ana, no promise" in statement
    assert (
        effect.partition(" ")[0]
        == statement.partition("parts would")[0].rpartition(": ")[2].partition(" ")[0]
    )
    browser.press("Escape")
    browser.wait("!document.getElementById('thresholds').open")
    browser.wait("document.getElementById('effect').textContent.includes('no promise')")
    browser.js(move)
    browser.js("document.getElementById('open-thresholds').click()")
    browser.wait("document.getElementById('wanted').textContent.startsWith('NG from')")
    click(browser, "restore")
    browser.wait("document.getElementById('statement').textContent.startsWith('The default')")
    assert texts(browser, "wanted") == ["Move the line of the histogram first."]  # its effect was on others
    assert line.rule == before


def test_who_comes_second_is_told_in_the_browser(line: Line) -> None:
    browser = line.browser
    line.log_in(ADMIN)
    browser.js("document.getElementById('open-thresholds').click()")
    browser.wait("document.getElementById('thresholds').open")
    answer = browser.js(
        "fetch('/api/thresholds', { method: 'POST', body: JSON.stringify({ score: 0.9, peak: null, seen: 'old' }) })"
        ".then(answer => answer.json()).then(found => found.error)"
    )
    assert "other thresholds are in force by now" in answer


def test_a_viewer_sees_the_promise_and_cannot_change_it(line: Line) -> None:
    browser, before = line.browser, line.rule
    line.log_in(VIEWER)
    browser.js("document.getElementById('open-thresholds').click()")
    browser.wait("document.getElementById('thresholds').open")
    assert texts(browser, "fixed") == ["Changes need the administrator's token."]
    assert not browser.js("document.getElementById('as-administrator').hidden")
    assert browser.js("[...document.querySelectorAll('#thresholds .changes')].every(each => each.disabled)")
    refused = "fetch('/api/thresholds/restore', { method: 'POST', body: '{\"seen\": \"\"}' }).then(each => each.status)"
    assert browser.js(refused) == 403
    assert line.rule == before
