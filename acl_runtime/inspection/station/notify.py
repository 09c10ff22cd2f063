"""What systemd wants to hear, as datagrams to the socket that it names."""

from __future__ import annotations

import logging
import os
import socket

LOG = logging.getLogger("acl")


def notify(*lines: str) -> bool:
    """Tell systemd, such as "READY=1", "STATUS=judging", "WATCHDOG=1", "STOPPING=1"; False if nobody hears it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto("\n".join(lines).encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:  # no reason to stop inspecting
        LOG.warning("systemd does not hear the station: %s", error.strerror, extra={"again": True})
        return False
    return True


def watchdog_period_s() -> float | None:
    """How often to say WATCHDOG=1: half of what the unit allows; None where it has no watchdog for this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    allowed_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    return allowed_us / 2e6 if allowed_us else None
