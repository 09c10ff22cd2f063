"""Read `.npy` and `.npz` files that others may have made: numbers only, and nothing is believed before it is checked.

NumPy's own reader does more than we want here: it allocates what a header claims before it looks at the file, tries to
mend headers of Python 2, and raises a dozen kinds of error on damaged bytes.
"""

from __future__ import annotations

import ast
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from acl_runtime.files.errors import BundleError

MOST_BYTES = 1 << 31  # of one array; an embedded box has 8 GB in all
_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 4096  # numpy writes 118 for arrays like ours
_BLOCK = 1 << 24
_DAMAGE = (
    *(ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError),  # of a header
    *(
        BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ),  # of an archive
)


def read_array(path: Path | str, *, remedy: str) -> np.ndarray:
    """The array of a `.npy` file: integers, booleans or finite floats, of any shape.

    Args:
        path: The file.
        remedy: What the user should do about a file that is damaged.

    Raises:
        BundleError: The file is no such array, or of another length than its header says.
        OSError: It cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size)
        except _DAMAGE as error:
            raise BundleError(f"{path}: is not an array file ({_cause(error)}); {remedy}") from error


def read_arrays(path: Path | str, names: Sequence[str], *, remedy: str) -> list[np.ndarray]:
    """Arrays of a `.npz` file by their names; arguments and errors otherwise as of `read_array`."""
    with open(path, "rb") as file:
        try:
            with ZipFile(file) as archive:
                return [_read_member(archive, f"{name}.npy") for name in names]
        except _DAMAGE as error:
            raise BundleError(f"{path}: is not an archive of arrays ({_cause(error)}); {remedy}") from error


def list_arrays(path: Path | str, *, remedy: str) -> frozenset[str]:
    """The names of the arrays of a `.npz` file; arguments and errors as of `read_array`."""
    with open(path, "rb") as file:
        try:
            with ZipFile(file) as archive:
                return frozenset(name.removesuffix(".npy") for name in archive.namelist())
        except _DAMAGE as error:
            raise BundleError(f"{path}: is not an archive of arrays ({_cause(error)}); {remedy}") from error


def _read_member(archive: ZipFile, name: str) -> np.ndarray:
    member = archive.getinfo(name)
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in an unknown way")
    with archive.open(member) as file:
        array = _read(file, member.file_size)
        if file.read(1):  # and the end of the member, where its checksum is compared
            raise ValueError(f"{name} is longer than it says")
        return array


def _read(file: IO[bytes], size: int) -> np.ndarray:
    """The array of a file of `size` bytes."""
    dtype, shape, is_fortran, header_bytes = _read_header(file)
    length = math.prod(shape) * dtype.itemsize
    if length != size - header_bytes:
        raise ValueError(f"the header says {length} bytes, and {size - header_bytes} follow")
    if length > MOST_BYTES:
        raise ValueError(f"{length} bytes are more than the {MOST_BYTES} that one array may have")
    data = bytearray()  # grows with what is there, not with what an archive's entry claims
    while len(data) < length:
        block = file.read(min(_BLOCK, length - len(data)))
        if not block:
            raise EOFError("the file ends too early")
        data += block
    array: np.ndarray = np.frombuffer(data, dtype).reshape(shape[::-1] if is_fortran else shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("a number in it is not finite")
    return array.T if is_fortran else array


def _read_header(file: IO[bytes]) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape, whether the first axis runs fastest, and how many bytes the header has."""
    start = file.read(8)
    if start[:6] != _MAGIC or start[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError("it does not begin as one of format 1 or 2")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes is too long")
    text = file.read(length)
    header = ast.literal_eval(text.decode("ascii").strip())
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header has other keys")
    descr, is_fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("its shape is none")
    if not isinstance(descr, str) or np.dtype(descr).kind not in "biuf" or type(is_fortran) is not bool:
        raise ValueError("it holds something else than numbers")
    if len(shape) > 8:
        raise ValueError(f"it has {len(shape)} axes")
    return np.dtype(descr), shape, is_fortran, 8 + width + length


def _cause(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
