"""What people and machines post to the live page: pictures, reviews, thresholds, tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import cast
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from acl_runtime.outputs.evidence.export import contradiction_words
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.record import MARKS, Mark
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.page.guard import COOKIE, ROLE, WHO, caller_of
from acl_runtime.outputs.page.inspect_request import MOST_BYTES, judge_picture
from acl_runtime.outputs.page.page_answers import (
    RefusalError,
    Served,
    do,
    json_answer,
    parse_number,
    read_asset,
    read_body,
)
from acl_runtime.outputs.page.threshold_requests import (
    Accepted,
    Asked,
    Seen,
    now_object,
    proposal_object,
    read_asked,
    set_thresholds,
)
from acl_runtime.outputs.station import ThresholdsControl

_MOST_FORM = 4096


async def _inspect(served: Served, request: Request) -> Response:
    data = await read_body(request, MOST_BYTES)
    return json_answer(await do(partial(judge_picture, data, served.control)))


async def _review(served: Served, request: Request) -> Response:
    number, who = parse_number(request.path_params["number"]), _administrator(request, "reviews")
    evidence = _evidence(served)
    given = (await read_body(request, _MOST_FORM)).decode("utf-8", "replace")
    if given not in MARKS:
        raise RefusalError(422, f"the body must be one of: {', '.join(MARKS)}")
    mark = cast(Mark, given)
    proposal = await do(partial(_note_review, evidence, number, mark, who))
    return json_answer({"number": number, "mark": mark, "proposal": proposal})


def _note_review(store: EvidenceStore, number: int, mark: Mark, who: str) -> str | None:
    """Note it; that reviews contradict the thresholds, if they do."""
    store.review(number, mark, who)
    return what_is_due(store)


def what_is_due(store: EvidenceStore) -> str | None:
    """That reviews contradict the thresholds; None while they do not."""
    return contradiction_words(EvidenceReader(store.folder).contradictions())


async def _set_thresholds(served: Served, request: Request) -> Response:
    who, control = _administrator(request, "thresholds"), _control(served)
    body = await read_body(request, _MOST_FORM)
    parts = served.feed.look().parts
    return json_answer({"now": await do(partial(set_thresholds, body, control, parts, who))})


async def _restore_thresholds(served: Served, request: Request) -> Response:
    who, control = _administrator(request, "thresholds"), _control(served)
    asked = await _asked(Seen, request)
    return json_answer({"now": now_object(await do(partial(control.restore, seen=asked.seen, by=who)))})


async def _propose(served: Served, request: Request) -> Response:
    _administrator(request, "thresholds")
    control, evidence = _control(served), _evidence(served)
    await do(partial(control.propose, evidence.folder))
    return json_answer({"proposal": proposal_object(control.proposal)}, 202)


async def _accept_proposal(served: Served, request: Request) -> Response:
    who, control = _administrator(request, "thresholds"), _control(served)
    asked = await _asked(Accepted, request)
    accept = partial(control.accept, seen=asked.seen, proposal=asked.proposal, by=who)
    return json_answer({"now": now_object(await do(accept))})


async def _drop_proposal(served: Served, request: Request) -> Response:
    _administrator(request, "thresholds")
    await do(_control(served).drop)
    return json_answer({"proposal": None})


def _administrator(request: Request, what: str) -> str:
    """The name of the administrator who asks; who is none is refused."""
    if request.scope[ROLE] != "admin":
        raise RefusalError(403, f"{what} need the administrator's token")
    return str(request.scope[WHO])


def _evidence(served: Served) -> EvidenceStore:
    evidence = served.evidence()
    if evidence is None:
        raise RefusalError(404, "the station keeps no evidence; add an [[output]] of kind evidence")
    return evidence


def _control(served: Served) -> ThresholdsControl:
    if served.control.thresholds is None:
        raise RefusalError(503, "the station judges nothing yet; try again")
    return served.control.thresholds


async def _asked(kind: type[Asked], request: Request) -> Asked:
    body = await read_body(request, _MOST_FORM)
    return await do(partial(read_asked, kind, body))


async def _login(served: Served, request: Request) -> Response:
    fields = parse_qs((await read_body(request, _MOST_FORM)).decode("utf-8", "replace"))
    token = fields.get("token", [""])[0].strip()
    if caller_of(token, served.tokens)[0] is None:
        return Response(read_asset("login.html"), 401, media_type="text/html; charset=utf-8")
    response = RedirectResponse("/", 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


POSTS: Mapping[str, Callable[[Served, Request], Awaitable[Response]]] = {
    "/login": _login,
    "/api/inspect": _inspect,
    "/api/review/{number}": _review,
    "/api/thresholds": _set_thresholds,
    "/api/thresholds/restore": _restore_thresholds,
    "/api/proposal": _propose,
    "/api/proposal/accept": _accept_proposal,
    "/api/proposal/drop": _drop_proposal,
}
