"""Cameras that are there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FoundCamera:
    """A camera that answered.

    Attributes:
        source: What to call it, such as `aravis:Basler-raL4096-24gm-21700000`.
        model: Maker and model.
        serial: Serial number.
        address: IP or USB address; empty where the library does not say.
        link: Such as `GigEVision`.
        other: Another name by which it can be opened, such as its MAC address.
    """

    source: str
    model: str
    serial: str
    address: str
    link: str
    other: str = ""
