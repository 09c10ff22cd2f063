"""Remote IO of pymodbus's own server, for tests: coils and holding registers, and what was written in order."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


class RemoteIoDevice:
    """A device on a port of this machine that can be stopped, hung, and made to refuse."""

    def __init__(self, port: int) -> None:
        """Start; when this returns it listens."""
        self.port = port
        self.writes: list[tuple[int, int, list[int]]] = []  # function, address, values
        self.coils: dict[int, bool] = {}
        self.registers: dict[int, int] = {}
        self.refuses = False
        self.hangs_s = 0.0
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._listens.wait(20)

    def stop(self) -> None:
        """Break all connections and listen no more."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        bits = [SimData(0, count=64, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=64, values=0, datatype=DataType.REGISTERS)]
        device = SimDevice(id=0, simdata=(bits, bits, words, words), action=self._act)
        server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await server.serve_forever(background=True)
        self._listens.set()
        await self._ended.wait()
        await server.shutdown()

    async def _act(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        if self.hangs_s:
            await asyncio.sleep(self.hangs_s)
        if self.refuses:
            return ExcCodes.ILLEGAL_ADDRESS
        if values is not None:
            self.writes.append((function, address, [int(value) for value in values]))
            if function in (5, 15):
                self.coils.update({address + place: bool(value) for place, value in enumerate(values)})
            else:
                self.registers.update({address + place: int(value) for place, value in enumerate(values)})
        return None
