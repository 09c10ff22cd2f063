"""Every known fault is found on the machine that it befalls, and only there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acl_runtime.doctor.known_bad import TABLE, is_within, known_faults, read_table


@pytest.mark.parametrize(
    ("version", "capability", "symptoms"),
    [
        ("10.2.0.19", "8.9", ["wrong results"]),
        ("10.3.0.26", "8.7", ["wrongly in fp16", "finds no kernel"]),  # Orin, JetPack 6.1 and 6.2
        ("10.3.0.26", "9.0", ["wrongly in fp16"]),
        ("10.4.0.26", "8.6", ["in fp32 too", "finds no kernel"]),  # RTX A6000
        ("10.4.1.1", "9.0", ["vision transformers wrongly, in fp32 too"]),
        ("10.7.0.23", "8.6", ["both scaled", "finds no kernel"]),  # A10G
        ("10.7.0.23", "8.9", ["both scaled"]),  # L4
        ("10.5.0.18", "8.9", []),
        ("10.8.0.43", "8.6", []),
        ("10.10.0.31", "12.0", ["fused attention"]),  # RTX 50
        ("10.16.1.11", "12.0", ["fused attention", "crashes"]),
        ("10.16.2.1", "12.0", []),
        ("10.11.0.33", "8.9", ["all but the first image"]),  # RTX 40
        ("11.1.0.106", "12.0", ["all but the first image", "mixes the images"]),
        ("11.1.0.1", "9.0", []),
        ("10.13.3.9", "11.0", ["R38.4", "corrupts attention"]),  # Thor, JetPack 7.1
        ("10.13.2.6", "11.0", ["R38.4"]),
        ("10.14.1.48", "11.0", []),
        ("11.0.0.1", "11.0", ["no DLA"]),
    ],
)
def test_a_fault_is_found_where_it_befalls(version: str, capability: str, symptoms: list[str]) -> None:
    found = known_faults("tensorrt", version, capability)
    assert len(found) == len(symptoms)
    assert all(symptom in fault.symptom for symptom, fault in zip(symptoms, found, strict=True))
    assert known_faults("tensorrt-rtx", version, capability) == ()


def test_every_row_has_a_machine_above() -> None:
    machines = [mark.args[1] for mark in test_a_fault_is_found_where_it_befalls.pytestmark]  # type: ignore[attr-defined]
    found = {fault for version, gpu, _ in machines[0] for fault in known_faults("tensorrt", version, gpu)}
    assert found == set(read_table(TABLE))


def test_where_the_gpu_is_not_known_only_what_befalls_any_is_told() -> None:
    assert [fault.versions for fault in known_faults("tensorrt", "10.3.0.26", None)] == ["==10.3"]


def test_a_fault_is_a_sentence_with_the_remedy() -> None:
    assert str(known_faults("tensorrt", "11.1", "8.9")[0]) == (
        "tensorrt 11.1 computes all but the first image of a batch wrongly (TensorRT issue 4853): "
        "build with --batch 1, or take another TensorRT"
    )


@pytest.mark.parametrize(
    ("version", "versions", "expected"),
    [
        ("10.16.1.11", "<=10.16.1", True),
        ("10.16.1.11", "<10.16.1", False),
        ("10.9", ">=10.10", False),
        ("10", "==10.0", True),
        ("10.3.0.26", "==10.3", True),
        ("10.13.3.9.post1", "==10.13.3.9", True),
        ("11.4.1", ">10,<12", True),
    ],
)
def test_versions_are_compared_as_numbers(version: str, versions: str, expected: bool) -> None:
    assert is_within(version, versions) is expected


@pytest.mark.parametrize("versions", ["10.3", "~=10", "", ">=10.3;<11", "=10", ">=10.3,<=oops"])
def test_a_range_that_is_none_is_refused(tmp_path: Path, versions: str) -> None:
    table = json.loads(TABLE.read_text())
    table["faults"][0]["versions"] = versions
    (tmp_path / "table.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="versions must be comparisons such as"):
        read_table(tmp_path / "table.json")
