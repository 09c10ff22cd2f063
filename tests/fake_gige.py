"""Aravis's fake GigE Vision camera over a drawn web whose lines carry their number, in a network of its own.

Started as a program, it serves until it is killed: `python fake_gige.py SERIAL WIDTH HEIGHT LOST`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from acl_runtime.files.errors import SourceError
from acl_runtime.sources.aravis_library import load_aravis, unref
from acl_runtime.sources.drawn_web import DrawnWeb, WebOptions

ADDRESS = "127.0.0.1"
NUMBER_PIXELS = 8  # of each line hold its number
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_FILL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32
)


@contextmanager
def loopback_only() -> Iterator[None]:
    """A network that has nothing but loopback, for this thread and those that it starts; skip where it cannot be.

    Aravis asks for cameras on every network card, and its fake one would send where no test listens.
    """
    try:
        load_aravis()
    except SourceError as error:
        pytest.skip(str(error))
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"a network of its own needs root ({os.strerror(ctypes.get_errno())})")
        try:
            _bring_up_loopback()
            yield
        finally:
            assert libc.setns(outside, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(outside)


def numbered_lines(web: DrawnWeb, first: int, out: np.ndarray) -> None:
    """Draw lines into (n, W) uint8; the first pixels of each are its number, most significant byte first."""
    web.lines(first, out)
    numbers = np.arange(first, first + len(out), dtype=">u8")
    out[:, :NUMBER_PIXELS] = numbers.view(np.uint8).reshape(-1, NUMBER_PIXELS)


def numbers_of(lines: np.ndarray) -> np.ndarray:
    """(n,) int64: the numbers that (n, W) uint8 lines carry."""
    return np.ascontiguousarray(lines[:, :NUMBER_PIXELS]).view(">u8").ravel().astype(np.int64)


class FakeCamera:
    """A camera at `ADDRESS`; `line` is the number of the next line that it exposes."""

    def __init__(self, serial: str, width: int, height: int, *, lost: float = 0.0) -> None:
        """Start it; it sends once somebody opens it.

        Args:
            serial: It is called Aravis-Fake-SERIAL.
            width: Pixels of a line, which the reader must set too.
            height: Lines of a block, likewise.
            lost: Probability, 0 to 1, that a packet is lost.
        """
        self.web = DrawnWeb(9, WebOptions(width=width, defects_per_m=20))
        self.line, self._shape = 0, (height, width)
        library = ctypes.CDLL("libaravis-0.8.so.0")
        pointer = ctypes.c_void_p
        self._data = _function(library, "arv_buffer_get_data", pointer, pointer, pointer)
        new = _function(library, "arv_gv_fake_camera_new", pointer, ctypes.c_char_p, ctypes.c_char_p)
        inner = _function(library, "arv_gv_fake_camera_get_fake_camera", pointer, pointer)
        set_pattern = _function(library, "arv_fake_camera_set_fill_pattern", None, pointer, _FILL, pointer)
        self._camera = new(ADDRESS.encode(), serial.encode())
        self.lose(lost)
        self._callback = _FILL(self._fill)
        set_pattern(inner(self._camera), self._callback, None)

    def lose(self, share: float) -> None:
        """Lose packets from now on, with this probability, 0 to 1."""
        arguments = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_double, ctypes.c_void_p)
        set_property = _function(ctypes.CDLL("libgobject-2.0.so.0"), "g_object_set", None, *arguments)
        set_property(self._camera, b"gvsp-lost-ratio", share, None)

    def close(self) -> None:
        """Switch it off."""
        if self._camera:
            unref(self._camera)
            self._camera = None

    def _fill(self, buffer: int, *_: object) -> None:
        size = ctypes.c_size_t()  # of what was received, which is nothing yet
        data = ctypes.cast(self._data(buffer, ctypes.byref(size)), ctypes.POINTER(ctypes.c_uint8))
        lines = np.ctypeslib.as_array(data, self._shape)
        numbered_lines(self.web, self.line, lines)
        self.line += len(lines)


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh", b"lo", 0) + bytes(14)
        flags = struct.unpack("16sh", fcntl.ioctl(probe, _SIOCGIFFLAGS, request)[:18])[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP) + bytes(14))


if __name__ == "__main__":
    camera = FakeCamera(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), lost=float(sys.argv[4]))
    print("ready", flush=True)
    sys.stdin.read()  # until the test closes it, or is gone
