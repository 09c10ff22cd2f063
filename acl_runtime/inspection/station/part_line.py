"""Part mode: cameras, one engine and the gate, in threads around the book of parts.

Each camera has a thread that numbers its parts, a judge takes what waits of all cameras together, or else a picture
that is no part, and a clock tells what was late and what is at the gate. One lock is held for moments only: never
while a frame is read or judged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import BackendError
from acl_runtime.images.frame import Frame
from acl_runtime.inspection.station.camera import Exposure
from acl_runtime.inspection.station.counters import Counters
from acl_runtime.inspection.station.gate import Gate
from acl_runtime.inspection.station.guest import Guests
from acl_runtime.inspection.station.judge import Engine
from acl_runtime.inspection.station.part_book import Part, PartBook
from acl_runtime.inspection.station.part_numbers import PartNumbers
from acl_runtime.inspection.station.station_file import CameraSection, GateSection
from acl_runtime.outputs.station import PartResult

IDLE_S = 0.1  # longest sleep of a thread before it looks around
_WEIGHT = 0.2  # of the last batch in the time that a part is thought to take
MOST_FOLLOWED = 10_000  # parts between a camera and the gate

Tell = Callable[[PartResult], None]


class PartLine:
    """The parts of a station, from their exposure to the outputs."""

    def __init__(
        self,
        engine: Engine,
        numbers: PartNumbers,
        cameras: Sequence[CameraSection],
        gate: GateSection | None,
        *,
        tell: Tell,
        tell_gate: Tell,
        counters: Counters,
        most_waiting: int,
    ) -> None:
        """Say what is judged with what; `start` begins.

        Args:
            engine: Judges.
            numbers: Of the parts.
            cameras: Sections of the file.
            gate: What rejects; None where outputs do that at once.
            tell: Called with each part once its verdict is known.
            tell_gate: Called with each part when it is at the gate.
            counters: Of the station.
            most_waiting: Parts that wait for the network.
        """
        self._engine, self._numbers, self._tell_gate, self._tell = engine, numbers, tell_gate, tell
        self._sections = {camera.name: camera for camera in cameras}
        self._gate, self._gates = gate, _make_gates(gate, cameras)
        self._verdicts: dict[int, PartResult] = {}  # of parts on their way to the gate
        self._book = PartBook(self._take_result, most_waiting=most_waiting)
        self._counters, self._most_waiting = counters, most_waiting
        self._changed = threading.Condition(threading.RLock())
        self._guests, self._each_ns = Guests(self._changed), 0  # time that the network takes for a part
        self._part_ids: dict[str, str] = {}
        self._enabled = True
        self._ended = threading.Event()
        self.failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=work.__name__.strip("_"), daemon=True)
            for work in (self._judge, self._clock)
        ]

    # What other threads ask for

    def start(self) -> None:
        """Tell what the last process left, and begin to judge."""
        with self._changed:
            for number, camera in self._numbers.left:
                reason = "the station was stopped before it was told"
                self._tell(
                    PartResult(
                        number=number,
                        part_id="",
                        camera=camera,
                        verdict="not judged",
                        reason=reason,
                        exposed_at=time.time(),
                        latency_ms=0.0,
                    )
                )
                self._numbers.told(number)
        for thread in self._threads:
            thread.start()

    def expose(self, exposure: Exposure) -> None:
        """Take a part of a camera, from its thread."""
        with self._changed:
            if not self._enabled or self._ended.is_set():
                return
            now_ns = time.monotonic_ns()
            camera = self._sections[exposure.camera]
            part = Part(
                number=self._numbers.reserve(exposure.camera),
                part_id=self._part_ids.pop(exposure.camera, ""),
                camera=exposure.camera,
                exposed_ns=exposure.exposed_ns,
                exposed_at=time.time() - (now_ns - exposure.exposed_ns) / 1e9,
                deadline_ns=exposure.exposed_ns + round(camera.deadline_ms * 1e6),
                frame=exposure.frame,
            )
            self._guests.see(part.frame)
            self._follow(part, exposure)
            self._book.expose(part, now_ns, problem=self._problem_of(exposure))
            self._changed.notify_all()

    def move(self, camera: str, counts: int) -> None:
        """Take the count of a camera's encoder."""
        with self._changed:
            if self._follows_counts:
                self._pass_gate(self._gates[camera].arrived(counts), "not judged before it was at the gate")

    def set_enabled(self, enabled: bool) -> None:
        """Begin or stop to take parts."""
        with self._changed:
            self._enabled = enabled

    def set_part_id(self, part_id: str) -> None:
        """Name the next part of each camera."""
        with self._changed:
            self._part_ids = dict.fromkeys(self._sections, part_id)

    def set_section(self, section: CameraSection) -> None:
        """Take over a camera's deadline."""
        with self._changed:
            self._sections[section.name] = section

    def lose_place(self, camera: str) -> None:
        """Say that nobody knows where the parts of a camera are: its encoder is away."""
        with self._changed:
            if self._follows_counts:
                self._pass_gate(self._gates[camera].give_up(), "its place is not known", is_lost=True)

    def inspect(self, frame: Frame) -> Result:
        """Judge a picture that is no part; see `StationControl`."""
        with self._changed:
            deadline_ms = min(section.deadline_ms for section in self._sections.values())
            problem = self._engine.problem or ("parts wait" if self._book.waiting else "")
            return self._guests.inspect(
                frame, problem=problem, each_ms=self._each_ns / 1e6, deadline_ms=deadline_ms
            )

    @property
    def has_room(self) -> bool:
        """Whether no part waits for the network: a recording has time, and its parts have deadlines."""
        with self._changed:
            return not self._book.waiting

    def finish(self, within_s: float) -> None:
        """Judge what waits and let parts reach the gate, for so long at most; the rest is NOT JUDGED."""
        until = time.monotonic() + within_s
        with self._changed:
            self._changed.wait_for(lambda: self._is_done() or self.failure is not None, timeout=within_s)
            self._book.give_up_all("the station stopped", time.monotonic_ns())
            for gate in self._gates.values():
                self._pass_gate(gate.give_up(), "the station stopped before it was at the gate", is_lost=True)
            self._ended.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.5, until - time.monotonic()))
        self._engine.is_abandoned = any(thread.is_alive() for thread in self._threads)

    def _is_done(self) -> bool:
        """Whether nothing is on its way any more; cameras are stopped, so no encoder moves parts to the gate."""
        return not len(self._book) and (self._follows_counts or not any(map(len, self._gates.values())))

    # Threads

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # it is raised where the station waits
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    def _judge(self) -> None:
        while not self._ended.is_set():
            self._engine.beat()
            with self._changed:
                self._changed.wait_for(
                    lambda: self._book.waiting or self._guests.waiting or self._ended.is_set(), IDLE_S
                )
                started_ns = time.monotonic_ns()
                parts = self._book.take(self._most(), started_ns, self._each_ns)
                guest = None if parts else self._guests.take()
                frames = [part.frame for part in parts if part.frame is not None]
            self._engine.renew()
            judged = 0
            try:
                for result in self._engine.detector.stages.judge(frames if guest is None else [guest]):
                    if guest is None:
                        self._settle(parts[judged], result)
                        judged += 1
                    else:
                        self._guests.answer(guest, result)
            except BackendError as error:
                self._guests.fail(error)
                self._fail(parts[judged:], f"the network failed: {error}")
                if not self._engine.reopen(error, self._ended):
                    return
                self._each_ns = 0
            if judged:
                took_ns, before_ns = (time.monotonic_ns() - started_ns) // judged, self._each_ns
                self._each_ns += round(_WEIGHT * (took_ns - before_ns)) if before_ns else took_ns

    def _most(self) -> int:
        """Parts to judge together, such that a call of the network does not look stuck."""
        if not self._each_ns:
            return 1
        within_ns = self._engine.stuck_after_s * 1e9 / 2
        return max(1, min(self._engine.detector.bundle.manifest.max_batch, int(within_ns / self._each_ns)))

    def _settle(self, part: Part, result: Result) -> None:
        with self._changed:
            self._book.judge(part, result, time.monotonic_ns())
            self._changed.notify_all()
        if self._engine.drift is not None:  # after the verdict: it is in no hurry
            self._engine.drift.watch(result)

    def _fail(self, parts: Sequence[Part], reason: str) -> None:
        with self._changed:
            for part in parts:
                self._book.fail(part, reason, time.monotonic_ns())
            self._engine.problem = reason
            for part in self._book.take(self._most_waiting, time.monotonic_ns()):
                self._book.fail(part, "the network is away", time.monotonic_ns())

    def _clock(self) -> None:
        while not self._ended.is_set():
            with self._changed:
                now_ns = time.monotonic_ns()
                self._book.expire(now_ns)
                for gate in self._gates.values() if not self._follows_counts else ():
                    self._pass_gate(gate.arrived(now_ns), "not judged before it was at the gate")
                self._changed.notify_all()
                self._changed.wait(self._sleep_s(now_ns))

    def _sleep_s(self, now_ns: int) -> float:
        """Until the next part is late or at the gate."""
        times = [self._book.next_deadline_ns]
        if not self._follows_counts:
            times += [gate.next_at for gate in self._gates.values()]
        waits = [(at - now_ns) / 1e9 for at in times if at is not None]
        return min(IDLE_S, max(0.0, min(waits, default=IDLE_S)))

    # The gate; called with the lock

    @property
    def _follows_counts(self) -> bool:
        return self._gate is not None and self._gate.distance_counts is not None

    def _problem_of(self, exposure: Exposure) -> str:
        """Why a part cannot be judged; empty if it can."""
        if exposure.problem:
            return exposure.problem
        if self._follows_counts and exposure.encoder is None:
            return "the camera sent no count of the encoder, so nobody knows when it is at the gate"
        return "the network is away" if self._engine.problem else ""

    def _follow(self, part: Part, exposure: Exposure) -> None:
        gate = self._gates.get(part.camera)
        if gate is None:
            return
        if len(gate) >= MOST_FOLLOWED:
            self._pass_gate(gate.give_up(), "too many parts wait for the gate", is_lost=True)
        gate.add(part.number, exposure.encoder if self._follows_counts else part.exposed_ns)

    def _pass_gate(self, numbers: Sequence[int], reason: str, *, is_lost: bool = False) -> None:
        for number in numbers:
            self._book.give_up(number, reason, time.monotonic_ns())
            result = self._verdicts.pop(number)
            self._tell_gate(_not_judged(result, reason) if is_lost else result)

    def _take_result(self, result: PartResult) -> None:
        """Tell of a part, once, and remember it for the gate."""
        if result.camera in self._gates:
            self._verdicts[result.number] = replace(result, result=None)  # pictures would fill the memory
        self._counters.count(result)
        self._tell(result)
        self._numbers.told(result.number)


def _make_gates(gate: GateSection | None, cameras: Sequence[CameraSection]) -> dict[str, Gate]:
    if gate is None:
        return {}
    if gate.distance_ms is not None:
        return {camera.name: Gate(round(gate.distance_ms * 1e6)) for camera in cameras}
    assert gate.distance_counts is not None
    return {camera.name: Gate(gate.distance_counts, wraps=True) for camera in cameras}


def _not_judged(result: PartResult, reason: str) -> PartResult:
    return replace(result, verdict="not judged", reason=reason)
