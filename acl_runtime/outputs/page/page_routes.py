"""The addresses of the live page: what a browser opens, what machines ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any, cast
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from acl_runtime.files.errors import InputError, SourceError, UserError
from acl_runtime.outputs.evidence.export import recalibration_words
from acl_runtime.outputs.evidence.files import Which
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.record import MARKS, Mark
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.page.broadcast import Broadcast
from acl_runtime.outputs.page.drawing import JpegCache
from acl_runtime.outputs.page.feed import Feed, SeenPart
from acl_runtime.outputs.page.guard import COOKIE, ROLE, role_of
from acl_runtime.outputs.page.inspect_request import MOST_BYTES, judge_picture
from acl_runtime.outputs.page.openapi import DOCUMENT
from acl_runtime.outputs.page.options import Tokens
from acl_runtime.outputs.page.page_metrics import metrics_text
from acl_runtime.outputs.page.state import part_object, state_object
from acl_runtime.outputs.station import BusyError, StationControl
from acl_runtime.outputs.station_json import SCHEMA, event_record

BODY_S = 10.0  # longest that a request's body may take
_MOST_ANSWERS = 500
_MOST_FORM = 4096
_MOST_DIGITS = 18
_SILENCE_S = 15.0  # after which a comment shows that the connection lives
_STALE_S = 5.0  # a station tells its state each second
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
_ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/login": ("login.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the routes answer from.

    Attributes:
        title: Of the page.
        feed: Of the station.
        broadcast: To browsers that watch.
        tokens: For those who log in.
        control: Of the station.
        evidence: The store; None without one.
        draw: Makes JPEGs.
        work: Its thread.
    """

    title: str
    feed: Feed
    broadcast: Broadcast
    tokens: Tokens
    control: StationControl
    evidence: Callable[[], EvidenceStore | None]
    draw: JpegCache
    work: Executor


class RefusalError(Exception):
    """An answer that is an error: its status and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def make_app(served: Served) -> Starlette:
    """All routes; see `openapi.py`."""
    routes = [Route(path, partial(_asset, *asset), methods=["GET"]) for path, asset in _ASSETS.items()]
    gets: dict[str, Callable[[Served, Request], Awaitable[Response]]] = {
        "/events": _events,
        "/healthz": _health,
        "/metrics": _metrics,
        "/api/openapi.json": _openapi,
        "/api/state": _state,
        "/api/verdicts": _verdicts,
        "/api/defects": _defects,
        "/api/scores": _scores,
        "/api/pictures/{number}/{which}": _picture,
        "/api/frames/{camera}/{which}": _frame,
    }
    posts: dict[str, Callable[[Served, Request], Awaitable[Response]]] = {
        "/login": _login,
        "/api/inspect": _inspect,
        "/api/review/{number}": _review,
    }
    routes += [Route(path, partial(answer, served), methods=["GET"]) for path, answer in gets.items()]
    routes += [Route(path, partial(answer, served), methods=["POST"]) for path, answer in posts.items()]
    return Starlette(routes=routes, exception_handlers={RefusalError: _refuse, 404: _unknown, 405: _unknown})


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    headers = (
        {"connection": "close"} if error.status in (408, 413) else None
    )  # the rest of a body is not read
    return _json({"error": str(error)}, error.status, headers)


async def _unknown(request: Request, error: Exception) -> Response:
    return _json(
        {"error": "there is no such address; see /api/openapi.json"}, getattr(error, "status_code", 404)
    )


def _json(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"schema": SCHEMA, **content}, status, headers)


@lru_cache
def _read_asset(name: str) -> bytes:
    return (files("acl_runtime.outputs.page") / "assets" / name).read_bytes()


async def _asset(name: str, media_type: str, request: Request) -> Response:
    return Response(_read_asset(name), media_type=media_type)


def _state_of(served: Served) -> dict[str, Any]:
    return state_object(served.feed.look(), title=served.title, reviews=served.evidence() is not None)


async def _state(served: Served, request: Request) -> Response:
    return JSONResponse(_state_of(served))


async def _events(served: Served, request: Request) -> Response:
    if served.broadcast.is_full:
        raise RefusalError(503, "as many browsers watch as may; close one")

    async def body() -> AsyncIterator[bytes]:
        if served.broadcast.is_full:  # others came first
            return
        with served.broadcast.watch() as listener:
            while True:
                try:
                    text = await asyncio.wait_for(listener.next(), _SILENCE_S)
                except asyncio.TimeoutError:
                    yield b": still here\n\n"
                    continue
                if text is None:
                    return
                yield b"data: " + text + b"\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def _health(served: Served, request: Request) -> Response:
    scene = served.feed.look()
    state = "starting" if scene.status is None else scene.status.state
    is_well = state in ("ready", "running") and scene.status_age_s < _STALE_S
    return _json({"state": state, "age_s": round(scene.status_age_s, 1)}, 200 if is_well else 503)


async def _metrics(served: Served, request: Request) -> Response:
    return Response(metrics_text(served.feed), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(served: Served, request: Request) -> Response:
    return JSONResponse(DOCUMENT)


async def _verdicts(served: Served, request: Request) -> Response:
    after, limit = _after(request)
    parts = served.feed.parts_after(after, limit)
    last = parts[-1].number if parts else after
    return _json({"verdicts": [part_object(part) for part in parts], "last": last})


async def _defects(served: Served, request: Request) -> Response:
    after, limit = _after(request)
    records = served.feed.records_after(after, limit)
    last = records[-1].number if records else after
    return _json({"records": [event_record(record) for record in records], "last": last})


async def _scores(served: Served, request: Request) -> Response:
    judged = [part for part in served.feed.look().parts if part.score is not None]
    newest = judged[-1] if judged else None
    return _json(
        {
            "score": [part.score for part in judged],
            "peak": [part.peak for part in judged],
            "score_threshold": None if newest is None else newest.threshold,
            "peak_threshold": None if newest is None else newest.peak_threshold,
        }
    )


async def _picture(served: Served, request: Request) -> Response:
    number, which = _number(request.path_params["number"]), _which(request.path_params["which"])
    kept, evidence = served.feed.picture(number), served.evidence()
    loop = asyncio.get_running_loop()
    if kept is not None:
        data = await loop.run_in_executor(served.work, served.draw, kept, which)
        return Response(data, media_type="image/jpeg")
    found = (
        None
        if evidence is None
        else await loop.run_in_executor(None, _read_evidence, evidence, number, which)
    )
    if found is None:
        raise RefusalError(404, "there is no picture of this number any more")
    return Response(found[0], media_type=found[1])


async def _frame(served: Served, request: Request) -> Response:
    camera, which = _number(request.path_params["camera"]), _which(request.path_params["which"])
    found = served.feed.newest(camera)
    if found is None:
        raise RefusalError(404, "no such camera gave a frame that was judged")
    part, picture = found
    data = await asyncio.get_running_loop().run_in_executor(served.work, served.draw, picture, which)
    return Response(data, media_type="image/jpeg", headers=_about(part))


def _about(part: SeenPart) -> dict[str, str]:
    return {"X-Part": str(part.number), "X-Verdict": part.verdict}


def _read_evidence(store: EvidenceStore, number: int, which: Which) -> tuple[bytes, str] | None:
    try:
        path = EvidenceReader(store.folder).picture_path(number, which)
        return None if path is None else (path.read_bytes(), _MEDIA_TYPES[path.suffix])
    except (InputError, FileNotFoundError):  # there is no index (yet), or the store made room just now
        return None


async def _inspect(served: Served, request: Request) -> Response:
    data = await _body(request, MOST_BYTES)
    work = asyncio.get_running_loop().run_in_executor(None, judge_picture, data, served.control)
    try:
        return _json(await work)
    except BusyError as error:
        raise RefusalError(503, str(error)) from error
    except UserError as error:
        raise RefusalError(422, str(error)) from error


async def _review(served: Served, request: Request) -> Response:
    number = _number(request.path_params["number"])
    if request.scope[ROLE] != "admin":
        raise RefusalError(403, "reviews need the administrator's token")
    evidence = served.evidence()
    if evidence is None:
        raise RefusalError(404, "the station keeps no evidence; add an [[output]] of kind evidence")
    given = (await _body(request, _MOST_FORM)).decode("utf-8", "replace")
    if given not in MARKS:
        raise RefusalError(422, f"the body must be one of: {', '.join(MARKS)}")
    mark = cast(Mark, given)
    review = partial(_note_review, evidence, number, mark)
    try:
        proposal = await asyncio.get_running_loop().run_in_executor(None, review)
    except SourceError as error:
        raise RefusalError(503, str(error)) from error
    except UserError as error:
        raise RefusalError(422, str(error)) from error
    return _json({"number": number, "mark": mark, "proposal": proposal})


def _note_review(store: EvidenceStore, number: int, mark: Mark) -> str | None:
    """Note it; what to do about the thresholds, if reviews contradict them."""
    store.review(number, mark, "live page")
    return recalibration_words(EvidenceReader(store.folder).contradictions(), store.folder)


async def _login(served: Served, request: Request) -> Response:
    fields = parse_qs((await _body(request, _MOST_FORM)).decode("utf-8", "replace"))
    token = fields.get("token", [""])[0].strip()
    if role_of(token, served.tokens) is None:
        return Response(_read_asset("login.html"), 401, media_type="text/html; charset=utf-8")
    response = RedirectResponse("/", 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


async def _body(request: Request, most: int) -> bytes:
    """The body, if it is no larger and comes in time."""

    async def read() -> bytes:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                raise RefusalError(413, f"the body must have {most} bytes at most")
        return bytes(data)

    try:
        return await asyncio.wait_for(read(), BODY_S)
    except asyncio.TimeoutError as error:
        raise RefusalError(408, f"the body must come within {BODY_S:g} s") from error
    except ClientDisconnect as error:
        raise RefusalError(400, "the body ended early") from error


def _after(request: Request) -> tuple[int, int]:
    query = request.query_params
    limit = _number(query.get("limit", str(_MOST_ANSWERS)))
    return _number(query.get("after", "0")), min(max(limit, 1), _MOST_ANSWERS)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise RefusalError(422, "numbers are whole and not negative")
    return int(text)


def _which(text: str) -> Which:
    if text == "overlay":
        return "overlay"
    if text == "picture":
        return "picture"
    raise RefusalError(404, "there is a picture and an overlay")
