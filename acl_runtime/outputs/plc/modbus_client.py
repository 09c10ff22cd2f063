"""The station writes coils and registers of remote IO over Modbus TCP: a coil that is energised means good."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.outputs.delivery import Delivery, Limits, PeerError, RefusedError
from acl_runtime.outputs.plc.coil import NOT_GOOD, GoodCoil
from acl_runtime.outputs.plc.register_map import VERDICTS
from acl_runtime.outputs.station import PartResult, StationControl, StationEvent, StationStatus, WebRecord

try:
    from pymodbus.client import ModbusTcpClient
    from pymodbus.exceptions import ModbusException
    from pymodbus.pdu import ModbusPDU
except ImportError as error:
    raise BackendError(
        f"Modbus needs pymodbus ({error}); in the checkout: pip install -e '.[modbus]'"
    ) from error

logging.getLogger("pymodbus.logging").setLevel(
    logging.CRITICAL
)  # it tells every attempt; `problem` says it once
_LOOK_S = 0.02  # between two looks at what the coil should be
_AGAIN_S = (
    0.5  # after which a coil is written again though nothing changed: feeds a watchdog, finds a peer gone
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "modbus-client"`.

    Attributes:
        host: Address of the remote IO.
        port: TCP port.
        unit: Number of the device behind that address.
        good_coil: Coil that is energised for a good part; None for none.
        ready_coil: Coil that is energised while parts are judged; None for none.
        result_register: First of four holding registers: number of the part (two, high one first), verdict (1 OK, 2 NG,
            3 not judged, 0 none), 10000 * score; written before the coil. None for none.
        hold_ms: How long the good coil stays energised, unless a part that is not good comes; web: how long it is off.
        most_late_ms: A result that could not be written for so long is not good any more.
        timeout_s: Longest wait for an answer.
    """

    host: str
    port: int = 502
    unit: int = 1
    good_coil: int | None = None
    ready_coil: int | None = None
    result_register: int | None = None
    hold_ms: float = 200.0
    most_late_ms: float = 100.0
    timeout_s: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.good_coil is None and self.ready_coil is None and self.result_register is None:
            raise InputError("needs good_coil, ready_coil or result_register: there is nothing to write")
        if self.good_coil is not None and self.good_coil == self.ready_coil:
            raise InputError(f"good_coil and ready_coil must be two coils, got {self.good_coil} for both")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"{name} must be {least:g} to {most:g}, got {value:g}")


_RANGES = {
    "port": (1, 65535),
    "unit": (0, 255),
    "good_coil": (0, 65535),
    "ready_coil": (0, 65535),
    "result_register": (0, 65532),
    "hold_ms": (10, 60_000),
    "most_late_ms": (1, 60_000),
    "timeout_s": (0.05, 10),
}


def open_output(options: Options, control: StationControl, name: str) -> Delivery:
    """Write to remote IO, once it is there; see `StationOutput`."""
    limits = Limits(most_waiting=100, idle_s=_LOOK_S, keep_while_away=False)
    return Delivery(name, partial(RemoteIo, options), _Preparing(), limits)


_Item = tuple[
    float, StationEvent, int
]  # when it was told, by time.monotonic; without pictures; 10000 * score


class _Preparing:
    """Makes what waits of events; in their order, which the newest status overtakes in the queue."""

    def __init__(self) -> None:
        self._is_sound = False

    def __call__(self, event: StationEvent) -> _Item | None:
        score = 0
        if isinstance(event, StationStatus):
            self._is_sound = event.state in ("ready", "running")
        elif isinstance(event, WebRecord):
            if event.record.get("event") not in ("roll", *NOT_GOOD):
                return None
            event = replace(event, picture=None)
        else:
            score = round(1e4 * event.result.verdict.score) if isinstance(event.result, Inspected) else 0
            is_distrusted = event.verdict == "ok" and not self._is_sound
            event = replace(event, result=None, verdict="not judged" if is_distrusted else event.verdict)
        return time.monotonic(), event, score


class RemoteIo:
    """A device with coils and registers; see `Peer`."""

    def __init__(self, options: Options) -> None:
        """Connect, and write that nothing is good.

        Raises:
            PeerError: It is away or refuses.
        """
        self._options, self._coil = options, GoodCoil(options.hold_ms / 1e3)
        self._written: dict[int, bool] = {}
        self._written_at = 0.0
        self._client = ModbusTcpClient(options.host, port=options.port, timeout=options.timeout_s, retries=0)
        try:
            if not self._client.connect():
                raise PeerError(f"no Modbus device answers at {options.host} port {options.port}")
            self._write_result(0, 0, 0)
            self._write_coils(time.monotonic())
        except BaseException:
            self._client.close()
            raise

    def deliver(self, item: _Item) -> None:
        """Write what follows from an event; errors as of `Peer`."""
        told_at, event, score = item
        now = time.monotonic()
        is_late = isinstance(event, PartResult) and now - told_at > self._options.most_late_ms / 1e3
        if isinstance(event, PartResult) and is_late:
            event = replace(event, verdict="not judged")
        self._coil.take(event, now, told_at=told_at)
        if isinstance(event, PartResult):
            is_as_told = event.verdict != "ok" or self._coil.is_on(now)
            verdict = VERDICTS[event.verdict if is_as_told else "not judged"]
            self._write_result(event.number, verdict, score)
        elif isinstance(event, StationStatus) and event.state not in ("ready", "running"):
            self._write_result(0, 0, 0)
        self._write_coils(now)
        if is_late:
            raise RefusedError("a result could not be written in time, so its part is not good")

    def idle(self) -> None:
        """Write what time has changed; errors as of `Peer`."""
        self._write_coils(time.monotonic())

    def close(self) -> None:
        """Write that nothing is good, where that can be, and let go."""
        if self._client.connected:
            with suppress(PeerError):
                for coil in self._written:
                    self._write_coil(coil, False)
        self._client.close()

    def _write_coils(self, now: float) -> None:
        wanted = {
            self._options.good_coil: self._coil.is_on(now),
            self._options.ready_coil: self._coil.is_running(now),
        }
        is_due = now - self._written_at >= _AGAIN_S
        for coil, is_on in wanted.items():
            if coil is not None and (is_due or self._written.get(coil) != is_on):
                self._write_coil(coil, is_on)
        if is_due:
            self._written_at = now

    def _write_coil(self, coil: int, is_on: bool) -> None:
        self._written[coil] = is_on
        self._ask(partial(self._client.write_coil, coil, is_on), f"coil {coil}")

    def _write_result(self, number: int, verdict: int, score: int) -> None:
        address = self._options.result_register
        if address is not None:
            words = [number >> 16 & 0xFFFF, number & 0xFFFF, verdict, score]
            self._ask(partial(self._client.write_registers, address, words), f"registers from {address}")

    def _ask(self, ask: Callable[..., ModbusPDU], what: str) -> None:
        place = f"the Modbus device at {self._options.host} port {self._options.port}"
        try:
            answer = ask(device_id=self._options.unit)
        except ModbusException as error:
            self._client.close()
            raise PeerError(f"{place} is away ({type(error).__name__})") from error
        if answer.isError():
            raise PeerError(
                f"{place} refuses {what} (exception {answer.exception_code}); see which addresses it has"
            )
