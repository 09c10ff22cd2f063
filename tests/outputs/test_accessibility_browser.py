"""The live page under axe-core, with its dialogs open, light and dark, and with the keyboard alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from browser import Browser
from station_events import Control, defect, free_port, part, status, wait_until

pytest.importorskip("uvicorn", reason="the live page needs starlette, uvicorn and prometheus-client")
pytest.importorskip("axe_core_python", reason="axe-core is missing: pip install axe-core-python")

from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.evidence.store import Options as EvidenceOptions
from acl_runtime.outputs.page.live_page import Options, open_output
from acl_runtime.outputs.station import Proposal, WebRecord
from acl_runtime.outputs.strip_view import StripView

AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
FAULTS = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify(found.violations.map(each => "
    "[each.id, each.help, each.nodes.map(node => node.html)])))"
)
ROLL = {"event": "roll", "width": 2000, "mm_per_pixel": 0.1, "mm_per_line": 0.2, "region_threshold": 0.5}


@pytest.fixture(scope="module")
def shown(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A page in part mode with everything on it."""
    control, port = Control(), free_port()
    control.thresholds.proposal = Proposal(
        state="ready", words="a promise", score=0.7, peak=0.6, facts=("a fact",)
    )
    store = EvidenceStore(EvidenceOptions(folder=tmp_path_factory.mktemp("axe"), keep_free_gb=0.0))
    page = open_output(Options(port=port, title="line 1"), control, "page")
    page.meet([page, store])
    wait_until(lambda: not page.problem, "it listens")
    for number in range(1, 41):
        page(part(number, ("ok", "ng", "not judged")[number % 3], side=32))
    page(status(judged=40, ng=13, not_judged=13, warnings=("plc: away",), dropped={"page": 0, "plc": 3}))
    window.open(f"http://127.0.0.1:{port}/")
    window.wait(
        "document.querySelectorAll('#gallery img').length > 3 && +document.getElementById('count').textContent > 9"
    )
    yield window
    page.close(1)
    store.close(5)


def faults(browser: Browser) -> list[Any]:
    browser.ask("Runtime.evaluate", expression=AXE)
    return list(json.loads(browser.js(FAULTS)))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1024, True), (390, False)])
def test_axe_finds_no_fault_on_the_page_and_in_its_dialogs(shown: Browser, width: int, dark: bool) -> None:
    shown.resize(width, 800, dark=dark)
    assert faults(shown) == []
    for opens, dialog in (("open-thresholds", "thresholds"), ("", "viewer")):
        opener = (
            f"document.getElementById('{opens}')" if opens else "document.querySelector('#gallery button')"
        )
        shown.js(f"{opener}.click()")
        shown.wait(f"document.getElementById('{dialog}').open")
        assert faults(shown) == [], dialog
        shown.press("Escape")
        shown.wait(f"!document.getElementById('{dialog}').open")


def test_axe_finds_a_fault_that_is_there(shown: Browser) -> None:
    shown.js("document.querySelector('#gallery img').removeAttribute('alt')")
    assert [each[0] for each in faults(shown)] == ["image-alt"]
    shown.js("document.querySelector('#gallery img').alt = ''")


def test_axe_finds_no_fault_where_a_token_is_asked_for(shown: Browser) -> None:
    address = shown.js("location.origin")
    shown.open(f"{address}/login")
    shown.wait("document.querySelector('input[type=password]') !== null")
    assert faults(shown) == []
    shown.open(address)
    shown.wait("document.querySelectorAll('#gallery img').length > 3")


def test_tab_reaches_everything_that_can_be_clicked_in_its_order_and_shows_where_it_is(
    shown: Browser,
) -> None:
    shown.resize(1280, 800)
    shown.js("document.activeElement.blur()")
    seen: list[str] = []
    for _ in range(60):
        shown.press("Tab")
        name = shown.js(
            "(node => node === document.body ? '' : node.id || node.value || node.textContent)(document.activeElement)"
        )
        if not name or name in seen:
            break
        seen.append(str(name))
        assert shown.js("getComputedStyle(document.activeElement).outlineStyle") != "none", name
    assert seen[:4] == ["bare", "#40", "#37", "#34"]
    assert seen[-3:] == ["score", "open-thresholds", "threshold"]
    shown.js("document.getElementById('open-thresholds').focus()")
    shown.press("Enter")
    shown.wait("document.getElementById('thresholds').open")
    reached = set()
    for _ in range(12):
        shown.press("Tab")
        reached.add(shown.js("document.activeElement.id"))
    assert {
        "thresholds-close",
        "restore",
        "propose",
        "accept",
        "drop",
    } <= reached  # "set" once the line was moved
    assert not reached & {"bare", "threshold"}  # what is behind the dialog
    shown.press("Escape")
    shown.wait("document.activeElement.id === 'open-thresholds'")


def test_axe_finds_no_fault_on_a_web(window: Browser, shown: Browser) -> None:
    view, port = StripView(), free_port()
    page = open_output(Options(port=port, title="line 1"), Control(strip=view), "page")
    wait_until(lambda: not page.problem, "it listens")
    view.begin(2000, lines_per_pixel=0.5)
    view.add(0, np.full((600, 2000), 90, np.uint8))
    page(WebRecord(number=1, camera="web", roll="R1", record=ROLL))
    page(defect(2))
    page(status(defects=1))
    window.open(f"http://127.0.0.1:{port}/")
    try:
        window.wait("document.getElementById('word')?.textContent == '1 DEFECT'")
        window.wait("document.querySelector('#frames img')?.naturalWidth")
        assert faults(window) == []
    finally:
        page.close(1)
