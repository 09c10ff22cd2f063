"""The station posts its parts and states to a web server: signed, at least once, kept on the disk while it is away.

The signature is that of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over id, time stamp and body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import ssl
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.delivery import LOG, Delivery, Limits, PeerError
from acl_runtime.outputs.secret import read_secret
from acl_runtime.outputs.spool import Spool, delivery_id
from acl_runtime.outputs.station import PartResult, StationControl, StationEvent, WebRecord
from acl_runtime.outputs.station_json import encode, event_record

_REFUSED = (
    400,
    413,
    422,
)  # what a receiver says that will never take this one; anything else may be mended there
_SAME = ("event", "state", "faults", "cameras")  # a status that differs in these is posted
_LOOK_S = 0.05
_BAD_RECORDS = ("defect", "gap")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "webhook"`.

    Attributes:
        url: https://..., or http://... inside a network that is trusted.
        secret_file: File with the key of the signature, readable by nobody else: text, or `whsec_` and base64.
        spool: Folder for what waits, of this output alone.
        most_spooled: Deliveries that wait; a further one drops the oldest.
        send: "ng" for parts that are not OK, defects, lost lines and states; "all" for every part, record and state.
        ca_file: Certificates to trust instead of those of the system.
        timeout_s: Longest wait for an answer.
    """

    url: str
    secret_file: Path
    spool: Path
    most_spooled: int = 10_000
    send: Literal["ng", "all"] = "ng"
    ca_file: Path | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InputError(
                f"url must be like https://host/path, without user and password, got {self.url!r}"
            )
        if not 1 <= self.most_spooled <= 1_000_000:
            raise InputError(f"most_spooled must be 1 to 1000000, got {self.most_spooled}")
        if not 0.1 <= self.timeout_s <= 600:
            raise InputError(f"timeout_s must be 0.1 to 600, got {self.timeout_s:g}")


def open_output(options: Options, control: StationControl, name: str) -> Webhook:
    """Post, once the receiver is there; see `StationOutput`.

    Raises:
        InputError: The file with the key or the certificates cannot be used.
        OSError: The spool's folder cannot be made.
    """
    return Webhook(options, name)


class Webhook:
    """An output of two threads: one writes to the spool, the other posts what is there."""

    def __init__(self, options: Options, name: str) -> None:
        """Go on with what the spool has; errors as of `open_output`."""
        self.name = name
        key, context = _decode_key(read_secret(options.secret_file)), _tls_context(options)
        self._spool = Spool(options.spool, most=options.most_spooled)
        self._refused = 0
        self._spooling = Delivery(
            f"{name} spool", partial(_Spooler, self._spool), partial(_prepare, options.send)
        )
        connect = partial(_Receiver, options, key, context, self._spool, self._refuse)
        self._posting = Delivery(name, connect, lambda event: None, Limits(idle_s=_LOOK_S))

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once."""
        self._spooling(event)

    @property
    def problem(self) -> str:
        """Why nothing arrives at the other side, in a sentence; empty while all is well."""
        return self._spooling.problem or self._posting.problem

    @property
    def dropped(self) -> int:
        """Deliveries that were given up so far."""
        return self._spooling.dropped + self._spool.dropped + self._refused

    def close(self, within_s: float) -> None:
        """Write what waits to the spool, post what can be, and end; the rest is posted after the next start."""
        until = time.monotonic() + within_s
        self._spooling.close(within_s)
        while len(self._spool) and not self._posting.problem and time.monotonic() < until:
            time.sleep(_LOOK_S / 5)
        self._posting.close(max(0.0, until - time.monotonic()))

    def _refuse(self) -> None:
        self._refused += 1


def sign(key: bytes, delivery: str, timestamp: int, body: bytes) -> str:
    """The signature of a delivery.

    Args:
        key: Shared with the receiver.
        delivery: Its id.
        timestamp: Seconds since 1970 of this attempt.
        body: As posted.
    """
    digest = hmac.new(key, b"%s.%d.%s" % (delivery.encode(), timestamp, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _decode_key(text: str) -> bytes:
    if not text.startswith("whsec_"):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise InputError("the webhook's secret begins with whsec_ and must go on in base64") from error


def _tls_context(options: Options) -> ssl.SSLContext | None:
    if urlsplit(options.url).scheme == "http":
        return None
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{options.ca_file}: holds no certificates ({error})") from error


def _prepare(send: str, event: StationEvent) -> dict[str, Any] | None:
    is_quiet = (
        event.verdict == "ok"
        if isinstance(event, PartResult)
        else isinstance(event, WebRecord) and event.record.get("event") not in _BAD_RECORDS
    )
    return None if is_quiet and send == "ng" else event_record(event)


class _Spooler:
    """The disk; see `Peer`."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._status = spool, dict[str, Any]()

    def deliver(self, item: dict[str, Any]) -> None:
        """Write one; of states only those that say something new."""
        if item["event"] == "status":
            status = {key: item[key] for key in _SAME}
            if status == self._status:
                return
            self._spool.add(encode(item))
            self._status = status
            return
        self._spool.add(encode(item))

    def idle(self) -> None:
        """Do nothing: a disk that is full is known when it is written to."""

    def close(self) -> None:
        """Do nothing: every file is whole."""


class _Receiver:
    """The web server; see `Peer`."""

    def __init__(
        self, options: Options, key: bytes, context: ssl.SSLContext | None, spool: Spool, refuse: Any
    ) -> None:
        self._options, self._key, self._spool, self._refuse = options, key, spool, refuse
        self._parts = urlsplit(options.url)
        self._path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        host, port = self._parts.hostname or "", self._parts.port
        self._connection = (
            http.client.HTTPConnection(host, port, timeout=options.timeout_s)
            if context is None
            else http.client.HTTPSConnection(host, port, timeout=options.timeout_s, context=context)
        )

    def deliver(self, item: Any) -> None:
        """Nothing comes this way."""

    def idle(self) -> None:
        """Post what the spool has, oldest first; errors as of `Peer`."""
        while (found := self._spool.oldest()) is not None:
            name, body = found
            status = self._post(delivery_id(name), body)
            if 200 <= status < 300:
                self._spool.remove(name)
            elif status in _REFUSED:
                LOG.error("webhook %s: answers %d; a delivery is given up", self._parts.hostname, status)
                self._spool.remove(name)
                self._refuse()
            else:
                raise PeerError(f"{self._options.url} answers {status}; see what it expects")

    def close(self) -> None:
        """Let go."""
        self._connection.close()

    def _post(self, delivery: str, body: bytes) -> int:
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._key, delivery, timestamp, body),
        }
        try:
            self._connection.request("POST", self._path, body, headers)
            answer = self._connection.getresponse()
            answer.read(1 << 16)
            if not answer.isclosed():  # a long answer: nobody waits for its end
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise PeerError(f"{self._options.url} is away ({error or type(error).__name__})") from error
        return answer.status
