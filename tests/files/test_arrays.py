"""Files of arrays are read only where they are what they say, and before anything is allocated for them."""

from __future__ import annotations

import io
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from acl_runtime.files.arrays import read_array, read_arrays
from acl_runtime.files.errors import BundleError


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1") + body


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.array(5, np.uint8),
        np.zeros((0, 4), np.float16),
        np.array([True, False]),
        np.arange(4, dtype=">i4"),
    ],
)
def test_arrays_of_numbers_are_read_as_numpy_reads_them(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", one=array, two=array + array)
    np.savez_compressed(tmp_path / "b.npz", one=array, two=array + array)
    read = read_array(tmp_path / "a.npy", remedy="mend it")
    np.testing.assert_array_equal(read, array, strict=True)
    for name in ("a.npz", "b.npz"):
        two, one = read_arrays(tmp_path / name, ("two", "one"), remedy="mend it")
        np.testing.assert_array_equal(one, array, strict=True)
        np.testing.assert_array_equal(two, array + array, strict=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin"),
        (b"\x93NUMPY\x03\x00", "does not begin"),
        (npy("{" * 300), "is not an a(rray file|rchive)"),  # numpy raises tokenize.TokenError
        (npy("(" * 3000), "is not an a(rray file|rchive)"),  # numpy raises MemoryError
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"),
            "4000000000000 bytes, and 0",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 9,)}"), "malformed"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "its shape is none"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)), "its shape is none"),
        (npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", bytes(4)), "something else than numbers"),
        (
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
            "something else than numbers",
        ),
        (
            npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
            "something else than numbers",
        ),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)), "something else"),
        (
            npy("{'descr': 'f999999999999', 'fortran_order': False, 'shape': ()}"),
            "is not an a(rray file|rchive)",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}", bytes(4)), "other keys"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(5)), "4 bytes, and 5 follow"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\x00\x00\xc0\x7f"), "not finite"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\x00\x00\x80\x7f"), "not finite"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", bytes(4)), "9 axes"),
        (npy("#" * 5000), "a header of 5000 bytes is too long"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_in_a_sentence(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    for read in (
        lambda: read_array(tmp_path / "a.npy", remedy="mend it"),
        lambda: read_arrays(tmp_path / "a.npz", ["a"], remedy="mend it"),
    ):
        with pytest.raises(BundleError, match=message) as caught:
            read()
        assert str(caught.value).startswith(str(tmp_path))
        assert str(caught.value).endswith("; mend it")
        assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_refused_in_a_sentence_whichever_byte_it_is(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(40, dtype=np.float32))
    data = buffer.getvalue()
    refused = 0
    for at in range(len(data)):
        for flip in (0x01, 0xFF):
            (tmp_path / "a.npz").write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            try:
                (array,) = read_arrays(tmp_path / "a.npz", ["a"], remedy="mend it")
            except BundleError:
                refused += 1
            else:
                np.testing.assert_array_equal(array, np.arange(40))  # a date, or another field nobody reads
    assert refused > len(data)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"no item named 'b\.npy'"):
        read_arrays(tmp_path / "a.npz", ["b"], remedy="mend it")


def test_an_archive_is_not_unpacked_beyond_what_its_header_says(tmp_path: Path) -> None:
    header = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3000000000,)}")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        member.write(header)
        for _ in range(48):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match="the header says 3000000000 bytes, and 50331648 follow"):
        read_arrays(tmp_path / "bomb.npz", ["a"], remedy="mend it")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
