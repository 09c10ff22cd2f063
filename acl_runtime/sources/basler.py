"""`basler:SERIAL`: cameras of Basler through its own pypylon, where something is wanted that Aravis does not have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pypylon import genicam, pylon

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources.address import Address, Setting, check_range, read_options, suggest
from acl_runtime.sources.block import Block
from acl_runtime.sources.found import FoundCamera
from acl_runtime.sources.genicam import LONG_NUMBERS, SIXTEEN_BITS, check_taken, split_settings
from acl_runtime.sources.pixel_format import find_format

_UNKNOWN = 2**64 - 1  # number of a block whose leader did not come
_STRATEGIES = {"every": pylon.GrabStrategy_OneByOne, "newest": pylon.GrabStrategy_LatestImageOnly}


@dataclass(frozen=True, kw_only=True)
class BaslerOptions:
    """Options of `basler:SERIAL?...`, in small letters; GenICam settings may stand beside them, as with `aravis:`.

    Attributes:
        buffers: Blocks that wait for a slow reader.
        take: `every` block, or the `newest` where the reader is slow: those passed over are a gap in the numbers.
        encoder: Chunk that holds the encoder's count at the first line; empty for none.
        ignored: Chunk that counts the line triggers that the camera ignored; empty for none.
    """

    buffers: int = 32
    take: str = "every"
    encoder: str = ""
    ignored: str = ""


class BaslerSource:
    """A camera that sends; see `LineSource`."""

    is_live = True

    def __init__(self, address: Address, settings: Sequence[Setting] = ()) -> None:
        """Open the camera, write the settings and start.

        Args:
            address: Its name is the camera's serial number, its user-defined name or its IP address.
            settings: GenICam names and values, written in this order before those of the address, and read back.

        Raises:
            InputError: An option is not what it must be.
            SourceError: The camera is not there, is taken by another program, or a setting did not take.
        """
        own, of_text = split_settings(address)
        options = read_options(BaslerOptions, own, address.text)
        check_range(address.text, options, {"buffers": (2, 10_000)})
        if options.take not in _STRATEGIES:
            raise InputError(f"{address.text}: take must be every or newest, got {options.take}")
        self.name, self._options = address.text, options
        self._held: Any = None
        self._is_closed = False
        try:
            device = _find(address)
            self._camera = pylon.InstantCamera(pylon.TlFactory.GetInstance().CreateDevice(device))
            self._camera.Open()
        except genicam.GenericException as error:
            raise SourceError(
                f"{self.name}: cannot be opened ({_words(error)}); close other programs that use it"
            ) from error
        try:
            self._set_up([*settings, *of_text], is_gige=device.GetDeviceClass() == "BaslerGigE")
        except (genicam.GenericException, SourceError) as error:
            self.close()
            raise SourceError(f"{self.name}: {_words(error)}") from error

    def read(self, timeout_s: float) -> Block | None:
        """The next block, or None if none arrived in time.

        Raises:
            SourceError: The camera is gone.
        """
        if self._is_closed:
            raise SourceError(f"{self.name}: is closed; open it again")
        self._give_back()
        try:
            result = self._camera.RetrieveResult(round(timeout_s * 1000), pylon.TimeoutHandling_Return)
            now_ns = time.monotonic_ns()
            if result.IsValid():
                self._held = result
                return self._block(result, now_ns)
            is_gone = self._camera.IsCameraDeviceRemoved() or not self._camera.IsGrabbing()
        except genicam.GenericException as error:
            raise SourceError(f"{self.name}: broke ({_words(error)}); check its cable and power") from error
        if is_gone:
            raise SourceError(f"{self.name}: the camera does not answer any more; check its cable and power")
        return None

    def close(self) -> None:
        """Stop and give back what it holds; may be called twice and on a camera that is gone."""
        if self._is_closed:
            return
        self._is_closed = True
        self._give_back()
        try:
            self._camera.StopGrabbing()
            self._camera.Close()
        except genicam.GenericException:  # it is gone, as `read` said
            self._camera.DetachDevice()

    def _set_up(self, settings: Sequence[Setting], *, is_gige: bool) -> None:
        nodes = self._camera.GetNodeMap()
        for name, value in settings:
            _set(nodes.GetNode(name), name, value)
        self.width, self.height = (int(nodes.GetNode(name).Value) for name in ("Width", "Height"))
        self._format = find_format(nodes.GetNode("PixelFormat").ToString())
        long = nodes.GetNode(LONG_NUMBERS)
        is_short = is_gige and not (genicam.IsReadable(long) and long.ToString() == "On")
        self.numbers = SIXTEEN_BITS if is_short else None
        self._camera.MaxNumBuffer.Value = self._options.buffers
        self._camera.StartGrabbing(_STRATEGIES[self._options.take])

    def _block(self, result: Any, now_ns: int) -> Block:
        is_complete = bool(result.GrabSucceeded())
        number, shape = result.GetBlockID(), (result.GetHeight(), result.GetWidth())
        size = self._format.bytes_per_pixel * self.width
        if is_complete and (shape[1] != self.width or not 0 < shape[0] <= self.height):
            raise SourceError(f"{self.name}: sent a block of {shape[1]}×{shape[0]} pixels; open it again")
        raw = (
            np.frombuffer(result.GetMemoryView(), np.uint8)[: shape[0] * size]
            if is_complete
            else np.zeros(size, np.uint8)
        )
        return Block(
            lines=self._format.lines_of(raw, self.width),
            number=None if number == _UNKNOWN else number,
            complete=is_complete,
            first_encoder=self._chunk(result, self._options.encoder) if is_complete else None,
            ignored_triggers=self._chunk(result, self._options.ignored) if is_complete else None,
            exposed_ns=(result.GetTimeStamp() or None) if is_complete else None,
            received_ns=now_ns,
        )

    def _chunk(self, result: Any, name: str) -> int | None:
        if not name:
            return None
        if not result.IsChunkDataAvailable():
            raise SourceError(
                f"{self.name}: sends no {name}; switch it on with ChunkModeActive=true&ChunkSelector=...&"
                "ChunkEnable=true"
            )
        return int(result.GetChunkDataNodeMap().GetNode(name).Value)

    def _give_back(self) -> None:
        if self._held is not None:
            self._held.Release()
            self._held = None


def list_basler() -> list[FoundCamera]:
    """The cameras that pylon finds."""
    return [_describe(device) for device in pylon.TlFactory.GetInstance().EnumerateDevices()]


def _describe(device: Any) -> FoundCamera:
    return FoundCamera(
        source=f"basler:{device.GetSerialNumber()}",
        model=f"{device.GetVendorName()} {device.GetModelName()}",
        serial=device.GetSerialNumber(),
        address=device.GetIpAddress() if device.IsIpAddressAvailable() else "",
        link=device.GetDeviceClass(),
        other=device.GetUserDefinedName(),
    )


def _find(address: Address) -> Any:
    devices = pylon.TlFactory.GetInstance().EnumerateDevices()
    cameras = [_describe(device) for device in devices]
    for device, camera in zip(devices, cameras, strict=True):
        if address.name and address.name in (camera.serial, camera.other, camera.address):
            return device
    serials = [camera.serial for camera in cameras]
    there = ", ".join(serials) or "none; check cable and power"
    raise SourceError(f"{address.text}: no such camera{suggest(address.name, serials)}; there are: {there}")


def _set(node: Any, name: str, value: str) -> None:
    """Write a setting and read it back."""
    if not genicam.IsImplemented(node):
        raise SourceError(f"the camera has no setting {name}; write it as the camera's manual does")
    try:
        if isinstance(node, genicam.ICommand):
            node.Execute()
            return
        node.FromString(value)
        got = node.ToString()
    except genicam.GenericException as error:
        raise SourceError(
            f"{name}={value} was refused ({_words(error)}); see which values the camera takes"
        ) from error
    check_taken(name, value, got)


def _words(error: Exception) -> str:
    """The first sentence of an error, without the library's own file and line."""
    return " ".join(str(error).split(" : ")[0].split()).rstrip(".")
