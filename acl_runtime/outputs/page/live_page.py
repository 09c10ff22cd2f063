"""The live page of a station: what an operator reads from three metres, and what machines ask for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from acl_runtime.files.errors import BackendError
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.page.drawing import JpegCache
from acl_runtime.outputs.page.feed import Feed
from acl_runtime.outputs.page.guard import Guard
from acl_runtime.outputs.page.options import Options, check_certificate, read_tokens
from acl_runtime.outputs.page.state import state_object
from acl_runtime.outputs.station import StationControl, StationEvent, StationOutput

try:
    from acl_runtime.outputs.page.broadcast import Broadcast
    from acl_runtime.outputs.page.page_answers import Served
    from acl_runtime.outputs.page.page_routes import make_app
    from acl_runtime.outputs.page.page_server import PageServer
except ImportError as error:
    raise BackendError(
        f"the live page needs starlette, uvicorn and prometheus-client ({error}); in the checkout: "
        "pip install -e '.[serve]'"
    ) from error

__all__ = ["LivePage", "Options", "open_output"]


def open_output(options: Options, control: StationControl, name: str) -> LivePage:
    """Serve the page; see `StationOutput`.

    Raises:
        InputError: A token or the certificate cannot be used.
    """
    return LivePage(options, control, name)


class LivePage:
    """An output that people and machines come to."""

    dropped = 0  # whoever watches is shown the newest; nothing waits for anybody

    def __init__(self, options: Options, control: StationControl, name: str) -> None:
        """Begin to serve; errors as of `open_output`."""
        self.name, self.feed = name, Feed(options)
        self._evidence: EvidenceStore | None = None
        tokens = read_tokens(options)
        check_certificate(options)
        self._work = ThreadPoolExecutor(1, thread_name_prefix=f"output {name} pictures")
        self._broadcast = broadcast = Broadcast(
            partial(self._state, options.title, control),
            partial(self._version, control),
            most=options.most_clients,
        )
        served = Served(
            title=options.title,
            feed=self.feed,
            broadcast=broadcast,
            tokens=tokens,
            control=control,
            evidence=lambda: self._evidence,
            draw=JpegCache(),
            work=self._work,
        )
        app = Guard(make_app(served), tokens, options.host)
        self._server = PageServer(name, options, app, broadcast.run)

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once."""
        self.feed(event)

    def meet(self, others: Sequence[StationOutput]) -> None:
        """Find the evidence store among the station's outputs."""
        self._evidence = next((other for other in others if isinstance(other, EvidenceStore)), None)

    @property
    def problem(self) -> str:
        """Why nobody can open the page, in a sentence; empty while all is well."""
        return self._server.problem

    def close(self, within_s: float) -> None:
        """End, whoever watches."""
        self._broadcast.is_over = True
        self._server.close()
        self._work.shutdown(wait=False, cancel_futures=True)

    def _version(self, control: StationControl) -> object:
        thresholds = control.thresholds
        return self.feed.version, None if thresholds is None else (thresholds.now, thresholds.proposal)

    def _state(self, title: str, control: StationControl) -> dict[str, object]:
        reviews = self._evidence is not None
        return state_object(self.feed.look(), title=title, reviews=reviews, thresholds=control.thresholds)
