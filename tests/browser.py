"""A real browser for tests: Chromium, driven over its debugging port."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 15.0
AT_REST = {"name": "prefers-reduced-motion", "value": "reduce"}  # no colour is looked at on its way


def chromium() -> str:
    """Its path; the test is skipped where it is missing."""
    pytest.importorskip("websockets", reason="websockets is missing: pip install websockets")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("chromium is missing: apt-get install -y --no-install-recommends chromium")
    return path


class Browser:
    """One window; every request that it makes and every error that it logs is kept."""

    def __init__(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        self._closing = ExitStack()
        try:
            self._open(width, height)
            self.resize(width, height, dark=dark)
            self.open(url)
        except BaseException:
            self.close()
            raise

    def _open(self, width: int, height: int) -> None:
        from websockets.sync.client import connect

        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._closing.callback(folder.cleanup)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        options += [f"--user-data-dir={folder.name}", f"--window-size={width},{height}"]
        options += ["--hide-scrollbars", "--disable-component-update", "--disable-background-networking"]
        options += ["--disable-dev-shm-usage"]  # which is small in containers
        self._process = subprocess.Popen(
            [chromium(), *options, "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._closing.callback(self._end)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._number = 0
        with urllib.request.urlopen(f"http://{self._address()}/json/list", timeout=PATIENCE_S) as answer:
            page = next(page for page in json.load(answer) if page["type"] == "page")
        self._socket = self._closing.enter_context(connect(page["webSocketDebuggerUrl"], max_size=None))
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setEmulatedMedia", features=[AT_REST])

    def _address(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"DevTools listening on ws://([^/]+)/", line):
                return found[1]
        raise AssertionError("chromium ended before it listened")

    def open(self, url: str) -> None:
        """Go to an address, once something answers there; what was kept of the one before is forgotten."""
        until = time.monotonic() + PATIENCE_S
        while True:
            self.requests.clear()
            self.errors.clear()
            if not (failed := self.ask("Page.navigate", url=url).get("errorText")):
                return
            assert time.monotonic() < until, f"{url}: {failed}"
            time.sleep(0.05)

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Another screen."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme, AT_REST])

    def ask(self, method: str, **values: object) -> dict[str, Any]:
        """Send a command and wait for its answer; what happened meanwhile is kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": values}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind, values = message.get("method"), message.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif kind == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(values["exceptionDetails"]))

    def js(self, code: str) -> Any:
        """The value of an expression."""
        found = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, code: str, *, within_s: float = PATIENCE_S) -> Any:
        """The value of an expression, once it holds."""
        until = time.monotonic() + within_s
        while not (value := self.js(code)):
            assert time.monotonic() < until, f"waited {within_s:g} s for {code}, {self.errors}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        """A key of the keyboard, such as Tab or Enter."""
        text = {"Enter": {"text": "\r"}}.get(key, {})
        code = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}[key]
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End it."""
        self._closing.close()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
