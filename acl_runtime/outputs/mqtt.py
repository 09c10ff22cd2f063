"""The station tells an MQTT broker: retained state with a last will, verdicts and defects at QoS 1, metrics, rolls."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.outputs.delivery import Delivery, Limits, PeerError, RefusedError
from acl_runtime.outputs.secret import read_secret
from acl_runtime.outputs.station import PartResult, StationControl, StationEvent, StationStatus, WebRecord
from acl_runtime.outputs.station_json import SCHEMA, encode, event_record, utc

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError as error:
    raise BackendError(
        f"MQTT needs paho-mqtt 2 ({error}); in the checkout: pip install -e '.[mqtt]'"
    ) from error

ANSWER_S = 5.0  # longest wait for the broker's acknowledgement
_LOOK_S = 0.1  # between two looks whether the connection broke
_MOST_QUEUED = 10  # inside paho; one at a time is waited for
_METRICS = ("judged", "ng", "not_judged", "lines_lost", "defects", "p99_ms", "dropped")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "mqtt"`.

    Attributes:
        host: Of the broker.
        port: Of the broker; by default 1883, with tls 8883.
        topic: Begins every topic: TOPIC/state, /verdict, /defect, /roll, /metrics.
        client_id: By which the broker knows the station; two of the same throw each other out. By default the topic.
        user: Name at the broker; empty for none.
        password_file: File with the password, readable by nobody else.
        tls: Whether to encrypt, and to check the broker's certificate.
        ca_file: Certificates to trust beside none other; None for those of the system.
        cert_file: Own certificate, if the broker wants one.
        key_file: Its key.
        protocol: Version of MQTT; with 3.1.1 a broker does not say that it refuses a message.
        keepalive_s: After 1.5 times as long without a sign the broker says "offline" for the station.
        metrics_s: Seconds between metrics.
        most_waiting: Verdicts and defects that wait while the broker is away.
    """

    host: str
    port: int = 0
    topic: str = "acl/station"
    client_id: str = ""
    user: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    keepalive_s: int = 10
    metrics_s: float = 10.0
    most_waiting: int = 10_000

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 <= self.port <= 65535:
            raise InputError(f"port must be 1 to 65535, got {self.port}")
        if not self.topic or set(self.topic) & set("+#\0") or self.topic[0] in "/$" or self.topic[-1] == "/":
            raise InputError(
                f"topic must be like acl/line1, without + and # and a slash at its ends, got {self.topic!r}"
            )
        if (self.ca_file or self.cert_file) and not self.tls:
            raise InputError("ca_file and cert_file need tls = true")
        if bool(self.cert_file) != bool(self.key_file):
            raise InputError("cert_file and key_file must both be given, or none")
        if self.password_file and not self.user:
            raise InputError("password_file needs a user")
        if not 1 <= self.keepalive_s <= 3600:
            raise InputError(f"keepalive_s must be 1 to 3600, got {self.keepalive_s}")
        if not 1 <= self.metrics_s <= 3600:
            raise InputError(f"metrics_s must be 1 to 3600, got {self.metrics_s:g}")
        if not 1 <= self.most_waiting <= 1_000_000:
            raise InputError(f"most_waiting must be 1 to 1000000, got {self.most_waiting}")


def open_output(options: Options, control: StationControl, name: str) -> Delivery:
    """Tell a broker, once it is there; see `StationOutput`.

    Raises:
        InputError: A file with a password, certificate or key cannot be used.
    """
    password = read_secret(options.password_file) if options.password_file else None
    context = _tls_context(options) if options.tls else None
    limits = Limits(most_waiting=options.most_waiting, idle_s=_LOOK_S)
    return Delivery(name, partial(Broker, options, password, context), _prepare, limits)


def _tls_context(options: Options) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file and options.key_file:
            context.load_cert_chain(options.cert_file, options.key_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"the certificates for MQTT cannot be used ({error})") from error
    return context


def _prepare(event: StationEvent) -> tuple[str, dict[str, Any]] | None:
    """Last level of the topic, and what to tell there."""
    if isinstance(event, PartResult):
        return "verdict", event_record(event)
    if isinstance(event, StationStatus):
        return "state", event_record(event)
    assert isinstance(event, WebRecord)
    topics = {
        "defect": "defect",
        "defect-begun": "defect",
        "gap": "defect",
        "rule": "defect",
        "summary": "roll",
    }
    topic = topics.get(str(event.record.get("event")))
    return None if topic is None else (topic, event_record(event))


class Broker:
    """A connection to a broker; see `Peer`. A message counts as delivered when the broker has acknowledged it."""

    def __init__(self, options: Options, password: str | None, context: ssl.SSLContext | None) -> None:
        """Connect.

        Raises:
            PeerError: It is away or refuses.
        """
        self._options, self._state, self._metrics = options, dict[str, Any](), dict[str, Any]()
        self._metrics_at = -float("inf")
        self._answered, self._refusal, self._is_mute = threading.Event(), "", False
        self._refused: dict[int, str] = {}  # reasons by the number of the message
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id or options.topic.replace("/", "-"),
            protocol=paho.MQTTv5 if options.protocol == "5" else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.max_queued_messages_set(
            _MOST_QUEUED
        )  # before connect; the queue proper is that of `Delivery`
        self._client.connect_timeout = ANSWER_S
        self._client.on_connect, self._client.on_publish = self._take_answer, self._take_receipt
        self._client.will_set(f"{options.topic}/state", encode(_offline()), qos=1, retain=True)
        if options.user:
            self._client.username_pw_set(options.user, password)
        if context is not None:
            self._client.tls_set_context(context)
        self._place = f"the MQTT broker at {options.host} port {_port(options)}"
        try:
            self._client.connect(options.host, _port(options), keepalive=options.keepalive_s)
        except (OSError, ValueError) as error:  # as of ssl.SSLError
            raise PeerError(f"{self._place} is away ({error})") from error
        self._client.loop_start()
        if not self._answered.wait(ANSWER_S) or self._refusal:
            self._let_go()
            raise PeerError(
                f"{self._place} refuses the station ({self._refusal}); see user and password_file"
                if self._refusal
                else f"{self._place} gives no answer"
            )

    def deliver(self, item: tuple[str, dict[str, Any]]) -> None:
        """Publish what follows from an event; errors as of `Peer`."""
        topic, record = item
        self._check()
        if topic != "state":
            self._publish(topic, record, retain=topic == "roll", within_s=ANSWER_S)
            return
        self._metrics = {"schema": SCHEMA, "event": "metrics", **{key: record[key] for key in _METRICS}}
        state = {key: value for key, value in record.items() if key not in _METRICS}
        if state != self._state:
            self._publish("state", {**state, "at": utc(time.time())}, retain=True, within_s=ANSWER_S)
            self._state = state

    def idle(self) -> None:
        """Publish metrics where they are due; errors as of `Peer`."""
        self._check()
        if self._metrics and time.monotonic() - self._metrics_at >= self._options.metrics_s:
            self._metrics_at = time.monotonic()
            record = {**self._metrics, "at": utc(time.time())}
            self._client.publish(f"{self._options.topic}/metrics", encode(record), qos=0)

    def close(self) -> None:
        """Say that the station is offline, where that can be, and let go."""
        if self._client.is_connected():
            within_s = (
                0.0 if self._is_mute else 1.0
            )  # one that hangs finds it before the farewell, which cancels the will
            with suppress(PeerError, RefusedError):
                self._publish("state", {**_offline(), "at": utc(time.time())}, retain=True, within_s=within_s)
        self._let_go()

    def _let_go(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_publish = (
            None  # a circle, in which its sockets would wait for the collector
        )

    def _publish(self, topic: str, record: dict[str, Any], *, retain: bool, within_s: float) -> None:
        """Publish at QoS 1 and wait for the broker."""
        info = self._client.publish(f"{self._options.topic}/{topic}", encode(record), qos=1, retain=retain)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            raise RefusedError("the queue of paho-mqtt is full")
        until = time.monotonic() + within_s
        while not info.is_published():
            self._check()
            if time.monotonic() > until:
                self._is_mute = True
                raise PeerError(f"{self._place} acknowledged nothing for {within_s:g} s")
            info.wait_for_publish(_LOOK_S)
        if reason := self._refused.pop(info.mid, ""):
            raise RefusedError(f"{self._place} refuses {self._options.topic}/{topic} ({reason})")

    def _check(self) -> None:
        if not self._client.is_connected():
            raise PeerError(f"{self._place} is away (the connection broke)")

    def _take_answer(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        self._answered.set()

    def _take_receipt(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._refused[mid] = str(reason)


def _port(options: Options) -> int:
    return options.port or (8883 if options.tls else 1883)


def _offline() -> dict[str, Any]:
    return {"schema": SCHEMA, "event": "status", "state": "offline"}
