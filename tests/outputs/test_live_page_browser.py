"""The live page in a real browser: what an operator sees, with keyboard and mouse, on screens of three sizes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from station_events import Control, defect, free_port, part, status, wait_until

pytest.importorskip("uvicorn", reason="the live page needs starlette, uvicorn and prometheus-client")

from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.evidence.store import Options as EvidenceOptions
from acl_runtime.outputs.page.live_page import LivePage, Options, open_output
from acl_runtime.outputs.station import WebRecord
from acl_runtime.outputs.strip_view import StripView

ADMIN, VIEWER = "a" * 24, "v" * 24
EVIL = "<img src=x onerror=window.evil=1><script>window.evil=1</script>"
Shown = tuple[LivePage, Browser, str, EvidenceStore]
ROLL = {"event": "roll", "width": 2000, "mm_per_pixel": 0.1, "mm_per_line": 0.2, "region_threshold": 0.5}
NUMBERS = itertools.count(1000)
SIZES = ((1280, 800), (1024, 768), (390, 844))
SHIFTS = (
    "window.shifts = []; new PerformanceObserver(list => { for (const entry of list.getEntries()) "
    "window.shifts.push(entry.value); }).observe({type: 'layout-shift', buffered: false})"
)
BOXES = (
    "[...document.querySelectorAll('section, h1, h2, canvas, figure, dd, .word, .about, #gallery, #frames img, input')]"
    ".map(node => { const box = node.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; })"
)


def open_page(
    *others: EvidenceStore, strip: StripView | None = None, **options: object
) -> tuple[LivePage, str]:
    port = free_port()
    page = open_output(Options(port=port, **options), Control(strip=strip), "page")  # type: ignore[arg-type]
    page.meet([page, *others])
    wait_until(lambda: not page.problem, "it listens")
    return page, f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def shown(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A page in part mode, with names that are script, in a browser."""
    store = EvidenceStore(EvidenceOptions(folder=tmp_path_factory.mktemp("evidence"), keep_free_gb=0.0))
    page, url = open_page(store, title=EVIL)
    tell_some(page)
    store(part(70, "ng"))
    window.open(url)
    window.wait("document.getElementById('word')?.textContent == 'OK'")
    yield page, window, url, store
    page.close(1)
    store.close(5)


def tell_some(page: LivePage) -> None:
    for number in range(1, 61):
        verdict = "not judged" if number == 50 else "ng" if number % 10 == 0 else "ok"
        page(part(number, verdict, part_id=EVIL if number == 60 else "", side=64))  # type: ignore[arg-type]
    page(part(61, part_id=EVIL, side=64))
    page(
        status(
            judged=60,
            ng=5,
            not_judged=1,
            warnings=(f"{EVIL}: away",),
            cameras={EVIL: True},
            dropped={EVIL: 2},
        )
    )


def test_the_verdict_follows_the_parts_and_is_large(shown: Shown) -> None:
    page, browser, _, _ = shown
    page(part(62, "not judged", side=64))
    browser.wait("document.getElementById('word')?.textContent == 'NOT JUDGED'")
    assert browser.js("document.getElementById('why').textContent") == "late"
    page(part(63, "ng", side=64))
    browser.wait("document.getElementById('word')?.textContent == 'NG'")
    page(part(64, side=64))
    browser.wait("document.getElementById('word')?.textContent == 'OK'")
    for width, height in SIZES:
        browser.resize(width, height)
        size = browser.js("parseFloat(getComputedStyle(document.getElementById('word')).fontSize)")
        assert size >= 80, (width, height)
    browser.resize(1280, 800)


def test_names_that_are_script_are_text_and_nothing_is_loaded_from_elsewhere(shown: Shown) -> None:
    _, browser, url, _ = shown
    browser.wait("document.querySelectorAll('#gallery img').length > 3")
    assert browser.js("document.getElementById('title').textContent") == EVIL
    assert EVIL in browser.js("document.getElementById('notes').textContent")
    assert EVIL in browser.js("document.getElementById('machine').textContent")
    assert browser.js("window.evil") is None
    assert browser.errors == []
    elsewhere = [each for each in browser.requests if not each.startswith((url, f"blob:{url}", "about:"))]
    assert elsewhere == []


def test_the_policy_runs_no_script_that_is_written_into_the_page(shown: Shown) -> None:
    _, browser, _, _ = shown
    browser.js(
        "document.body.insertAdjacentHTML('beforeend', '<i id=probe onclick=\"window.evil=2\">x</i>');"
        "document.getElementById('probe').click()"
    )
    assert browser.js("window.evil") is None
    browser.js("document.getElementById('probe').remove()")
    assert any("Content Security Policy" in each for each in browser.errors)
    browser.errors.clear()


def test_frames_and_gallery_show_pictures(shown: Shown) -> None:
    page, browser, _, _ = shown
    page(part(70, "ng", side=64))
    browser.wait("document.querySelector('#frames figcaption').textContent.includes('part 70, NG')")
    assert browser.wait("document.querySelector('#frames img').naturalWidth") == 64
    assert browser.wait("document.querySelector('#gallery img').naturalWidth") == 64
    browser.wait("document.querySelector('#gallery button').textContent == '#70'")


def test_the_keyboard_opens_a_picture_reviews_it_and_closes_it(shown: Shown) -> None:
    _, browser, _, store = shown
    browser.js("document.querySelector('#gallery button').focus()")
    browser.press("Enter")
    assert browser.wait("document.getElementById('viewer').open")
    browser.js("document.querySelector('[data-mark=good]').focus()")
    browser.press("Enter")
    browser.wait("document.getElementById('reviewed').textContent == 'noted: good'")
    found = EvidenceReader(store.folder).record(70)
    assert found is not None
    assert (found.review, found.reviewed_by) == ("good", "live page")
    browser.press("Escape")
    assert browser.wait("!document.getElementById('viewer').open")


def test_the_line_of_the_histogram_says_how_many_parts_would_change(shown: Shown) -> None:
    page, browser, _, _ = shown
    kept = page.feed.look().parts
    judged = sum(each.score is not None for each in kept)
    browser.wait(f"+document.getElementById('count').textContent == {judged}")
    browser.js("document.getElementById('threshold').focus()")
    for _ in range(3):
        browser.press("ArrowLeft")
    browser.wait("document.getElementById('effect').textContent.startsWith('0 would change')")
    browser.js(
        "document.getElementById('threshold').value = 3; "
        "document.getElementById('threshold').dispatchEvent(new Event('input'))"
    )
    ng = sum(each.verdict == "ng" for each in kept)  # their scores are 0.9, the line is at 0.953
    assert browser.js("document.getElementById('effect').textContent").startswith(
        f"{ng} would change: 0 more NG, {ng} more OK; 0 NG in all."
    )


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_moves_at_30_verdicts_a_second_and_nothing_is_cut_off(
    shown: Shown, width: int, height: int
) -> None:
    page, browser, _, _ = shown
    browser.resize(width, height)
    browser.wait("document.querySelector('#frames img').naturalWidth")
    browser.js("new Promise(done => setTimeout(done, 300))")  # what the resize itself moves
    browser.js(SHIFTS)
    boxes = browser.js(BOXES)
    stop, first = threading.Event(), next(NUMBERS)

    def tell() -> None:
        while not stop.wait(1 / 30):
            number = next(NUMBERS)
            page(part(number, ("ok", "ng", "not judged")[number % 3], part_id="A" * (number % 40), side=64))
            page(status(judged=number * 1000, ng=number, not_judged=number))

    line = threading.Thread(target=tell)
    line.start()
    browser.wait("parseInt(document.getElementById('which').textContent.slice(5)) >= " + str(first + 20))
    stop.set()
    line.join()
    assert browser.js(BOXES) == boxes
    assert sum(browser.js("window.shifts")) < 0.05  # of words inside their boxes; 0.1 is called good
    assert browser.js("document.documentElement.scrollWidth") <= width
    if width > 1000:
        assert browser.js("document.documentElement.scrollHeight") <= height
    browser.resize(1280, 800)


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_what_is_behind_them(shown: Shown, dark: bool) -> None:
    _, browser, _, _ = shown
    browser.resize(1280, 800, dark=dark)
    weak = browser.js(CONTRAST)
    browser.resize(1280, 800)
    assert weak == []


RED = """(name => {
  const map = document.getElementById(name);
  const data = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4) count += data[i] > 150 && data[i + 1] < 90;
  return count;
})('roll-map')"""
WEB_BOXES = (
    "[...document.querySelectorAll('section, h2, canvas, dd, .word, #frames img')]"
    ".map(node => node.getBoundingClientRect()).map(box => [box.x, box.y, box.width, box.height])"
)

CONTRAST = """(() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = color => color.slice(0, 3).map(value => linear(value / 255))
    .reduce((sum, value, index) => sum + value * [.2126, .7152, .0722][index], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = rgb(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const hasText = node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  const seen = [...document.querySelectorAll('header *, section *')].filter(node => node.offsetParent && hasText(node));
  return seen.map(node => {
    const front = light(rgb(getComputedStyle(node).color)), back = light(behind(node));
    return [(Math.max(front, back) + .05) / (Math.min(front, back) + .05), node.id || node.textContent];
  }).filter(([ratio]) => ratio < 4.5);
})()"""


def test_a_station_that_is_silent_is_not_shown_as_ok(window: Browser) -> None:
    browser = window
    page, url = open_page()
    page(part(1))
    page(status())
    browser.open(url)
    try:
        browser.wait("document.getElementById('word')?.textContent == 'OK'")
        page(status("fault", faults=("camera top: is not connected; connect it",)))
        browser.wait("document.getElementById('word')?.textContent == 'FAULT'")
        page(status())
        browser.wait("document.getElementById('word')?.textContent == 'OK'")
        page.close(1)
        browser.wait("document.getElementById('word')?.textContent == 'NO CONNECTION'")
    finally:
        page.close(1)


def test_a_token_opens_the_page_and_a_viewer_cannot_review(window: Browser, tmp_path: Path) -> None:
    browser = window
    files = {"viewer_token_file": VIEWER, "admin_token_file": ADMIN}
    for name, token in files.items():
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    store = EvidenceStore(EvidenceOptions(folder=tmp_path / "evidence", keep_free_gb=0.0))
    tokens: dict[str, Any] = {name: tmp_path / name for name in files}
    page, url = open_page(store, **tokens)
    tell_some(page)
    browser.open(url)
    try:
        browser.wait("location.pathname == '/login' && document.querySelector('input') !== null")
        browser.js(f"document.querySelector('input').value = {VIEWER!r}; document.forms[0].submit()")
        browser.wait("document.getElementById('word')?.textContent == 'OK'")
        browser.wait("document.querySelector('#gallery button') !== null")
        browser.js("document.querySelector('#gallery button').click()")
        browser.js("document.querySelector('[data-mark=good]').click()")
        browser.wait("document.getElementById('reviewed').textContent.includes('administrator')")
        assert VIEWER not in "".join(browser.requests)
    finally:
        store.close(5)
        page.close(1)


def test_a_web_shows_its_roll_and_the_newest_defect(window: Browser) -> None:
    browser = window
    page, url = open_page()
    page(WebRecord(number=1, camera="web", roll=EVIL, record=ROLL))
    page(
        WebRecord(
            number=2, camera="web", roll=EVIL, record={"event": "judged", "first_line": 0, "last_line": 8999}
        )
    )
    page(defect(3))
    page(status(defects=1))
    browser.open(url)
    try:
        browser.wait("document.getElementById('word')?.textContent == '1 DEFECT'")
        assert browser.js("document.getElementById('roll-name').textContent") == EVIL
        assert browser.wait("document.querySelector('#frames img').naturalWidth") == 8
        assert browser.js("getComputedStyle(document.getElementById('trends')).display") == "none"
        assert browser.wait(RED) > 10
        assert [each for each in browser.errors if url in each] == []
    finally:
        page.close(1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_strip_of_a_web_runs_by_with_its_defects_and_nothing_moves(
    window: Browser, width: int, height: int
) -> None:
    browser, view = window, StripView()
    page, url = open_page(strip=view)
    view.begin(2000, lines_per_pixel=0.5)  # rows of 6 lines
    page(WebRecord(number=1, camera="web", roll="R1", record=ROLL))
    numbers, line = itertools.count(2), 0

    def move(lines: int) -> None:
        nonlocal line
        view.add(line, np.full((lines, 2000), 60 + line % 120, np.uint8))
        line += lines
        judged = {"event": "judged", "first_line": line - lines, "last_line": line - 1}
        page(WebRecord(number=next(numbers), camera="web", roll="R1", record=judged))
        page(status(defects=1))

    move(6000)
    page(defect(next(numbers), x_mm=100.0, y_mm=1150.0))
    browser.resize(width, height)
    browser.open(url)
    try:
        browser.wait("document.querySelector('#frames img')?.naturalWidth")
        browser.wait(f"{RED.replace('roll-map', 'strip')} > 20")  # the frame around the defect
        assert browser.js("getComputedStyle(document.getElementById('strip')).display") != "none"
        browser.js(SHIFTS)
        boxes, seen = browser.js(WEB_BOXES), browser.js(STRIP)
        for _ in range(30):
            move(60)
            time.sleep(1 / 30)
        browser.wait(f"{STRIP} != {seen!r}")
        assert browser.js(WEB_BOXES) == boxes
        assert sum(browser.js("window.shifts")) < 0.05
        assert browser.js("document.documentElement.scrollWidth") <= width
        if width > 1000:
            assert browser.js("document.documentElement.scrollHeight") <= height
        assert [each for each in browser.errors if url in each] == []
    finally:
        page.close(1)
        browser.resize(1280, 800)


STRIP = "document.getElementById('strip').toDataURL()"
