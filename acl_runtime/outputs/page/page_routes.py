"""The addresses of the live page: what a browser opens, what machines ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.evidence.files import Which
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.page.drawing import encode_strip
from acl_runtime.outputs.page.feed import SeenPart
from acl_runtime.outputs.page.guard import ROLE
from acl_runtime.outputs.page.openapi import DOCUMENT
from acl_runtime.outputs.page.page_answers import (
    RefusalError,
    Served,
    do,
    json_answer,
    parse_number,
    read_asset,
    refuse,
)
from acl_runtime.outputs.page.page_metrics import metrics_text
from acl_runtime.outputs.page.page_posts import POSTS, what_is_due
from acl_runtime.outputs.page.state import part_object, state_object
from acl_runtime.outputs.station_json import event_record

_MOST_ANSWERS = 500
_SILENCE_S = 15.0  # after which a comment shows that the connection lives
_STALE_S = 5.0  # a station tells its state each second
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
_ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/login": ("login.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/strip.js": ("strip.js", "text/javascript; charset=utf-8"),
    "/thresholds.js": ("thresholds.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


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
        "/api/strip": _strip,
        "/api/thresholds": _thresholds,
        "/api/pictures/{number}/{which}": _picture,
        "/api/frames/{camera}/{which}": _frame,
    }
    routes += [Route(path, partial(answer, served), methods=["GET"]) for path, answer in gets.items()]
    routes += [Route(path, partial(answer, served), methods=["POST"]) for path, answer in POSTS.items()]
    return Starlette(routes=routes, exception_handlers={RefusalError: refuse, 404: _unknown, 405: _unknown})


async def _unknown(request: Request, error: Exception) -> Response:
    return json_answer(
        {"error": "there is no such address; see /api/openapi.json"}, getattr(error, "status_code", 404)
    )


async def _asset(name: str, media_type: str, request: Request) -> Response:
    return Response(read_asset(name), media_type=media_type)


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
    return json_answer({"state": state, "age_s": round(scene.status_age_s, 1)}, 200 if is_well else 503)


async def _metrics(served: Served, request: Request) -> Response:
    return Response(metrics_text(served.feed), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(served: Served, request: Request) -> Response:
    return JSONResponse(DOCUMENT)


async def _verdicts(served: Served, request: Request) -> Response:
    after, limit = _after(request)
    parts = served.feed.parts_after(after, limit)
    last = parts[-1].number if parts else after
    return json_answer({"verdicts": [part_object(part) for part in parts], "last": last})


async def _defects(served: Served, request: Request) -> Response:
    after, limit = _after(request)
    records = served.feed.records_after(after, limit)
    last = records[-1].number if records else after
    return json_answer({"records": [event_record(record) for record in records], "last": last})


async def _scores(served: Served, request: Request) -> Response:
    judged = [part for part in served.feed.look().parts if part.score is not None]
    thresholds = served.control.thresholds
    return json_answer(
        {
            "score": [part.score for part in judged],
            "peak": [part.peak for part in judged],
            "score_threshold": None if thresholds is None else thresholds.now.score,
            "peak_threshold": None if thresholds is None else thresholds.now.peak,
        }
    )


async def _picture(served: Served, request: Request) -> Response:
    number, which = parse_number(request.path_params["number"]), _which(request.path_params["which"])
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
    camera, which = parse_number(request.path_params["camera"]), _which(request.path_params["which"])
    found = served.feed.newest(camera)
    if found is None:
        raise RefusalError(404, "no such camera gave a frame that was judged")
    part, picture = found
    data = await asyncio.get_running_loop().run_in_executor(served.work, served.draw, picture, which)
    return Response(data, media_type="image/jpeg", headers=_about(part))


async def _strip(served: Served, request: Request) -> Response:
    query, view = request.query_params, served.control.strip
    strip, after = parse_number(query.get("strip", "0")), parse_number(query.get("after", "0"))
    if view is None:  # parts
        return Response(status_code=204)
    piece = view.after(strip, after)
    about = {"X-Strip": piece.strip, "X-First": piece.first, "X-Lines": piece.lines_per_row}
    headers = {name: str(value) for name, value in about.items()}
    if not len(piece.rows):
        return Response(status_code=204, headers=headers)
    data = await asyncio.get_running_loop().run_in_executor(served.work, encode_strip, piece.rows)
    return Response(data, media_type="image/jpeg", headers=headers)


def _about(part: SeenPart) -> dict[str, str]:
    return {"X-Part": str(part.number), "X-Verdict": part.verdict}


def _read_evidence(store: EvidenceStore, number: int, which: Which) -> tuple[bytes, str] | None:
    try:
        path = EvidenceReader(store.folder).picture_path(number, which)
        return None if path is None else (path.read_bytes(), _MEDIA_TYPES[path.suffix])
    except (InputError, FileNotFoundError):  # there is no index (yet), or the store made room just now
        return None


def _state_of(served: Served) -> dict[str, Any]:
    return state_object(
        served.feed.look(),
        title=served.title,
        reviews=served.evidence() is not None,
        thresholds=served.control.thresholds,
    )


async def _thresholds(served: Served, request: Request) -> Response:
    evidence = served.evidence()
    try:
        due = None if evidence is None else await do(partial(what_is_due, evidence))
    except RefusalError:  # there is no index yet
        due = None
    state = _state_of(served)
    return json_answer(
        {
            "now": state["thresholds"],
            "proposal": state["proposal"],
            "due": due,
            "may_change": request.scope[ROLE] == "admin",
        }
    )


def _after(request: Request) -> tuple[int, int]:
    query = request.query_params
    limit = parse_number(query.get("limit", str(_MOST_ANSWERS)))
    return parse_number(query.get("after", "0")), min(max(limit, 1), _MOST_ANSWERS)


def _which(text: str) -> Which:
    if text == "overlay":
        return "overlay"
    if text == "picture":
        return "picture"
    raise RefusalError(404, "there is a picture and an overlay")
