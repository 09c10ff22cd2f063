"""The words that a PLC reads and writes, as a table: of the Modbus server, and of the data block of an S7.

Addresses count words from 0. A word is 16 bits; a long is two words, the high one first; a text has two characters a
word, the first in the high byte. In a data block of an S7 a word lies at byte 2 * address, high byte first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["bits", "word", "long", "text"]
TEXT_WORDS = 8
_WORDS = {"bits": 1, "word": 1, "long": 2, "text": TEXT_WORDS}


@dataclass(frozen=True)
class Register:
    """One value."""

    address: int
    name: str
    encoding: Encoding
    meaning: str

    @property
    def words(self) -> int:
        """How many it takes."""
        return _WORDS[self.encoding]


CONTROL = (
    Register(0, "control", "bits", "see the bits below; 1 (enable) before the PLC writes"),
    Register(
        1, "plc_heartbeat", "word", "the PLC changes it again and again; where it stops, the station warns"
    ),
    Register(2, "reserved", "word", "may be written, has no effect"),
    Register(
        3, "part_id", "text", "of the next part, or name of the roll that runs; 16 characters, zeros behind"
    ),
)
CONTROL_BITS = {
    "enable": "take parts; 0 stops",
    "ack": "the result was read: raise it while `valid` is 1, lower it when `valid` is 0",
    "new_roll": "rising: end the roll and begin another",
    "reset": "rising: set the counters to zero and clear `overrun`",
}
STATUS = (
    Register(16, "status", "bits", "see the bits below"),
    Register(
        17,
        "heartbeat",
        "word",
        "+1 each 100 ms while the station lives; what stands still must not be trusted",
    ),
    Register(
        18,
        "fault_code",
        "word",
        "0 none, 1 starts, 2 offline, 3 camera away, 4 other, 5 station gives no sign",
    ),
    Register(19, "number", "long", "of the part (web: of the record) whose result stands; 0 for none"),
    Register(21, "verdict", "word", "0 none, 1 OK, 2 NG, 3 not judged; only 1 is good"),
    Register(22, "score", "word", "10000 * score"),
    Register(23, "peak", "word", "10000 * peak of the map"),
    Register(24, "along", "long", "web: place along the roll, 0.1 mm"),
    Register(26, "across", "word", "web: place from the left edge, 0.1 mm"),
    Register(27, "width", "word", "web: of the defect, 0.1 mm"),
    Register(28, "length", "word", "web: of the defect, 0.1 mm"),
    Register(29, "lane", "word", "web: number at the end of the name of the defect's first lane; 0 for none"),
    Register(30, "judged", "long", "parts judged since the counters were reset"),
    Register(32, "ng", "long", "of these, NG"),
    Register(34, "lines_lost", "long", "web: lines that were not judged"),
    Register(36, "p99_ms", "word", "latency that 99 of 100 parts stayed under, ms"),
    Register(37, "bundle", "word", "first 4 hexadecimal digits of the checksum of the bundle's manifest"),
    Register(38, "defects", "word", "web: on the roll that runs"),
    Register(39, "not_judged", "long", "parts that were not judged"),
    Register(42, "result_part_id", "text", "id of the part whose result stands"),
)
STATUS_BITS = {
    "ready": "parts may come",
    "running": "parts are judged",
    "fault": "something keeps the station from judging: everything is NG",
    "valid": "a result stands in words 19 to 29 and 42 to 49, and was not acknowledged",
    "ng": "it is NG or not judged, or there is a fault",
    "overrun": "the PLC was too slow and a result was dropped; its number is missing, and it is NG",
    "camera_away": "a camera is away",
    "lines_lost": "web: lines were not judged since the counters were reset",
    "warning": "an operator should look at the station",
    "ok": "a valid result stands, and it is OK",
}
SIZE = 64  # words; those that no value has are 0
CONTROL_WORDS = 11
STATUS_ADDRESS = 16
VERDICTS = {"none": 0, "ok": 1, "ng": 2, "not judged": 3}
FAULTS = {"none": 0, "starts": 1, "offline": 2, "camera": 3, "other": 4, "silent": 5}


def encode_words(
    registers: Sequence[Register], values: Mapping[str, int | str], size: int = SIZE
) -> list[int]:
    """Values by name as words from address 0 on; a value without a name is 0, one too large is the largest."""
    words = [0] * size
    for register in registers:
        value = values.get(register.name, 0)
        words[register.address : register.address + register.words] = _encode(register.encoding, value)
    return words


def decode_text(words: Sequence[int]) -> str:
    """Text up to its first zero; bytes that are no printable ASCII become "?"."""
    data = b"".join(word.to_bytes(2, "big") for word in words).partition(b"\0")[0]
    return "".join(chr(each) if 32 <= each < 127 else "?" for each in data).strip()


def pack_bits(names: Mapping[str, str], is_set: Mapping[str, bool]) -> int:
    """Bits as a word, the first name being bit 0."""
    return sum(1 << place for place, name in enumerate(names) if is_set.get(name, False))


def unpack_bits(names: Mapping[str, str], word: int) -> dict[str, bool]:
    """The bits of a word by name."""
    return {name: bool(word >> place & 1) for place, name in enumerate(names)}


def _encode(encoding: Encoding, value: int | str) -> list[int]:
    if isinstance(value, str):
        data = value.encode("ascii", "replace")[: 2 * TEXT_WORDS].ljust(2 * TEXT_WORDS, b"\0")
        return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    if encoding == "text":
        return [0] * TEXT_WORDS
    if encoding == "long":
        number = min(max(value, 0), 0xFFFFFFFF)
        return [number >> 16, number & 0xFFFF]
    return [min(max(value, 0), 0xFFFF)]


def markdown_table(registers: Sequence[Register]) -> str:
    """The registers for a page of the documentation."""
    rows = ["| address | name | encoding | meaning |", "| --- | --- | --- | --- |"]
    for each in registers:
        place = str(each.address) if each.words == 1 else f"{each.address}-{each.address + each.words - 1}"
        rows.append(f"| {place} | {each.name} | {each.encoding} | {each.meaning} |")
    return "\n".join(rows)


def markdown_bits(names: Mapping[str, str]) -> str:
    """The bits of a word for a page of the documentation."""
    rows = ["| bit | name | meaning |", "| --- | --- | --- |"]
    return "\n".join(
        [*rows, *(f"| {place} | {name} | {text} |" for place, (name, text) in enumerate(names.items()))]
    )
