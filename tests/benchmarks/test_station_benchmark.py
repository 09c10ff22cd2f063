"""The benchmarks of the station: a short soak with every fault, and the latency."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from graphs import write_tiny_bundle

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.outputs.evidence.reader import EvidenceReader
from benchmarks.evidence import fill, queries, time_queries
from benchmarks.soak import ENDS, FAULTS, soak
from benchmarks.station import measure, table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("station") / "bundle")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sends signals")
def test_a_short_soak_tells_every_part_once(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    report = soak(bundle, tmp_path, seconds=6, per_s=15, side=64, pause_s=0.3, seed=843)  # a kill comes first
    assert (report.holes, report.doubles) == ([], [])
    assert report.parts > 20
    assert report.verdicts["ok"] + report.verdicts["ng"] > report.parts / 3
    assert set(report.faults) <= {*FAULTS, *ENDS}
    assert report.faults["kill"] > 0
    assert max(report.threads) <= 10  # a camera that is away has fewer; none is left behind by a fault
    assert "numbers missing 0, told twice 0" in report.text()


def test_latency_is_that_of_the_last_parts_and_of_nothing_else(bundle: Path) -> None:
    row = measure(bundle, "idle", parts=20, per_s=40, side=64, busy=0)
    assert row.latency_ms.shape == (20,)
    assert 0 < row.latency_ms.min() < 500
    assert "| idle | 20 | 0 |" in table([row])


def test_every_query_of_the_evidence_benchmark_finds_what_it_asks_for(tmp_path: Path) -> None:
    assert fill(tmp_path, 2000) > 0
    answers = {name: ask() for name, ask in queries(EvidenceReader(tmp_path), 2000).items()}
    nothing = {"a part that is not there", "a part, NG", "path of a picture", "reviewed as defect, OK"}
    assert {name for name, answer in answers.items() if not answer} == nothing
    assert len(time_queries(tmp_path, 2000)) == len(answers)
