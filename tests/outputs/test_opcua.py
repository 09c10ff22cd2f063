"""OPC UA, with asyncua's own client; one server for all, because it takes seconds to start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError
from station_events import Control, defect, free_port, part, status, wait_until

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.delivery import Delivery
from acl_runtime.outputs.plc.opcua import NAMESPACE, Options, _Users, open_output


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Delivery, str]]:
    port = free_port()
    output = open_output(Options(port=port), Control(), "scada")
    wait_until(lambda: not output.problem, "the server starts")
    yield output, f"opc.tcp://127.0.0.1:{port}/acl"
    output.close(5)
    assert output.dropped == 0


async def child(client: Any, *names: str) -> Any:
    space = await client.get_namespace_index(NAMESPACE)
    return await client.nodes.objects.get_child([f"{space}:{name}" for name in ("VisionSystem", *names)])


class Listener:
    """Keeps the events of a subscription."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        self.events.put_nowait(event)


def test_a_client_hears_each_result_and_reads_the_last_one(served: tuple[Delivery, str]) -> None:
    output, url = served

    async def listen() -> list[Any]:
        async with Client(url) as client:
            listener = Listener()
            subscription = await client.create_subscription(10, listener)
            source = await child(client, "ResultManagement")
            kind = await client.nodes.base_event_type.get_child(
                [f"{await client.get_namespace_index(NAMESPACE)}:ResultReadyEventType"]
            )
            await subscription.subscribe_events(source, kind)
            for event in (part(5, part_id="A"), part(6, "ng"), part(7, "not judged"), defect(8)):
                output(event)
            heard = [await asyncio.wait_for(listener.events.get(), 20) for _ in range(4)]
            last = await (await child(client, "ResultManagement", "LastResult", "ResultId")).read_value()
            assert last == "8"
            return heard

    heard = asyncio.run(listen())
    assert [(each.ResultId, each.ResultEvaluation, each.ResultState) for each in heard] == [
        *(("5", 1, 1), ("6", 2, 1), ("7", 3, 4), ("8", 2, 1))
    ]
    assert [each.PartId for each in heard] == ["A", "", "", "R1"]
    assert json.loads(heard[1].ResultContent)["verdict"] == "ng"
    assert heard[0].CreationTime.isoformat().startswith("2027-01-15T08:00:05")


def test_a_client_reads_the_state_and_can_change_nothing(served: tuple[Delivery, str]) -> None:
    output, url = served

    async def read() -> list[Any]:
        async with Client(url) as client:
            state = await child(client, "VisionStateMachine", "CurrentState")
            for work in (state.write_value("Ready"), client.delete_nodes([state])):
                with pytest.raises(UaError):
                    await work
            faults = await child(client, "VisionStateMachine", "Faults")
            judged = await child(client, "Counts", "judged")
            return [await node.read_value() for node in (state, faults, judged)]

    for told, seen in (
        (status(judged=3), ["ContinuousExecution", "", 3]),
        (status("fault", faults=("camera top: is away",)), ["Error", "camera top: is away", 0]),
    ):
        output(told)
        wait_until(lambda: output._status is None)
        assert asyncio.run(read()) == seen


def test_a_client_that_is_gone_without_a_word_disturbs_nobody(served: tuple[Delivery, str]) -> None:
    output, url = served

    async def vanish() -> None:
        client = Client(url)
        await client.connect()
        subscription = await client.create_subscription(10, Listener())
        await subscription.subscribe_events(await child(client, "ResultManagement"))
        protocol: Any = client.uaclient.protocol
        protocol.transport.abort()
        output(part(9))
        wait_until(lambda: not output.waiting)
        async with Client(url) as other:
            assert (
                await (await child(other, "ResultManagement", "LastResult", "ResultId")).read_value() == "9"
            )
        client.uaclient.disconnect_socket()

    asyncio.run(vanish())
    assert not output.problem


def test_nobody_is_an_administrator_and_a_wrong_password_opens_nothing() -> None:
    anybody, known = _Users("", ""), _Users("scada", "right")
    for users, name, password, may in (
        (anybody, None, None, True),
        (anybody, "admin", "", True),
        (known, "scada", b"right", True),
        (known, "scada", "wrong", False),
        (known, "admin", "", False),
        (known, None, None, False),
    ):
        user = users.get_user(None, username=name, password=password)
        assert (user is not None) == may
        assert user is None or user.role.name == "User"


def test_a_port_that_is_taken_is_refused_with_the_remedy(served: tuple[Delivery, str]) -> None:
    port = int(served[1].partition("127.0.0.1:")[2].partition("/")[0])
    with pytest.raises(InputError, match=f"other: OPC UA cannot be served at 127.0.0.1 port {port}"):
        open_output(Options(port=port), Control(), "other")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"port": 0}, "port must be"),
        ({"user": "a"}, "user and password_file must both"),
        ({"cert_file": Path("c")}, "cert_file and key_file must both"),
    ],
)
def test_options_that_cannot_be_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Options(**given)
