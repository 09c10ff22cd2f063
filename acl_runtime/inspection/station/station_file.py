"""STATION.toml: what a station is, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from acl_runtime.files.errors import InputError
from acl_runtime.files.toml_table import check_choice, check_keys, load_toml, read_table
from acl_runtime.inspection.station.outputs import OutputEntry, read_outputs
from acl_runtime.sources.address import Setting
from acl_runtime.sources.lines import parse_source
from acl_runtime.text.names import slug
from acl_runtime.web.records import Lane
from acl_runtime.web.rules import Density, Roller, Size, check_lanes

SECTIONS = ("station", "camera", "web", "gate", "output", "log")
_LARGEST = 1e9
_LONGEST_NAME = 64  # is written with every part


@dataclass(frozen=True, kw_only=True)
class StationSection:
    """`[station]`.

    Attributes:
        bundle: What judges.
        mode: "part" for a verdict per frame, "web" for an endless web.
        name: Of the station.
        data: Folder of its own, for what must survive a restart.
        backend: What runs the graph, as of `acl run --backend`.
        provider: Device of ONNX Runtime.
        triton: Address of a Triton server that computes, as of `acl run --triton`.
        threshold: Smallest score of a defect; then it alone decides. None for the bundle's rule.
        fast_resize: As of `acl run --fast-resize`.
        maps: Of which frames the anomaly map leaves the GPU, as of `acl run --maps`.
        time_limit_s: Longest that a call of the network may take, where the backend can keep it.
        stuck_s: Seconds without an answer of the network after which that is a fault, and the watchdog is not fed.
        most_waiting: Parts that wait for the network; a further one is not judged.
    """

    bundle: Path
    mode: Literal["part", "web"]
    name: str = "station"
    data: Path = Path("station-data")
    backend: str = "auto"
    provider: str = "auto"
    triton: str | None = None
    threshold: float | None = None
    fast_resize: bool = False
    maps: Literal["all", "defects"] = "all"
    time_limit_s: float | None = None
    stuck_s: float = 10.0
    most_waiting: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _check(self, {"stuck_s": (0.1, 3600), "most_waiting": (1, 1000)})
        if self.threshold is not None:
            _check(self, {"threshold": (0, 1)})
        if self.time_limit_s is not None:
            _check(self, {"time_limit_s": (0.01, 3600)})


@dataclass(frozen=True, kw_only=True)
class CameraSection:
    """`[[camera]]`.

    Attributes:
        source: As of `acl run`, such as `aravis:PART01`.
        name: Of the camera; by default after its source.
        settings: GenICam names and values, written in this order.
        deadline_ms: From exposure to the verdict; a part that has none by then is not judged. Part mode.
        interval_ms: A part is taken each so many ms of a camera that runs free; None: every frame is a part, because
            a light barrier triggers the camera. Part mode.
    """

    source: str
    name: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    deadline_ms: float = 1000.0
    interval_ms: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        parse_source(self.source)
        if len(self.name) > _LONGEST_NAME:
            raise InputError(f"name must have {_LONGEST_NAME} characters at most, got {len(self.name)}")
        _check(self, {"deadline_ms": (1, 3.6e6)})
        if self.interval_ms is not None:
            _check(self, {"interval_ms": (1, 3.6e6)})

    @property
    def pairs(self) -> tuple[Setting, ...]:
        """The settings as a camera takes them."""
        return tuple((name, str(value)) for name, value in self.settings.items())


@dataclass(frozen=True, kw_only=True)
class WebSection:
    """`[web]`, as the options of `acl web`.

    Attributes:
        mm_per_pixel: Size of a pixel across the web.
        mm_per_line: From a line to the next; None: as `mm_per_pixel`.
        roll: Name of the first roll.
        lanes: From and to in mm from the web's left edge, by name.
        background: Grey levels of what is seen beside the web; None where nothing is.
        edge_margin: Along the web's edges nothing is told so many mm inside.
        ignore_lanes: From and to in mm from the web's left edge of parts that do not count, by name.
        longest: Length in mm after which a defect is told in part.
        flush_after_s: Seconds without lines after which the web stands.
        encoder_counts: From a line to the next, where the camera sends them.
        flat_field: Folder of `acl camera reference`.
        ring: Lines that wait for the judging before any are lost.
        rows: Rows of tiles that share calls of the network.
        max_per_m2: More defects than that on a square metre are told as a rule that was met; None not to count.
        max_size: So is each defect that is longer or wider, in mm; None not to measure.
        lane_max_per_m2: As `max_per_m2`, in each of these lanes alone, by name.
        lane_max_size: As `max_size`, of defects that lie in these lanes, wholly or in part, by name.
        rollers: So are defects that repeat at a circumference in mm, by the roller's name.
    """

    mm_per_pixel: float
    mm_per_line: float | None = None
    roll: str = ""
    lanes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    background: tuple[int, int] | None = None
    edge_margin: float = 0.0
    ignore_lanes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    longest: float = 2000.0
    flush_after_s: float = 2.0
    encoder_counts: float | None = None
    flat_field: Path | None = None
    ring: int = 16_384
    rows: int = 1
    max_per_m2: int | None = None
    max_size: float | None = None
    lane_max_per_m2: Mapping[str, int] = field(default_factory=dict)
    lane_max_size: Mapping[str, float] = field(default_factory=dict)
    rollers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        ranges = {"mm_per_pixel": (1e-6, _LARGEST), "longest": (1, _LARGEST), "edge_margin": (0, _LARGEST)}
        _check(self, ranges | {"flush_after_s": (0.01, 3600), "ring": (64, 10_000_000), "rows": (1, 64)})
        if self.mm_per_line is not None:
            _check(self, {"mm_per_line": (1e-6, _LARGEST)})
        check_lanes(self.rules(), self.lanes_of_web())
        self.ignored()  # refuses those without width

    def rules(self) -> tuple[Density | Size | Roller, ...]:
        """What is looked for among defects."""
        rules: list[Density | Size | Roller] = [Roller(*each) for each in self.rollers.items()]
        rules += [] if self.max_per_m2 is None else [Density(self.max_per_m2)]
        rules += [Density(most, lane) for lane, most in self.lane_max_per_m2.items()]
        rules += [] if self.max_size is None else [Size(self.max_size)]
        rules += [Size(above_mm, lane) for lane, above_mm in self.lane_max_size.items()]
        return tuple(rules)

    def lanes_of_web(self) -> tuple[Lane, ...]:
        """The lanes."""
        return _to_lanes(self.lanes)

    def ignored(self) -> tuple[Lane, ...]:
        """What of the width does not count."""
        return _to_lanes(self.ignore_lanes)


def _to_lanes(lanes: Mapping[str, tuple[float, float]]) -> tuple[Lane, ...]:
    return tuple(Lane(name, left, right) for name, (left, right) in lanes.items())


@dataclass(frozen=True, kw_only=True)
class GateSection:
    """`[gate]`: what rejects parts further down the line. One of the two distances is given.

    Attributes:
        outputs: Names of the outputs that are told of a part when it is there; the others are told at once.
        distance_ms: Time from exposure to the gate, at constant speed.
        distance_counts: Encoder counts from exposure to the gate; negative where they fall. The camera sends them.
    """

    outputs: tuple[str, ...]
    distance_ms: float | None = None
    distance_counts: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if (self.distance_ms is None) == (self.distance_counts is None):
            raise InputError("needs distance_ms or distance_counts, and not both")
        if not self.outputs:
            raise InputError("outputs must name an output at least, got none")
        if self.distance_ms is not None:
            _check(self, {"distance_ms": (0, 3.6e6)})
        if self.distance_counts == 0:
            raise InputError("distance_counts must not be 0; without a distance leave [gate] out")


@dataclass(frozen=True, kw_only=True)
class LogSection:
    """`[log]`.

    Attributes:
        level: Least of what is logged.
        repeat_s: Seconds in which the same message is logged once.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    repeat_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _check(self, {"repeat_s": (0, 86_400)})


@dataclass(frozen=True, kw_only=True)
class StationFile:
    """All of it; `web` is there in web mode, `gate` where there is one."""

    path: Path
    station: StationSection
    cameras: tuple[CameraSection, ...]
    outputs: tuple[OutputEntry, ...]
    web: WebSection | None
    gate: GateSection | None
    log: LogSection


def load_station(path: Path) -> StationFile:
    """Read a station's file; paths in it are relative to its folder.

    Raises:
        InputError: Something in it is not what it must be; the message says where, and what is near.
        OSError: It cannot be read.
    """
    table = load_toml(path)
    name, folder = path.name, path.resolve().parent
    check_keys(table, SECTIONS, f"{name}:")

    def read(kind: type[Any], section: str) -> Any:
        return read_table(kind, _table(table, section, name), f"{name}: [{section}]", folder=folder)

    station: StationSection = read(StationSection, "station")
    cameras = [
        read_table(CameraSection, each, f"{name}: [[camera]]", folder=folder)
        for each in _tables(table, "camera", name)
    ]
    file = StationFile(
        path=path,
        station=station,
        cameras=_named(cameras),
        outputs=read_outputs(_tables(table, "output", name), f"{name}: [[output]]", folder=folder),
        web=read(WebSection, "web") if "web" in table else None,
        gate=read(GateSection, "gate") if "gate" in table else None,
        log=read(LogSection, "log"),
    )
    _check_together(file, name)
    return file


def _check_together(file: StationFile, name: str) -> None:
    """Raise InputError where sections do not fit each other."""
    is_web = file.station.mode == "web"
    if not file.cameras:
        raise InputError(f"{name}: needs a [[camera]]; acl serve --example shows how")
    if is_web != (file.web is not None):
        raise InputError(
            f"{name}: mode = {'web' if is_web else 'part'!r} and [web] belong together; see docs/station.md"
        )
    if is_web and (len(file.cameras) > 1 or file.gate is not None):
        raise InputError(f"{name}: a web has one [[camera]] and no [gate]; run a station per camera")
    for what, names in (
        ("camera", [each.name for each in file.cameras]),
        ("output", [each.name for each in file.outputs]),
    ):
        twice = {each for each in names if names.count(each) > 1}
        if twice:
            raise InputError(f"{name}: two [[{what}]] are called {twice.pop()}; give each a name of its own")
    gate = file.gate
    if gate is None:
        return
    for output in gate.outputs:
        check_choice(output, [each.name for each in file.outputs], f"{name}: [gate] outputs")
    for camera in file.cameras:
        if gate.distance_ms is not None and camera.deadline_ms > gate.distance_ms:
            raise InputError(
                f"{name}: [[camera]] {camera.name}: deadline_ms {camera.deadline_ms:g} must be at most distance_ms "
                f"{gate.distance_ms:g} of the gate, which the part has passed by then"
            )


def _table(table: Mapping[str, Any], section: str, name: str) -> dict[str, Any]:
    found = table.get(section, {})
    if not isinstance(found, dict):
        raise InputError(f"{name}: [{section}] is there once: write it with single brackets")
    return found


def _tables(table: Mapping[str, Any], section: str, name: str) -> list[dict[str, Any]]:
    found = table.get(section, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InputError(f"{name}: write [[{section}]] with double brackets, since there may be several")
    return found


def _named(cameras: list[CameraSection]) -> tuple[CameraSection, ...]:
    return tuple(
        camera if camera.name else replace(camera, name=slug(camera.source.partition("?")[0])[:_LONGEST_NAME])
        for camera in cameras
    )


def _check(section: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (least, most) in ranges.items():
        value = getattr(section, name)
        if not least <= value <= most:
            raise InputError(f"{name} must be {least:g} to {most:.10g}, got {value:g}")


def changes(before: StationFile, after: StationFile) -> list[tuple[str, object, object]]:
    """What differs: key, old value and new one, such as `[[camera]] left deadline_ms`."""
    found: list[tuple[str, object, object]] = []
    for section in ("station", "web", "gate", "log"):
        found += _differences(f"[{section}]", getattr(before, section), getattr(after, section))
    for what in ("camera", "output"):
        old = {each.name: each for each in getattr(before, f"{what}s")}
        new = {each.name: each for each in getattr(after, f"{what}s")}
        for name in {**old, **new}:
            found += _differences(f"[[{what}]] {name}", old.get(name), new.get(name))
    return found


def _differences(where: str, old: object, new: object) -> list[tuple[str, object, object]]:
    if old == new:
        return []
    if old is None or new is None or type(old) is not type(new):
        return [(where, old, new)]
    pairs = [(each.name, getattr(old, each.name), getattr(new, each.name)) for each in fields(old)]  # type: ignore[arg-type]
    return [(f"{where} {name}", before, after) for name, before, after in pairs if before != after]
