"""What all answers of the live page need: what they are made from, bodies that are bounded, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from acl_runtime.files.errors import SourceError, UserError
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.page.broadcast import Broadcast
from acl_runtime.outputs.page.drawing import JpegCache
from acl_runtime.outputs.page.feed import Feed
from acl_runtime.outputs.page.options import Tokens
from acl_runtime.outputs.station import BusyError, ConflictError, StationControl
from acl_runtime.outputs.station_json import SCHEMA

Answer = TypeVar("Answer")

BODY_S = 10.0  # longest that a request's body may take
_MOST_DIGITS = 18


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


async def refuse(request: Request, error: Exception) -> Response:
    """The answer that says why not."""
    assert isinstance(error, RefusalError)
    headers = (
        {"connection": "close"} if error.status in (408, 413) else None
    )  # the rest of a body is not read
    return json_answer({"error": str(error)}, error.status, headers)


@lru_cache
def read_asset(name: str) -> bytes:
    """A file of the page itself."""
    return (files("acl_runtime.outputs.page") / "assets" / name).read_bytes()


def json_answer(
    content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An object with the schema's number."""
    return JSONResponse({"schema": SCHEMA, **content}, status, headers)


async def read_body(request: Request, most: int) -> bytes:
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


async def do(work: Callable[[], Answer]) -> Answer:
    """What a function gives in a thread of its own; what a user can mend is an answer with the reason."""
    try:
        return await asyncio.get_running_loop().run_in_executor(None, work)
    except (SourceError, BusyError) as error:
        raise RefusalError(503, str(error)) from error
    except ConflictError as error:
        raise RefusalError(409, str(error)) from error
    except UserError as error:
        raise RefusalError(422, str(error)) from error


def parse_number(text: str) -> int:
    """A number of an address; one that is none is refused."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise RefusalError(422, "numbers are whole and not negative")
    return int(text)
