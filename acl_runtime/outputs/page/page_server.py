"""uvicorn in a thread, with connections that are bounded in number and in patience."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from acl_runtime.outputs.page.options import Options

LOG = logging.getLogger("acl")
MOST_CONNECTIONS = 128
PATIENCE_S = 10.0  # with one who sends no whole request, or does not read what he asked for
AGAIN_S = 5.0  # between attempts to listen
_MOST_HEADER = 16_384  # bytes
_BACKLOG = 64  # connections that are taken at a time, before those too many are cut off
_MOST_UNREAD = 131_072  # bytes that the system keeps for one who does not read
_GRACE_S = 1  # for answers that are being sent
_SHUT_S = 5.0


class Connection(H11Protocol):
    """A connection that is cut off where the other side does not do its part."""

    _silence: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _was_idle = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        for timer in (self._silence, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What was sent is not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(PATIENCE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It was read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        """Cut it off if no request is being answered, now and half the patience ago."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._was_idle:
            self.transport.abort()
            return
        self._was_idle = is_idle
        self._silence = self.loop.call_later(PATIENCE_S / 2, self._watch)


class PageServer:
    """Serves until it is stopped; an address that is taken is tried again."""

    def __init__(self, name: str, options: Options, app: Any, beside: Callable[[], Awaitable[None]]) -> None:
        """Start the thread.

        Args:
            name: Of the output.
            options: Where, and with which certificate.
            app: ASGI application.
            beside: Runs in the same thread, until the end.
        """
        self.problem = "does not listen yet"
        self._name, self._options, self._app, self._beside = name, options, app, beside
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name=f"output {name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; what is being sent may take a second."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_SHUT_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                listener = _listen(self._options.host, self._options.port)
            except OSError as error:
                self.problem = (
                    f"cannot listen on {self._options.host} port {self._options.port} ({error.strerror}); "
                    "free it, or name another port"
                )
                LOG.warning("output %s: %s", self._name, self.problem, extra={"again": True})
                self._stopping.wait(AGAIN_S)
                continue
            try:
                asyncio.run(self._serve(listener))
            finally:
                listener.close()
                self.problem = "" if self._stopping.is_set() else "ended by an error; see the log"

    async def _serve(self, listener: socket.socket) -> None:
        config = uvicorn.Config(
            self._app,
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE_S,
            h11_max_incomplete_event_size=_MOST_HEADER,
            ssl_certfile=self._options.certificate,
            ssl_keyfile=self._options.key,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # not what strangers send
        self._server = uvicorn.Server(config)
        beside = asyncio.ensure_future(self._beside())
        self.problem = ""
        try:
            if not self._stopping.is_set():
                await self._server.serve(sockets=[listener])
        finally:
            beside.cancel()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: The address is taken, or none of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_UNREAD)  # also of its connections
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
