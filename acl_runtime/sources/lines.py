"""Open a camera by what the user calls it; every camera's library is imported in its own module only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acl_runtime.files.errors import InputError
from acl_runtime.sources.address import Address, Setting, hide_password, parse_address, suggest
from acl_runtime.sources.block import LineSource

_NET = ("rtsp", "rtsps", "http", "https")


@dataclass(frozen=True)
class Entry:
    """A kind of source.

    Attributes:
        open: Makes the source of an address.
        example: How it is written.
        takes_settings: Whether it has GenICam settings.
    """

    open: Callable[[Address, Sequence[Setting]], LineSource]
    example: str
    takes_settings: bool = False


def open_line_source(text: str, settings: Sequence[Setting] = ()) -> LineSource:
    """Open a line camera, an area camera, or what stands in for one.

    Args:
        text: Such as `aravis:LINE01`, see `SCHEMES`; a folder of strips or a video may be named by its path alone, a
            USB camera by its number.
        settings: GenICam names and values, written in this order before those that the text itself gives.

    Raises:
        InputError: There is no such kind of source, or what is said of it is not what it must be.
        SourceError: The camera is away, or refuses a setting.
        FileNotFoundError: There is no such file or folder.
    """
    address = parse_source(text)
    entry = SCHEMES[address.scheme]
    if settings and not entry.takes_settings:
        names = ", ".join(name for name, _ in settings)
        raise InputError(f"{text}: has no GenICam settings ({names}); leave them out")
    return entry.open(address, settings)


def parse_source(text: str) -> Address:
    """Take the text of a source apart, whose scheme is one of `SCHEMES`; see `open_line_source`."""
    scheme, separator, _ = text.partition(":")
    if separator and scheme in (*_NET, "gst"):  # where a question mark is no mark of ours
        return Address(text, scheme, text.partition(":")[2], ())
    if separator and scheme in SCHEMES:
        return parse_address(text)
    if text.isascii() and text.isdecimal() and not os.path.exists(text):
        return parse_address(f"opencv:{text}")
    if os.path.exists(text.partition("?")[0]):
        address = parse_address(f"strips:{text}")
        return Address(text, address.scheme, address.name, address.pairs)
    text = hide_password(text)
    known = ", ".join(entry.example for entry in SCHEMES.values())
    if separator:
        raise InputError(f"{text}: no source is called {scheme}{suggest(scheme, SCHEMES)}; there are {known}")
    raise FileNotFoundError(f"{text}: no such file or folder, and no source is called so; there are {known}")


def is_source(text: str) -> bool:
    """Whether the text names a camera rather than a file."""
    scheme, separator, _ = text.partition(":")
    return bool(separator) and scheme in SCHEMES and not os.path.exists(text)


def _open_drawn(address: Address, settings: Sequence[Setting]) -> LineSource:
    from acl_runtime.sources.drawn import DrawnSource

    return DrawnSource(address)


def _open_basler(address: Address, settings: Sequence[Setting]) -> LineSource:
    from acl_runtime.sources.basler import BaslerSource

    return BaslerSource(address, settings)


def _open_strips(address: Address, settings: Sequence[Setting]) -> LineSource:
    from acl_runtime.sources.strips import StripSource

    return StripSource(address)


def _open_aravis(address: Address, settings: Sequence[Setting]) -> LineSource:
    from acl_runtime.sources.aravis import AravisSource

    return AravisSource(address, settings)


def _open_opencv(address: Address, settings: Sequence[Setting]) -> LineSource:
    from acl_runtime.sources.opencv import OpenCVSource

    return OpenCVSource(address)


SCHEMES = {
    "aravis": Entry(_open_aravis, "aravis:NAME", takes_settings=True),
    "drawn": Entry(_open_drawn, "drawn:SEED"),
    "basler": Entry(_open_basler, "basler:SERIAL", takes_settings=True),
    "opencv": Entry(_open_opencv, "opencv:NUMBER"),
    **{scheme: Entry(_open_opencv, f"{scheme}://ADDRESS") for scheme in _NET},
    "gst": Entry(_open_opencv, "gst:PIPELINE"),
    "strips": Entry(_open_strips, "strips:FOLDER"),
}
