"""What adapters of GenICam cameras share: settings that are read back, and how blocks are counted."""

from __future__ import annotations

import math

from acl_runtime.files.errors import SourceError
from acl_runtime.sources.address import Address, Setting

SIXTEEN_BITS = range(1, 65536)  # block numbers of GigE Vision 1; there is no 0
LONG_NUMBERS = "GevGVSPExtendedIDMode"  # On: block numbers have 64 bits, an option of GigE Vision 2
_ROUNDED = 1e-3  # share by which a camera may round a number with a fraction to steps of its own
_WORDS = {"1": "true", "on": "true", "yes": "true", "0": "false", "off": "false", "no": "false"}


def split_settings(address: Address) -> tuple[list[Setting], list[Setting]]:
    """Options of ours and GenICam settings of a camera's text; the names of settings begin with a capital."""
    own = [pair for pair in address.pairs if not pair[0][:1].isupper()]
    return own, [pair for pair in address.pairs if pair[0][:1].isupper()]


def check_taken(name: str, wanted: str, got: str) -> None:
    """Raise SourceError unless the camera has what was written.

    A number with a fraction may be rounded by a thousandth, to steps of the camera's own.

    Args:
        name: Of the setting.
        wanted: What was written.
        got: What the camera said when it was read back.
    """
    if not _is_same(wanted.casefold(), got.casefold()):
        raise SourceError(
            f"{name}={wanted} did not take: the camera has {got}; set what it can do, or change the settings' order"
        )


def _is_same(wanted: str, got: str) -> bool:
    if wanted == got or _WORDS.get(wanted, wanted) == _WORDS.get(got, got):
        return True
    try:
        one, other = float(wanted), float(got)
    except ValueError:
        return False
    return one == other or ("." in got and math.isclose(one, other, rel_tol=_ROUNDED))
