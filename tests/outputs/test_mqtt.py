"""MQTT with Debian's mosquitto as the broker and paho as a plant that listens."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from station_events import Control, defect, free_port, part, status, wait_until
from tls import certified

from acl_runtime.files.errors import InputError
from acl_runtime.outputs import mqtt
from acl_runtime.outputs.delivery import Delivery
from acl_runtime.outputs.mqtt import Options, open_output
from acl_runtime.outputs.station import WebRecord

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
if MOSQUITTO is None:
    pytest.skip("mosquitto is not installed (apt-get install mosquitto)", allow_module_level=True)

DIES = """
import sys
sys.path[:0] = sys.argv[2:]
from station_events import Control, status
from acl_runtime.outputs.mqtt import Options, open_output
output = open_output(Options(host="127.0.0.1", port=int(sys.argv[1]), topic="acl/dies"), Control(), "mes")
output(status())
sys.stdin.read()
"""


class Mosquitto:
    """A broker that can be killed, hung and started again."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._conf = folder / "mosquitto.conf"
        who = ["user root"] if os.getuid() == 0 else []
        self._conf.write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "log_dest none", *who, *lines]) + "\n"
        )
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self._conf)])
        wait_until(self._answers, "mosquitto answers")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Plant:
    """Listens to everything; what came, by topic."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, dict[str, Any], int, bool]] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_message = self._take
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        wait_until(self.client.is_connected)

    def _take(self, client: Any, userdata: Any, message: Any) -> None:
        self.got.append((message.topic, json.loads(message.payload), message.qos, message.retain))

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [record for each, record, *_ in list(self.got) if each == topic]

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.kill()


@pytest.fixture
def plant(broker: Mosquitto) -> Iterator[Plant]:
    plant = Plant(broker.port)
    yield plant
    plant.leave()


def tell(port: int, **options: Any) -> Delivery:
    return open_output(Options(host="127.0.0.1", port=port, topic="acl/line1", **options), Control(), "mes")


def numbers(plant: Plant) -> list[int]:
    return [record["number"] for record in plant.of("acl/line1/verdict")]


def test_a_plant_hears_states_verdicts_defects_rolls_and_metrics(broker: Mosquitto, plant: Plant) -> None:
    output = tell(broker.port, metrics_s=1.0)
    output(status(judged=7))
    for number in (1, 2, 3):
        output(part(number, "ng" if number == 2 else "ok", part_id=f"P{number}"))
    output(defect(4))
    summary = {"event": "summary", "defects": 1}
    output(WebRecord(number=5, camera="web", roll="R1", record=summary))
    output(WebRecord(number=6, camera="web", roll="R1", record={"event": "judged"}))
    wait_until(lambda: plant.of("acl/line1/roll") and plant.of("acl/line1/metrics"))
    verdicts = plant.of("acl/line1/verdict")
    assert [each["number"] for each in verdicts] == [1, 2, 3]
    assert {
        key: verdicts[1][key] for key in ("schema", "event", "part_id", "verdict", "camera", "is_anomalous")
    } == {
        **{
            "schema": 1,
            "event": "part",
            "part_id": "P2",
            "verdict": "ng",
            "camera": "top",
            "is_anomalous": True,
        }
    }
    assert verdicts[1]["exposed_at"] == "2027-01-15T08:00:02.000Z"
    assert plant.of("acl/line1/defect")[0]["record"]["y_mm"] == 123.4
    assert plant.of("acl/line1/roll")[0]["record"] == summary
    (metrics,) = plant.of("acl/line1/metrics")[:1]
    assert (metrics["schema"], metrics["judged"]) == (1, 7)
    (state,) = plant.of("acl/line1/state")
    assert (state["schema"], state["state"], state["cameras"]) == (1, "running", {"top": True})
    assert {(topic, qos) for topic, _, qos, _ in plant.got} >= {
        ("acl/line1/verdict", 1),
        ("acl/line1/metrics", 0),
    }
    late = Plant(broker.port)  # who comes later sees the state and the last roll, and nothing else
    wait_until(lambda: len(late.got) >= 2)
    assert {topic for topic, *_ in late.got} == {"acl/line1/state", "acl/line1/roll"}
    late.leave()
    output.close(2)
    wait_until(lambda: plant.of("acl/line1/state")[-1]["state"] == "offline")
    assert output.dropped == 0


def test_a_state_is_told_again_only_where_it_changed(broker: Mosquitto, plant: Plant) -> None:
    output = tell(broker.port)
    for state in (status(judged=1), status(judged=2), status("fault", faults=("camera top: is away",))):
        output(state)
        wait_until(lambda: output._status is None)
    wait_until(lambda: len(plant.of("acl/line1/state")) == 2)
    assert [each["state"] for each in plant.of("acl/line1/state")] == ["running", "fault"]
    assert plant.of("acl/line1/state")[1]["faults"] == ["camera top: is away"]
    output.close(2)


def test_verdicts_wait_while_the_broker_is_away_up_to_the_bound(broker: Mosquitto, plant: Plant) -> None:
    output = tell(broker.port, most_waiting=50)
    output(part(1))
    wait_until(lambda: numbers(plant) == [1])
    broker.kill()
    wait_until(lambda: "is away" in output.problem)
    for number in range(2, 102):
        output(part(number))
    assert output.dropped == 50
    broker.start()
    wait_until(lambda: not output.problem and output.waiting == 0)
    output.close(2)
    plant.leave()
    # who listened before may have come back too late for them; that all arrived at the broker is what QoS 1 says
    assert output.dropped == 50


def test_what_waited_arrives_in_order_at_a_plant_whose_session_is_kept(broker: Mosquitto) -> None:
    broker.kill()
    output = tell(broker.port)
    wait_until(lambda: "is away" in output.problem)
    for number in range(1, 31):
        output(part(number))
    broker.start()
    plant = Plant(broker.port)
    wait_until(lambda: not output.waiting)
    output(part(31))
    wait_until(lambda: numbers(plant)[-1:] == [31])
    assert numbers(plant) == sorted(set(numbers(plant)))
    plant.leave()
    output.close(2)


def test_a_broker_that_hangs_delays_nobody_and_gets_everything_later(
    broker: Mosquitto, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.3)
    output = tell(broker.port)
    output(part(1))
    wait_until(lambda: numbers(plant) == [1])
    broker.process.send_signal(signal.SIGSTOP)
    began = time.perf_counter()
    for number in range(2, 12):
        output(part(number))
    assert time.perf_counter() - began < 0.2
    wait_until(lambda: output.problem)
    broker.process.send_signal(signal.SIGCONT)
    wait_until(lambda: set(numbers(plant)) == set(range(1, 12)))
    assert sorted(set(numbers(plant))) == list(dict.fromkeys(numbers(plant)))  # at least once, in order
    output.close(2)
    assert output.dropped == 0


def test_a_broker_that_comes_and_goes_leaves_no_file_open(broker: Mosquitto) -> None:
    output = tell(broker.port)
    wait_until(lambda: not output.problem)
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()  # it would tidy up, some day
    try:
        broker.kill()
        wait_until(lambda: output.problem)
        broker.start()
        wait_until(lambda: not output.problem)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()
    output.close(2)


def test_the_broker_says_offline_for_a_station_that_was_killed(broker: Mosquitto, plant: Plant) -> None:
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", DIES, str(broker.port), tests, str(Path(tests).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as station:
        wait_until(lambda: plant.of("acl/dies/state"))
        assert plant.of("acl/dies/state")[-1]["state"] == "running"
        station.kill()
    wait_until(lambda: plant.of("acl/dies/state")[-1] == {"schema": 1, "event": "status", "state": "offline"})


def test_who_may_not_write_is_told_and_what_is_refused_is_counted(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("user box\ntopic write acl/line1/state\ntopic read #\n")
    passwords = tmp_path / "passwords"
    passwords.write_text("box:$7$101$" + "invalid\n")
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "box", "right"], check=True)
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("wrong\n")
    wrong = tell(broker.port, user="box", password_file=secret)
    wait_until(lambda: "refuses the station" in wrong.problem)
    assert wrong.problem.endswith("see user and password_file")
    wrong.close(0.1)
    secret.write_text("right\n")
    output = tell(broker.port, user="box", password_file=secret)
    output(status())
    output(part(1))
    wait_until(lambda: output.dropped == 1)
    assert not output.problem
    output.close(2)
    secret.chmod(0o644)
    with pytest.raises(InputError, match="others may read it; run: chmod 600"):
        tell(broker.port, user="box", password_file=secret)
    broker.kill()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves the socket to the collector
def test_tls_takes_only_the_broker_whose_certificate_is_trusted(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path, "IP:127.0.0.1")
    broker = Mosquitto(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    output = tell(broker.port, tls=True, ca_file=certificate)
    output(part(1))
    wait_until(lambda: not output.problem and not output.waiting)
    output.close(2)
    stranger = tell(broker.port, tls=True)
    wait_until(lambda: "certificate" in stranger.problem.lower())
    stranger.close(5)
    gc.collect()
    broker.kill()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"topic": "acl/#"}, "topic must be like acl/line1"),
        ({"topic": "acl/"}, "topic must be like acl/line1"),
        ({"ca_file": Path("ca.pem")}, "need tls = true"),
        ({"password_file": Path("p")}, "needs a user"),
        ({"keepalive_s": 0}, "keepalive_s must be 1"),
        ({"tls": True, "cert_file": Path("c")}, "must both be given"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Options(host="broker", **options)
