"""The station writes the data block of a Siemens PLC and reads its control words there, as `register_map` says."""

from __future__ import annotations

import logging
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.outputs.delivery import Delivery, Limits, PeerError
from acl_runtime.outputs.plc.plc_image import PlcImage
from acl_runtime.outputs.plc.register_map import CONTROL_WORDS, STATUS, STATUS_ADDRESS
from acl_runtime.outputs.station import StationControl, StationEvent

try:
    from snap7.client import Client
    from snap7.error import S7Error
except ImportError as error:
    raise BackendError(
        f"S7 needs python-snap7 3 ({error}); in the checkout: pip install -e '.[s7]'"
    ) from error

logging.getLogger("snap7").setLevel(logging.CRITICAL)  # it tells every attempt; `problem` says it once
_STATUS_STOP = STATUS[-1].address + STATUS[-1].words


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "s7"`.

    Attributes:
        host: Address of the PLC.
        port: TCP port.
        rack: Of the CPU.
        slot: Of the CPU: 1 in an S7-1200 and S7-1500, 2 in an S7-300.
        db: Number of the data block; not optimised, 100 bytes from `start` on.
        start: First byte in it; even.
        period_ms: From one exchange to the next.
        acknowledge: Whether a result stands until the PLC acknowledges it; else until the next comes.
        plc_heartbeat_s: Longest that the PLC's heartbeat, once written, may stand still without a warning; 0: any time.
        timeout_s: Longest wait for an answer.
    """

    host: str
    port: int = 102
    rack: int = 0
    slot: int = 1
    db: int = 1
    start: int = 0
    period_ms: float = 50.0
    acknowledge: bool = True
    plc_heartbeat_s: float = 5.0
    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} must be {least:g} to {most:g}, got {value:g}")
        if self.start % 2:
            raise InputError(f"start must be even, because words begin there, got {self.start}")


_RANGES = {
    "port": (1, 65535),
    "rack": (0, 7),
    "slot": (0, 31),
    "db": (1, 65535),
    "start": (0, 65000),
    "period_ms": (5, 1000),
    "plc_heartbeat_s": (0, 3600),
    "timeout_s": (0.05, 10),
}


def open_output(options: Options, control: StationControl, name: str) -> S7:
    """Exchange words with a PLC, once it is there; see `StationOutput`."""
    return S7(options, control, name)


class S7:
    """An output that keeps a data block as the station is."""

    def __init__(self, options: Options, control: StationControl, name: str) -> None:
        """Begin to connect; arguments as of `open_output`."""
        self.name = name
        self._image = PlcImage(
            control, acknowledge=options.acknowledge, plc_heartbeat_s=options.plc_heartbeat_s
        )
        self._exchange = Delivery(
            name,
            partial(DataBlock, options, self._image),
            lambda event: None,
            Limits(idle_s=options.period_ms / 1e3),
        )

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once; the next exchange tells it."""
        self._image.take(event)

    @property
    def problem(self) -> str:
        """Why nothing arrives at the other side, in a sentence; empty while all is well."""
        return self._exchange.problem or self._image.problem

    @property
    def dropped(self) -> int:
        """Results that the PLC did not acknowledge in time."""
        return self._image.dropped

    def close(self, within_s: float) -> None:
        """Write the last status, and end."""
        self._exchange.close(within_s)


class DataBlock:
    """A data block of a PLC; see `Peer`. Nothing else of the PLC is read or written."""

    def __init__(self, options: Options, image: PlcImage) -> None:
        """Connect.

        Raises:
            PeerError: It is away or refuses.
        """
        self._options, self._image, self._client = options, image, Client()
        self._place = f"the S7 PLC at {options.host} port {options.port}"
        try:
            self._client.connect(options.host, options.rack, options.slot, options.port)
        except (S7Error, OSError) as error:
            self._let_go()
            raise PeerError(f"{self._place} is away ({error})") from error
        if self._client.connection is not None:
            self._client.connection.timeout = options.timeout_s

    def deliver(self, item: object) -> None:
        """Nothing comes this way."""

    def idle(self) -> None:
        """Write the status and read the control words; errors as of `Peer`."""
        try:
            self._write_status()
            data = self._client.db_read(self._options.db, self._options.start, 2 * CONTROL_WORDS)
        except (S7Error, OSError) as error:
            raise PeerError(
                f"{self._place} is away or has no data block {self._options.db} that may be written ({error})"
            ) from error
        self._image.write(0, struct.unpack(f">{CONTROL_WORDS}H", bytes(data)))

    def close(self) -> None:
        """Write the last status, where that can be, and let go."""
        if self._client.get_connected():
            with suppress(S7Error, OSError):
                self._write_status()
        self._let_go()

    def _write_status(self) -> None:
        """In one packet, so that the PLC sees all of one moment or of the one before."""
        words = self._image.words()[STATUS_ADDRESS:_STATUS_STOP]
        data = struct.pack(f">{len(words)}H", *words)
        self._client.db_write(self._options.db, self._options.start + 2 * STATUS_ADDRESS, bytearray(data))

    def _let_go(self) -> None:
        with suppress(S7Error, OSError):
            self._client.disconnect()
