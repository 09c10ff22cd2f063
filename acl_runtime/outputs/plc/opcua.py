"""The station as an OPC UA server with names of OPC 40100-1 (machine vision) and OPC 40001-101 (results): a subset."""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.outputs.delivery import Delivery, Limits, PeerError
from acl_runtime.outputs.secret import read_secret
from acl_runtime.outputs.station import PartResult, StationControl, StationEvent, StationStatus, WebRecord
from acl_runtime.outputs.station_json import encode, event_record

try:
    from asyncua import ua
    from asyncua.crypto.permission_rules import User, UserRole
    from asyncua.server.server import Server
    from asyncua.server.user_managers import UserManager
    from asyncua.ua.object_ids import ObjectIds
    from asyncua.ua.uaerrors import UaError
except ImportError as error:
    raise BackendError(
        f"OPC UA needs asyncua ({error}); in the checkout: pip install -e '.[opcua]'"
    ) from error

NAMESPACE = "urn:anomalyclip-deploy:station"
STATES = {  # of OPC 40100-1, VisionStateMachine
    "starting": "Preoperational",
    "ready": "Ready",
    "running": "ContinuousExecution",
    "fault": "Error",
    "offline": "Halted",
}
EVALUATIONS = {"ok": 1, "ng": 2, "not judged": 3}  # of OPC 40001-101: OK, NotOK, NotDecidable; 0 is Undefined
COMPLETED, FAILED = 1, 4  # of its ResultState
_COUNTS = ("judged", "ng", "not_judged", "lines_lost", "defects")
_START_S, _ANSWER_S = 120.0, 5.0
_LOOK_S = 1.0
for _name in ("asyncua", "asyncua.server"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # it tells every client; `problem` says it once


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "opcua"`.

    Attributes:
        host: Address of this machine that clients connect to; "0.0.0.0" for all.
        port: TCP port.
        user: Name that clients must give; empty for anybody.
        password_file: File with their password, readable by nobody else.
        cert_file: Certificate of the server (PEM); then only clients that sign and encrypt are served.
        key_file: Its private key (PEM, without a password).
    """

    host: str = "127.0.0.1"
    port: int = 4840
    user: str = ""
    password_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.port <= 65535:
            raise InputError(f"port must be 1 to 65535, got {self.port}")
        if bool(self.user) != bool(self.password_file):
            raise InputError("user and password_file must both be given, or none")
        if bool(self.cert_file) != bool(self.key_file):
            raise InputError("cert_file and key_file must both be given, or none")


def open_output(options: Options, control: StationControl, name: str) -> Delivery:
    """Serve; see `StationOutput`. This takes seconds of the processor, so it is waited for before anything is judged.

    Raises:
        InputError: The address is in use, or the file with the password, the certificate or the key cannot be used.
    """
    password = read_secret(options.password_file) if options.password_file else ""
    try:
        servers = [OpcUa(options, password)]
    except PeerError as error:
        raise InputError(f"{name}: {error}") from error
    again = partial(OpcUa, options, password)
    return Delivery(name, lambda: servers.pop() if servers else again(), _prepare, Limits(idle_s=_LOOK_S))


_Values = dict[str, Any]


def _prepare(event: StationEvent) -> tuple[str, _Values] | None:
    if isinstance(event, StationStatus):
        return "status", event_record(event)
    if isinstance(event, WebRecord) and event.record.get("event") not in ("defect", "gap"):
        return None
    return "result", _result(event)


def _result(event: PartResult | WebRecord) -> _Values:
    if isinstance(event, PartResult):
        verdict, part_id, at = event.verdict, event.part_id, event.exposed_at
    else:
        verdict, part_id, at = "ng" if event.record["event"] == "defect" else "not judged", event.roll, None
    return {
        "ResultId": str(event.number),
        "SequenceNumber": event.number,
        "PartId": part_id,
        "ResultEvaluation": EVALUATIONS[verdict],
        "ResultState": FAILED if verdict == "not judged" else COMPLETED,
        "IsSimulated": False,
        "CreationTime": datetime.now(timezone.utc)
        if at is None
        else datetime.fromtimestamp(at, timezone.utc),
        "ResultContent": event_record(event),  # written as JSON
    }


_TYPES = {
    "ResultId": (ua.VariantType.String, ""),
    "SequenceNumber": (ua.VariantType.UInt64, 0),
    "PartId": (ua.VariantType.String, ""),
    "ResultEvaluation": (ua.VariantType.Int32, 0),
    "ResultState": (ua.VariantType.Int32, 0),
    "IsSimulated": (ua.VariantType.Boolean, False),
    "CreationTime": (ua.VariantType.DateTime, datetime(1970, 1, 1)),
    "ResultContent": (ua.VariantType.String, ""),
}


class _Users(UserManager):
    """Who may connect; nobody is an administrator, so nobody can change anything."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password

    def get_user(
        self, iserver: Any, username: str | None = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        given = password.decode(errors="replace") if isinstance(password, bytes) else password or ""
        is_right = username == self._user and hmac.compare_digest(given.encode(), self._password.encode())
        return User(role=UserRole.User) if not self._user or is_right else None


class OpcUa:
    """A server in a thread of its own; see `Peer`."""

    def __init__(self, options: Options, password: str) -> None:
        """Start, which takes seconds.

        Raises:
            PeerError: The address cannot be listened on, or the certificate cannot be used.
        """
        self._options, self._password = options, password
        place = f"OPC UA cannot be served at {options.host} port {options.port}"
        try:
            socket.create_server(
                (options.host, options.port)
            ).close()  # an error now, not after the seconds that follow
        except OSError as error:
            raise PeerError(f"{place} ({error}); name another address") from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="OPC UA", daemon=True)
        self._thread.start()
        try:
            self._wait(self._start(), _START_S)
        except (OSError, ValueError, PeerError) as error:
            self._end()
            raise PeerError(f"{place} ({error}); see cert_file and key_file") from error

    def deliver(self, item: tuple[str, _Values]) -> None:
        """Write values, and send an event for a result; errors as of `Peer`."""
        kind, values = item
        self._wait(self._tell_status(values) if kind == "status" else self._tell_result(values), _ANSWER_S)

    def idle(self) -> None:
        """Do nothing: clients come to the server."""

    def close(self) -> None:
        """Say that the station is halted, and end."""
        with suppress(PeerError):
            self._wait(self._stop(), _ANSWER_S)
        self._end()

    def _wait(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(seconds)
        except (FutureTimeoutError, TimeoutError) as error:
            future.cancel()
            raise PeerError(f"the OPC UA server did not answer for {seconds:g} s") from error
        except UaError as error:
            raise PeerError(f"the OPC UA server failed ({error})") from error

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_S)
        if not self._thread.is_alive():
            self._loop.close()

    # In the loop

    async def _start(self) -> None:
        options = self._options
        server = self._server = Server(user_manager=_Users(options.user, self._password))
        await server.init()
        server.set_endpoint(f"opc.tcp://{options.host}:{options.port}/acl")
        server.set_server_name("acl station")
        await server.set_application_uri(NAMESPACE)
        policies = [ua.SecurityPolicyType.NoSecurity]
        if options.cert_file and options.key_file:
            await server.load_certificate(options.cert_file, "pem")
            await server.load_private_key(options.key_file, format="pem")
            policies = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
        server.set_security_policy(policies)
        server.set_identity_tokens([ua.UserNameIdentityToken if options.user else ua.AnonymousIdentityToken])
        await self._make_nodes()
        await server.start()

    async def _make_nodes(self) -> None:
        space = await self._server.register_namespace(NAMESPACE)
        vision = await self._server.nodes.objects.add_object(space, "VisionSystem")
        machine = await vision.add_object(space, "VisionStateMachine")
        results = await vision.add_object(space, "ResultManagement")
        last = await results.add_object(space, "LastResult")
        counts = await vision.add_object(space, "Counts")
        text = ua.VariantType.String
        self._state = await machine.add_variable(space, "CurrentState", STATES["starting"], text)
        self._faults = await machine.add_variable(space, "Faults", "", text)
        self._warnings = await machine.add_variable(space, "Warnings", "", text)
        self._counts = {
            key: await counts.add_variable(space, key, 0, ua.VariantType.UInt64) for key in _COUNTS
        }
        self._last = {
            key: await last.add_variable(space, key, value, kind) for key, (kind, value) in _TYPES.items()
        }
        fields = [(key, kind) for key, (kind, _) in _TYPES.items()]
        event = await self._server.create_custom_event_type(
            space, "ResultReadyEventType", ObjectIds.BaseEventType, fields
        )
        self._event = await self._server.get_event_generator(event.nodeid, results.nodeid)

    async def _tell_status(self, values: _Values) -> None:
        await self._state.write_value(STATES[values["state"]], ua.VariantType.String)
        await self._faults.write_value("\n".join(values["faults"]), ua.VariantType.String)
        await self._warnings.write_value("\n".join(values["warnings"]), ua.VariantType.String)
        for key, node in self._counts.items():
            await node.write_value(values[key], ua.VariantType.UInt64)

    async def _tell_result(self, values: _Values) -> None:
        told = {**values, "ResultContent": encode(values["ResultContent"]).decode()}
        for key, (kind, _) in _TYPES.items():
            await self._last[key].write_value(told[key], kind)
            setattr(self._event.event, key, told[key])
        await self._event.trigger(message=f"part {told['ResultId']}")

    async def _stop(self) -> None:
        await self._state.write_value(STATES["offline"], ua.VariantType.String)
        await self._server.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:  # of clients that are gone without a word
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
