"""Part mode as a station runs it: the line of parts with its cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from acl_runtime.detection.verdict import Result
from acl_runtime.images.frame import Frame
from acl_runtime.inspection.station.camera import StationCamera
from acl_runtime.inspection.station.counters import Counters
from acl_runtime.inspection.station.judge import Engine
from acl_runtime.inspection.station.part_line import PartLine
from acl_runtime.inspection.station.part_numbers import PartNumbers
from acl_runtime.inspection.station.station_file import CameraSection, StationFile
from acl_runtime.inspection.station.tellers import Tellers
from acl_runtime.sources.block import LineSource


class PartMode:
    """Cameras, parts and the gate; see `Mode` of the service."""

    def __init__(
        self,
        engine: Engine,
        numbers: PartNumbers,
        file: StationFile,
        *,
        tellers: Tellers,
        counters: Counters,
        open_source: Callable[[CameraSection], LineSource],
    ) -> None:
        """Say what is judged with what; `start` begins.

        Args:
            engine: Judges.
            numbers: Of the parts.
            file: Of the station.
            tellers: Are told.
            counters: Of the station.
            open_source: Opens a camera.
        """
        self._line = PartLine(
            engine,
            numbers,
            file.cameras,
            file.gate,
            tell=tellers.tell,
            tell_gate=tellers.tell_gate,
            counters=counters,
            most_waiting=file.station.most_waiting,
        )
        self._cameras = [StationCamera(each, self._line, open_source=open_source) for each in file.cameras]

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread."""
        failures = [self._line.failure, *(camera.failure for camera in self._cameras)]
        return next((each for each in failures if each is not None), None)

    @property
    def camera_problems(self) -> Mapping[str, str]:
        """Why each camera is away, by name; empty for one that is there."""
        return {camera.name: camera.problem for camera in self._cameras}

    @property
    def is_known(self) -> bool:
        """Whether the state of every camera is known."""
        return all(camera.is_known for camera in self._cameras)

    def start(self) -> None:
        """Begin to judge, then to read."""
        self._line.start()
        for camera in self._cameras:
            camera.start()

    def finish(self, within_s: float) -> None:
        """Read no more, judge what waits for so long at most, and tell the rest."""
        for camera in self._cameras:
            camera.stop()
        self._line.finish(within_s)

    def close(self) -> None:
        """Wait until the cameras were given back."""
        for camera in self._cameras:
            camera.join()

    def set_enabled(self, enabled: bool) -> None:
        """Begin or stop to take parts."""
        self._line.set_enabled(enabled)

    def set_part_id(self, part_id: str) -> None:
        """Name the next part of each camera."""
        self._line.set_part_id(part_id)

    def begin_roll(self) -> None:
        """Nothing: parts have no rolls."""

    def set_camera(self, section: CameraSection) -> None:
        """Take over a deadline or an interval."""
        self._line.set_section(section)
        for camera in self._cameras:
            if camera.name == section.name:
                camera.set_section(section)

    def inspect(self, frame: Frame) -> Result:
        """Judge a picture that is no part; see `StationControl`."""
        return self._line.inspect(frame)
