"""Who may have what of the page: tokens, the Host and Origin of browsers, and the headers of every answer."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from acl_runtime.outputs.page.options import Tokens

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "acl_token"
ROLE = "acl.role"  # of a scope: "viewer" or "admin"
WHO = "acl.who"  # of a scope: name of the administrator
NOBODY = "live page"  # name of whoever need know no token
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with "no-referrer" a form's Origin is "null"
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_OPEN = ("/healthz", "/login", "/page.css", "/icon.svg")  # need no token
_LOCAL = ("127.0.0.1", "localhost", "::1")


class Guard:
    """An ASGI application that lets through to another what may pass.

    Without tokens only this machine itself reaches the page, and everybody there may everything; with that of the
    administrator alone, everything but review and set thresholds. A web site that a
    browser on this machine shows is not this machine: its name is in Host (a name that it made lead here) or in Origin.
    """

    def __init__(self, app: App, tokens: Tokens, host: str) -> None:
        """Guard `app`; `host` is what it listens on."""
        self._app, self._tokens = app, tokens
        self._hosts = frozenset((*_LOCAL, host)) if tokens.viewer is None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refusal = self._refuse(scope, headers)
        if refusal is None:
            await self._app(scope, receive, send_safely)
        elif refusal[0] == 303:
            await _answer(send_safely, 303, b"", (b"location", b"/login"))
        else:
            body = json.dumps({"schema": 1, "error": refusal[1]}).encode()
            await _answer(send_safely, refusal[0], body, (b"content-type", b"application/json"))

    def _refuse(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """Status and reason; None to let it through, with its role in the scope."""
        host = headers.get(b"host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return 421, "this page answers to the address of this machine only; open it as http://127.0.0.1"
        origin = headers.get(b"origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and _place_of(origin) != host:
            return 403, "a page of another site may not ask for this"
        role, scope[WHO] = self._caller(headers)
        if role is None and scope["path"] not in _OPEN:
            return (
                (303, "")
                if scope["path"] == "/"
                else (401, "a token is needed, as Authorization: Bearer TOKEN")
            )
        scope[ROLE] = role
        return None

    def _caller(self, headers: dict[bytes, str]) -> tuple[str | None, str]:
        if not self._tokens.admins:
            return "admin", NOBODY
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else _cookie(headers.get(b"cookie", ""))
        role, name = caller_of(given, self._tokens)
        return ("viewer" if role is None and self._tokens.viewer is None else role), name


def caller_of(given: str, tokens: Tokens) -> tuple[str | None, str]:
    """What a token allows, and whose it is; all are compared, in constant time."""
    found: tuple[str | None, str] = None, ""
    known = [
        ("viewer", "", tokens.viewer),
        *(("admin", name, token) for name, token in tokens.admins.items()),
    ]
    for role, name, token in known:
        if token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            found = role, name
    return found


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _place_of(origin: str) -> str | None:
    """Host and port in an Origin header; None if it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """The name in a Host header, without its port; empty if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
