"""Thresholds of a station that runs: changed between two frames, kept, taken back, and proposed from reviews."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from console import acl
from graphs import write_tiny_bundle
from stations import load, wait_until
from test_service import CAMERA, Box

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.change import restore_previous, set_by_hand
from acl_runtime.calibration.record import ByHand, MemoryImages, read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError, BundleError, InputError
from acl_runtime.inspection.station import proposal
from acl_runtime.inspection.station.outputs import KINDS
from acl_runtime.inspection.station.proposal import arguments, name_parts
from acl_runtime.inspection.station.service import Station
from acl_runtime.inspection.station.thresholds import StationThresholds
from acl_runtime.outputs.evidence.export import Exported
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.store import EvidenceStore
from acl_runtime.outputs.station import BusyError, ConflictError, ThresholdsNow
from acl_runtime.scoring.rule import Rule, bundle_rule

EVIDENCE = '[[output]]\nkind = "evidence"\nfolder = "evidence"\nsample_every = 1\nkeep_free_gb = 0.0\n'
EVERYTHING, NOTHING = 1e-6, 1.0  # scores from which the tiny network's parts are all NG, and none is


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "recording", "recording_output")
    monkeypatch.setattr(proposal, "NICENESS", 0)  # other tests would have the processor first


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("thresholds") / "bundle")


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    made.hold.set()
    yield made
    made.hold.set()


def change(
    station: Station, score: float, peak: float | None = None, *, by: str = "Ana", seen: str = ""
) -> ThresholdsNow:
    return station.thresholds.set(score, peak, seen=seen, by=by, effect=(3, 40))


def has_rows(reader: EvidenceReader, rows: int = 1) -> bool:
    try:
        return reader.counts().total() >= rows
    except InputError:  # the store is being made
        return False


def niceness(thresholds: StationThresholds) -> int:
    """Of the process that works out a proposal; 0 before there is one."""
    process = thresholds._proposer._process
    if process is None or process.poll() is not None:
        return 0
    return os.getpriority(os.PRIO_PROCESS, process.pid)


def judge_one(box: Box) -> str:
    before = len(box.output.parts)
    box.cameras["top"].push()
    wait_until(lambda: len(box.output.parts) > before, "the part")
    return box.output.parts[-1].verdict


def test_the_next_frame_is_judged_with_it_and_so_is_the_first_after_a_restart(
    bundle: Path, tmp_path: Path, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "acl"),
        box.running(load(tmp_path, bundle, CAMERA + EVIDENCE)) as station,
    ):
        first, session = station.status().bundle, station.engine.detector.session
        now = change(station, EVERYTHING)
        assert judge_one(box) == "ng"
        assert (now.by, now.record) == ("Ana", "calibrations/0001.json")
        assert "by Ana, no promise: 3 of the last 40 parts" in now.statement
        change(station, NOTHING, seen=now.record)
        assert judge_one(box) == "ok"
        assert station.status().bundle != first  # reviews of parts before do not count against it
        assert station.engine.detector.session is session  # nothing was loaded again
    assert [part.result.verdict.threshold for part in box.output.parts] == [EVERYTHING, NOTHING]  # type: ignore[union-attr]
    assert "thresholds set by hand by Ana: NG from score" in caplog.text
    told = acl("evidence", "changes", tmp_path / "evidence").stdout.splitlines()
    assert len(told) == 2
    assert "set by hand by Ana: NG from score 0.500 becomes score 0.000001; Set by hand on" in told[0]
    again = Box()
    again.hold.set()
    with again.running(load(tmp_path, bundle, CAMERA)) as station:
        assert judge_one(again) == "ok"
        assert station.thresholds.now.by == "Ana"


def test_parts_that_the_network_has_keep_theirs_and_the_next_has_the_new_ones(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        box.hold.clear()
        box.cameras["top"].push()
        wait_until(lambda: box.calls, "the network has it")
        change(station, EVERYTHING)  # answered while the network is busy
        box.hold.set()
        box.cameras["top"].push()
        wait_until(lambda: len(box.output.parts) == 2, "both")
    assert [part.result.verdict.threshold for part in box.output.parts] == [0.5, EVERYTHING]  # type: ignore[union-attr]


def test_it_holds_for_an_engine_that_is_opened_again(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        box.hold.clear()
        box.breaks.append(BackendError("the GPU fell off"))
        box.cameras["top"].push()
        wait_until(lambda: box.calls, "the network has it")
        change(station, EVERYTHING)
        box.hold.set()
        wait_until(lambda: box.output.parts and not station.engine.problem, "it is open again")
        assert judge_one(box) == "ng"


def test_an_engine_that_is_opened_again_judges_as_before_until_the_station_is_told_of_another_calibration(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        set_by_hand(Detector(bundle), Rule(NOTHING, None), ByHand(by="a command", parts=0, changed=0))
        engine, first = station.engine, station.engine.detector.session
        box.breaks.append(BackendError("the GPU fell off"))
        box.cameras["top"].push()
        wait_until(lambda: engine.detector.session is not first and not engine.problem, "it is open again")
        judge_one(box)
        assert box.output.parts[-1].result.verdict.threshold == station.thresholds.now.score == 0.5  # type: ignore[union-attr]
        box.reload.set()
        wait_until(lambda: station.thresholds.now.by == "a command", "it is taken over")
        judge_one(box)
        assert box.output.parts[-1].result.verdict.threshold == NOTHING  # type: ignore[union-attr]


def test_an_engine_of_a_bundle_that_was_replaced_is_not_opened_again(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    def run() -> None:
        with box.running(load(tmp_path, bundle, CAMERA)) as station:
            box.hold.clear()
            box.breaks.append(BackendError("the GPU fell off"))
            box.cameras["top"].push()
            wait_until(lambda: box.calls, "the network has it")
            shutil.rmtree(bundle)
            write_tiny_bundle(bundle, head="embeddings")
            box.hold.set()
            wait_until(lambda: station.status().state == "offline", "it ends")

    with pytest.raises(BundleError, match="was replaced since it was loaded; restart the station"):
        run()
    assert [part.verdict for part in box.output.parts] == ["not judged"]


def test_a_manifest_that_cannot_be_read_does_not_end_the_station(
    bundle: Path, tmp_path: Path, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)):
        (bundle / "manifest.json").unlink()
        (bundle / "manifest.json").mkdir()  # as root every file can be read
        box.reload.set()
        wait_until(lambda: "the station judges as before" in caplog.text, "it says so")
        assert judge_one(box) in ("ok", "ng")


def test_a_change_while_the_state_is_told_does_not_end_the_station(
    bundle: Path, tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        status = station.status()
        box.stop.set()
        wait_until(lambda: box.output.statuses[-1].state == "offline", "it ended")

    class Hurried:
        @property
        def state(self) -> str:
            station._told = None  # as another thread does
            return status.state

        def __getattr__(self, name: str) -> object:
            return getattr(status, name)

    monkeypatch.setattr(station, "status", Hurried)
    station._told = status
    station._told_s = float("inf")
    station._numbers = type("Numbers", (), {"keep_ahead": lambda self: None})()
    station._tick()


def test_a_calibration_that_cannot_judge_is_not_taken_over(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        loaded = load_bundle(bundle)
        without = replace(loaded, manifest=replace(loaded.manifest, prompts={"method": "memory"}))
        with pytest.raises(BundleError, match="cannot judge"):
            station.engine.take_over(without)
        assert judge_one(box) in ("ok", "ng")


def test_they_are_taken_back_one_by_one(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        first = change(station, EVERYTHING)
        second = change(station, NOTHING, seen=first.record)
        back = station.thresholds.restore(seen=second.record, by="Ben")
        assert (back.score, back.by, back.record) == (EVERYTHING, "Ana", first.record)
        assert judge_one(box) == "ng"
        assert station.thresholds.restore(seen=first.record, by="Ben").record == ""
        assert judge_one(box) in ("ok", "ng")
        with pytest.raises(InputError, match="nothing was before them"):
            station.thresholds.restore(seen="", by="Ben")
    assert box.output.parts[-1].result.verdict.threshold == 0.5  # type: ignore[union-attr]


def test_of_two_at_once_one_is_told_who_was_first(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        said: list[str] = []
        together = threading.Barrier(2)

        def set_one(by: str, score: float) -> None:
            together.wait()
            try:
                change(station, score, by=by)
            except ConflictError as error:
                said.append(str(error))

        threads = [threading.Thread(target=set_one, args=each) for each in (("Ana", 0.9), ("Ben", 0.8))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        winner = station.thresholds.now
        (sentence,) = said
        assert f"set by {winner.by}); look at them first" in sentence
        assert load_bundle(bundle).manifest.calibration.score_threshold == winner.score


@pytest.mark.parametrize(
    ("score", "peak"), [(0.0, None), (1.5, None), (-1.0, None), (0.5, 2.0), (float("nan"), None)]
)
def test_a_value_out_of_range_changes_nothing(
    bundle: Path, tmp_path: Path, box: Box, score: float, peak: float | None
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        with pytest.raises(InputError, match=r"must lie (above 0 and up to 1|in 0\.\.1), got"):
            change(station, score, peak)
        assert station.thresholds.now.record == ""
    assert load_bundle(bundle).manifest.calibration.source == "default"


def test_a_bundle_that_was_replaced_or_calibrated_meanwhile_is_left_alone(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        set_by_hand(Detector(bundle), Rule(0.9, None), ByHand(by="a command", parts=0, changed=0))
        with pytest.raises(ConflictError, match=r"was calibrated meanwhile .* systemctl reload"):
            change(station, 0.8)
        assert load_bundle(bundle).manifest.calibration.score_threshold == 0.9
        restore_previous(bundle)
        shutil.rmtree(bundle)
        write_tiny_bundle(bundle, head="embeddings")
        other = load_bundle(bundle)
        with pytest.raises(ConflictError, match="was replaced since it was loaded; restart"):
            change(station, 0.8)
        assert load_bundle(bundle) == other
        shutil.rmtree(bundle)
        with pytest.raises(ConflictError, match="is missing"):
            change(station, 0.8)
        assert judge_one(box) in ("ok", "ng")  # it goes on as before


def test_what_a_command_changed_is_taken_over_when_the_file_is_read_again(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        set_by_hand(Detector(bundle), Rule(EVERYTHING, None), ByHand(by="a command", parts=0, changed=0))
        box.reload.set()
        wait_until(lambda: station.thresholds.now.by == "a command", "it is taken over")
        assert judge_one(box) == "ng"
        assert acl("restore", bundle).exit_code == 0
        box.reload.set()
        wait_until(lambda: station.thresholds.now.record == "", "it is taken back")
        judge_one(box)
        assert box.output.parts[-1].result.verdict.threshold == 0.5  # type: ignore[union-attr]


def test_a_threshold_of_the_file_is_not_changed_from_elsewhere(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA, station="threshold = 0.7")) as station:
        assert (station.thresholds.now.score, station.thresholds.now.peak) == (0.7, None)
        with pytest.raises(InputError, match="take it out of the file first"):
            change(station, 0.9)
        with pytest.raises(InputError, match="take it out of the file first"):
            station.thresholds.restore(seen="", by="Ana")
        with pytest.raises(InputError, match="take it out of the file first"):
            station.thresholds.propose(tmp_path)


def test_reviews_become_a_proposal_that_is_accepted_between_two_frames_and_taken_back(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA + EVIDENCE)) as station:
        reader, thresholds = EvidenceReader(tmp_path / "evidence"), station.thresholds
        first = change(station, EVERYTHING)
        for _ in range(24):
            judge_one(box)
        wait_until(
            lambda: (tmp_path / "evidence" / "index.db").exists() and reader.counts().total() == 24, "rows"
        )
        store = next(each for each in station._tellers._outputs if each.name == "evidence")
        assert isinstance(store, EvidenceStore)
        for record in reader.records():
            store.review(record.number, "good", "Ana")
        thresholds.propose(reader.folder)
        with pytest.raises(BusyError, match="being worked out already"):
            thresholds.propose(reader.folder)
        assert judge_one(box) == "ng"  # meanwhile
        wait_until(
            lambda: thresholds.proposal is not None and thresholds.proposal.state != "working", "it is there"
        )
        found = thresholds.proposal
        assert found is not None
        assert found.state == "ready", found.words
        assert "With 20 good images" in found.words
        assert [path.name for path in (tmp_path / "data" / "proposal").iterdir()] == ["bundle"]
        assert "24 parts reviewed as good and 0 OK samples" in found.facts[0]
        assert "parts/" not in " ".join(found.facts)  # the pictures are gone
        assert thresholds.now == first  # nothing is in force before it is accepted
        with pytest.raises(ConflictError, match="other thresholds are in force"):
            thresholds.accept(seen="", proposal=found.id, by="Ben")
        with pytest.raises(ConflictError, match="other thresholds are proposed by now; look at them first"):
            thresholds.accept(seen=first.record, proposal="one that was dropped", by="Ben")
        assert thresholds.now == first
        accepted = thresholds.accept(seen=first.record, proposal=found.id, by="Ben")
        assert (accepted.score, accepted.peak, accepted.statement) == (
            found.score,
            found.peak,
            found.words,
        )
        assert (accepted.by, thresholds.proposal) == ("", None)
        assert not (tmp_path / "data" / "proposal").exists()
        judge_one(box)
        assert thresholds.restore(seen=accepted.record, by="Ben") == first
        assert judge_one(box) == "ng"
    scores = [part.result.verdict.threshold for part in box.output.parts]  # type: ignore[union-attr]
    assert scores[-2:] == [found.score, EVERYTHING]
    lines = [
        json.loads(line) for line in (tmp_path / "evidence" / "thresholds.jsonl").read_text().splitlines()
    ]
    assert [(line["how"], line["by"]) for line in lines] == [
        ("set by hand", "Ana"),
        ("measured anew", "Ben"),
        ("taken back", "Ben"),
    ]
    assert bundle_rule(load_bundle(bundle).manifest.calibration) == Rule(EVERYTHING, None)


def test_a_proposal_that_fails_says_why_and_one_that_is_dropped_ends(
    bundle: Path, tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA + EVIDENCE)) as station:
        thresholds = station.thresholds
        judge_one(box)
        reader = EvidenceReader(tmp_path / "evidence")
        wait_until(lambda: has_rows(reader), "a row")
        thresholds.propose(tmp_path / "evidence")
        wait_until(
            lambda: thresholds.proposal is not None and thresholds.proposal.state == "failed", "it fails"
        )
        assert thresholds.proposal is not None
        assert "images" in thresholds.proposal.words
        assert not (tmp_path / "data" / "proposal").exists()
        with pytest.raises(InputError, match="work them out first"):
            thresholds.accept(seen="", proposal="", by="Ana")
        monkeypatch.setattr(proposal, "NICENESS", 19)
        thresholds.propose(tmp_path / "evidence")
        wait_until(lambda: niceness(thresholds) == 19, "the process gives way to the station")
        thresholds.drop()
        assert thresholds.proposal is None
        assert not (tmp_path / "data" / "proposal").exists()


def test_the_proposal_asks_for_what_the_calibration_before_was_asked(bundle: Path, tmp_path: Path) -> None:
    station = load(tmp_path, bundle, CAMERA, station="fast_resize = true").station
    plain = arguments(station, None, Exported(good=10))
    assert "--defective" not in plain
    assert plain[plain.index("--max-overkill") + 1] == "0.01"
    assert "--fast-resize" in plain
    assert "--defective" in arguments(station, None, Exported(good=10, bad=1))


def test_what_to_know_of_a_proposal_names_parts_as_the_page_does() -> None:
    line = "look at these: parts/good/0000000450.png (score 0.974), parts/bad/0000000007.jpg; 2 of 3 parts"
    assert name_parts(line) == "look at these: part 450 (score 0.974), part 7; 2 of 3 parts"


def test_the_proposal_keeps_mask_memory_and_server_of_the_calibration_before(
    bundle: Path, tmp_path: Path
) -> None:
    station = load(tmp_path, bundle, CAMERA, station='triton = "gpu-box:8000/parts"').station
    by_hand = set_by_hand(Detector(bundle), Rule(0.9, None), ByHand(by="Ana", parts=0, changed=0))
    record = read_record(by_hand)
    assert record is not None
    memory = MemoryImages(
        file="calibrations/0001.npz",
        kind="subspace+place",
        patches=0,
        images=3,
        sources=("a", "b"),
        merged=(),
        chosen_by="user",
        evidence={},
    )
    with_mask = replace(record, ignore="calibrations/0001.ignore.png", memory=memory)
    asked = arguments(station, with_mask, Exported(good=10))

    def value(name: str) -> str:
        return asked[asked.index(name) + 1]

    assert value("--triton") == "gpu-box:8000/parts"
    assert value("--ignore") == "bundle/calibrations/0001.ignore.png"
    assert (value("--memory"), value("--memory-kind")) == ("2", "subspace+place")
    drawn = replace(record, memory=replace(memory, chosen_by="drawn defects"))
    assert "--memory-kind" not in arguments(station, drawn, Exported(good=10))
    asked = arguments(station, replace(record, memory=replace(memory, merged=("other",))), Exported(good=10))
    assert "--memory" not in asked
    assert value("--merge") == "bundle/calibrations/0001.npz"
    assert value("--memory-kind") == "subspace+place"
