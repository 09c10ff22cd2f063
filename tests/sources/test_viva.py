"""Another maker's GigE Vision camera, viva-genicam's: packets lost at chosen places, sent again, and chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from fake_gige import loopback_only

from acl_runtime.files.errors import SourceError
from acl_runtime.sources.lines import open_line_source

testing = pytest.importorskip(
    "viva_genicam.testing", reason="viva-genicam, which is made for x86-64 only, is not installed"
)
LEADER = 0  # packet of a block
LOST = [(1, LEADER), (3, 5), (5, 1), (7, LEADER)]
CHUNKS = "ChunkModeActive=true&ChunkSelector=FrameID&ChunkEnable=true&encoder=ChunkFrameID"
Seen = tuple[int | None, bool, int | None]


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    with loopback_only():
        yield


def read(options: str, *, resend: bool) -> list[Seen]:
    """Number, whether complete, and encoder of the first nine blocks."""
    seen: list[Seen] = []
    with (
        testing.FakeGigeCamera(1024, 64, 100, packet_resend=resend, drop_packets=LOST),
        closing(open_line_source(f"aravis:127.0.0.1?buffers=4&{options}")) as source,
    ):
        while len(seen) < 9:
            block = source.read(5.0)
            assert block is not None
            assert block.lines.shape == (64, 1024)
            assert (block.exposed_ns is not None) == block.complete
            seen.append((block.number, block.complete, block.first_encoder))
    return seen


def test_packets_that_the_camera_sends_again_are_not_lost() -> None:
    assert read("packet=1400", resend=True) == [(number, True, None) for number in range(1, 10)]


def test_a_block_has_no_number_without_its_leader_even_where_the_buffer_was_used_before() -> None:
    expected: list[Seen] = [(number, True, None) for number in range(1, 10)]
    for block, packet in LOST:
        expected[block - 1] = (None if packet == LEADER else block, False, None)
    assert read("packet=1400", resend=False) == expected


def test_a_chunk_of_a_complete_block_tells_its_encoder() -> None:
    encoders = [encoder for _, _, encoder in read(CHUNKS, resend=False)]
    assert encoders == [None, 2, None, 4, None, 6, None, 8, 9]


def test_a_chunk_that_the_camera_does_not_send_is_an_error() -> None:
    with pytest.raises(
        SourceError, match="sends no ChunkEncoderValue .*; switch it on with ChunkModeActive=true"
    ):
        read("encoder=ChunkEncoderValue", resend=True)
