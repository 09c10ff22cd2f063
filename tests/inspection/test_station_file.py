"""A station's file: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from recording_output import Options

from acl_runtime.files.errors import InputError
from acl_runtime.inspection.station.outputs import KINDS
from acl_runtime.inspection.station.station_file import (
    CameraSection,
    GateSection,
    LogSection,
    StationSection,
    WebSection,
    changes,
    load_station,
)
from acl_runtime.web.rules import Density, Size

PART = """
[station]
bundle = "bundle"
mode = "part"
[[camera]]
source = "drawn:1"
"""
WEB = PART.replace('"part"', '"web"') + "[web]\nmm_per_pixel = 0.1\n"
OUTPUT = '[[output]]\nkind = "recording"\nname = "coil"\npath = "x.jsonl"\n'


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "recording", "recording_output")


def write(folder: Path, text: str) -> Path:
    path = folder / "s.toml"
    path.write_text(text)
    return path


def test_the_least_file_has_defaults_for_all_else(tmp_path: Path) -> None:
    file = load_station(write(tmp_path, PART))
    assert (file.station.bundle, file.station.data) == (tmp_path / "bundle", tmp_path / "station-data")
    (camera,) = file.cameras
    assert (camera.name, camera.deadline_ms, camera.interval_ms) == ("drawn-1", 1000.0, None)
    assert (file.web, file.gate, file.outputs, file.log.level) == (None, None, (), "info")


def test_all_sections_are_read(tmp_path: Path) -> None:
    text = (
        PART
        + 'name = "top"\nsettings = { TriggerMode = "On", ExposureTime = 300 }\ndeadline_ms = 200\n'
        + OUTPUT
    )
    text += '[gate]\noutputs = ["coil"]\ndistance_ms = 500\n[log]\nlevel = "warning"\n'
    file = load_station(write(tmp_path, text))
    assert file.cameras[0].pairs == (("TriggerMode", "On"), ("ExposureTime", "300"))
    assert file.gate is not None
    assert (file.gate.outputs, file.gate.distance_ms) == (("coil",), 500.0)
    assert file.outputs[0].options == Options(path=tmp_path / "x.jsonl")
    web = load_station(
        write(tmp_path, WEB + "lanes = { A = [0, 150], B = [150, 300.5] }\nbackground = [0, 30]\n")
    ).web
    assert web is not None
    assert [(lane.name, lane.right_mm) for lane in web.lanes_of_web()] == [("A", 150.0), ("B", 300.5)]
    assert web.background == (0, 30)


def test_a_web_has_rules_for_its_whole_width_and_for_lanes(tmp_path: Path) -> None:
    text = WEB + "lanes = { A = [0, 150], B = [150, 300] }\nmax_size = 20\nmax_per_m2 = 9\n"
    text += "lane_max_size = { A = 5 }\nlane_max_per_m2 = { A = 1, B = 3 }\n"
    web = load_station(write(tmp_path, text)).web
    assert web is not None
    assert set(web.rules()) == {Size(20), Density(9), Size(5, "A"), Density(1, "A"), Density(3, "B")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PART + "[gates]\n", "s.toml: has no key gates; did you mean gate? there are station, camera"),
        (PART + "deadlin_ms = 3\n", "[[camera]] has no key deadlin_ms; did you mean deadline_ms?"),
        (PART.replace('mode = "part"', ""), "s.toml: [station] needs mode; acl serve --example shows how"),
        (
            PART.replace('"part"', '"parts"'),
            "mode must be one of part, web, got 'parts' (did you mean part?)",
        ),
        (PART + 'deadline_ms = "3"\n', "deadline_ms must be a number, got '3'"),
        (PART + "deadline_ms = nan\n", "deadline_ms must be a number, got nan"),
        (PART + "deadline_ms = 0\n", "deadline_ms must be 1 to 3600000, got 0"),
        (PART.replace("drawn:1", "dran:1"), "dran:1: no source is called dran (did you mean drawn?)"),
        (PART.replace("[[camera]]", "[camera]"), "write [[camera]] with double brackets"),
        (PART.partition("[[camera]]")[0], "needs a [[camera]]"),
        (PART + '[[camera]]\nsource = "drawn:1"\n', "two [[camera]] are called drawn-1; give each a name"),
        (PART + "[web]\nmm_per_pixel = 1\n", "mode = 'part' and [web] belong together"),
        (WEB + '[[camera]]\nsource = "drawn:2"\n', "a web has one [[camera]] and no [gate]"),
        (WEB + "lanes = { A = [5, 1] }\n", "lane A must go from a smaller to a larger number"),
        (WEB + "lanes = { A = [5] }\n", "lanes.A must be a list of 2, got [5]"),
        (WEB + "lane_max_size = { A = 5 }\n", "[web] there is no lane A, there are none; say where it lies"),
        (
            WEB + "lanes = { A = [0, 5] }\nlane_max_per_m2 = { B = 3 }\n",
            "[web] there is no lane B, there are A; say where it lies",
        ),
        (WEB + "rollers = { R7 = 1 }\n", "[web] roller R7 must repeat 2 times at least"),
        (PART + "[[output]]\n", "[[output]] needs a kind; there are modbus-server"),
        (PART + '[[output]]\nkind = "mqqt"\n', "got 'mqqt' (did you mean mqtt?)"),
        (PART + OUTPUT + "port = 1\n", "[[output]] coil has no key port; there are path"),
        (
            PART + OUTPUT + '[gate]\noutputs = ["oil"]\ndistance_ms = 5000\n',
            "[gate] outputs must be one of coil, got 'oil' (did you mean coil?)",
        ),
        (
            PART + OUTPUT + '[gate]\noutputs = ["coil"]\n',
            "needs distance_ms or distance_counts, and not both",
        ),
        (
            PART + OUTPUT + '[gate]\noutputs = ["coil"]\ndistance_ms = 500\n',
            "deadline_ms 1000 must be at most distance_ms 500 of the gate",
        ),
        ("[station\n", "s.toml: is no TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_is_near(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_station(write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_changes_name_the_section_the_key_and_both_values(tmp_path: Path) -> None:
    before = load_station(write(tmp_path, PART + OUTPUT))
    text = PART.replace('mode = "part"', 'mode = "part"\nthreshold = 0.5') + "deadline_ms = 7\n"
    after = load_station(write(tmp_path, text))
    assert [(key, old, new) for key, old, new in changes(before, after) if "output" not in key] == [
        ("[station] threshold", None, 0.5),
        ("[[camera]] drawn-1 deadline_ms", 1000.0, 7.0),
    ]
    assert [(key, new) for key, _, new in changes(before, after) if "output" in key] == [
        ("[[output]] coil", None)
    ]
    assert changes(before, before) == []


@pytest.mark.parametrize("section", [StationSection, CameraSection, WebSection, GateSection, LogSection])
def test_every_key_is_in_the_documentation(section: type[Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "station.md").read_text(encoding="utf-8")
    assert not [field.name for field in fields(section) if f"`{field.name}`" not in page]
