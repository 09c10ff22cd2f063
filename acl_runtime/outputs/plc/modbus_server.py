"""The station as a Modbus TCP server: PLCs read results and status and write control words, as `register_map` says."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.outputs.plc.plc_image import PlcImage
from acl_runtime.outputs.plc.register_map import CONTROL_WORDS, SIZE
from acl_runtime.outputs.station import StationControl, StationEvent

try:
    from pymodbus.constants import ExcCodes
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice
except ImportError as error:
    raise BackendError(
        f"Modbus needs pymodbus ({error}); in the checkout: pip install -e '.[modbus]'"
    ) from error

LOG = logging.getLogger("acl")
logging.getLogger("pymodbus.logging").setLevel(
    logging.CRITICAL
)  # it tells every attempt; `problem` says it once
_TEND_S = 0.1  # between two looks at the connections
_MOST_UNREAD = 1 << 15  # bytes of answers that a client did not read before it is cut off
_LAST_WORD_S = 0.3  # at the end, so that a PLC that polls sees that the station is offline


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "modbus-server"`.

    Attributes:
        host: Address of this machine that PLCs connect to; "0.0.0.0" for all.
        port: TCP port; below 1024 needs the right to bind it, see docs.
        acknowledge: Whether a result stands until the PLC acknowledges it; else until the next comes.
        plc_heartbeat_s: Longest that the PLC's heartbeat, once written, may stand still without a warning; 0: any time.
        most_clients: Connections at once; a further one is closed.
    """

    host: str = "127.0.0.1"
    port: int = 1502
    acknowledge: bool = True
    plc_heartbeat_s: float = 5.0
    most_clients: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.port <= 65535:
            raise InputError(f"port must be 1 to 65535, got {self.port}")
        if not 0 <= self.plc_heartbeat_s <= 3600:
            raise InputError(f"plc_heartbeat_s must be 0 to 3600, got {self.plc_heartbeat_s:g}")
        if not 1 <= self.most_clients <= 100:
            raise InputError(f"most_clients must be 1 to 100, got {self.most_clients}")


def open_output(options: Options, control: StationControl, name: str) -> ModbusServer:
    """Listen.

    Raises:
        InputError: The address is in use, or may not be used.
    """
    return ModbusServer(options, control, name)


class ModbusServer:
    """An output that answers PLCs; see `StationOutput`. An event changes what they see at once and waits for nobody."""

    def __init__(self, options: Options, control: StationControl, name: str) -> None:
        """Listen; arguments and errors as of `open_output`."""
        self.name, self._options = name, options
        self._image = PlcImage(
            control, acknowledge=options.acknowledge, plc_heartbeat_s=options.plc_heartbeat_s
        )
        self._started, self._refused, self._failure = threading.Event(), False, ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._connections = 0
        self._thread = threading.Thread(target=self._guard, name=f"output {name}", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._refused:
            raise InputError(
                f"{name}: {options.host} port {options.port} cannot be listened on; see that nothing else does, that "
                "the address is one of this machine, and that a port below 1024 is permitted"
            )

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once."""
        self._image.take(event)

    @property
    def problem(self) -> str:
        """Why no PLC is served, in a sentence; empty while one is."""
        if self._failure:
            return self._failure
        return self._image.problem if self._connections else "no PLC is connected"

    @property
    def dropped(self) -> int:
        """Results that no PLC acknowledged in time."""
        return self._image.dropped

    def close(self, within_s: float) -> None:
        """End, a moment later, so that a PLC that polls sees the last status."""
        self._thread.join(min(within_s, _LAST_WORD_S))
        if self._loop is not None and self._ended is not None:
            with suppress(RuntimeError):  # it ended on its own
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(within_s)

    # The thread

    def _guard(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # a bug; it must be seen, and must not stop the station
            LOG.exception("output %s: ended by an error", self.name)
            self._failure = f"ended by an error that is a bug ({error!r}); restart the station"
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        blocks = SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(
            id=0, simdata=[blocks], use_bit_addressing=True, action=self._answer
        )  # 0: any unit
        server = ModbusTcpServer(device, address=(self._options.host, self._options.port))
        try:
            await server.serve_forever(background=True)
        except RuntimeError:  # as pymodbus says that it could not listen
            self._refused = True
            return
        self._started.set()
        try:
            while not self._ended.is_set():
                self._tend(server)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _TEND_S)
        finally:
            await server.shutdown()

    async def _answer(
        self,
        function_code: int,
        start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by pymodbus for a request, before it reads the words: no other request comes in between."""
        if set_values is not None:
            words = self._image.words()[:CONTROL_WORDS]
            if function_code in (5, 15):
                address, set_values = _merge_bits(words, address, set_values)
            if not self._image.write(address, [int(value) for value in set_values]):
                return ExcCodes.ILLEGAL_ADDRESS
        current_registers[:SIZE] = self._image.words()
        return None

    def _tend(self, server: Any) -> None:
        """Cut off clients that do not read, or are too many; let the system find those that are gone."""
        handlers = list(server.active_connections.values())
        for place, handler in enumerate(handlers):
            transport = handler.transport
            if transport is None:
                continue
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_UNREAD)
            if place >= self._options.most_clients or transport.get_write_buffer_size() > _MOST_UNREAD:
                transport.abort()
        self._connections = len(handlers)


def _merge_bits(words: Sequence[int], address: int, bits: Sequence[int | bool]) -> tuple[int, list[int]]:
    """Control words that bits are written in: the first one's address, and the words with the bits.

    Args:
        words: Control words as they are.
        address: Of the first bit.
        bits: To write.
    """
    first, last = address // 16, (address + len(bits) - 1) // 16
    number = sum((words[at] if at < len(words) else 0) << 16 * (at - first) for at in range(first, last + 1))
    for place, bit in enumerate(bits, address - 16 * first):
        number = number & ~(1 << place) | bool(bit) << place
    return first, [number >> 16 * at & 0xFFFF for at in range(last - first + 1)]
