"""`aravis:NAME|ADDRESS`: GigE Vision and USB3 Vision cameras, line and area."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acl_runtime.files.errors import SourceError
from acl_runtime.sources.address import Address, Setting, check_range, read_options, suggest
from acl_runtime.sources.aravis_library import (
    CONTINUOUS,
    NOT_SUPPORTED,
    ON_LOST,
    SIZE_MISMATCH,
    SUCCESS,
    connect_lost,
    disconnect,
    is_command,
    load_aravis,
    unref,
)
from acl_runtime.sources.block import Block
from acl_runtime.sources.found import FoundCamera
from acl_runtime.sources.genicam import LONG_NUMBERS, SIXTEEN_BITS, check_taken, split_settings
from acl_runtime.sources.pixel_format import find_format

LOG = logging.getLogger("acl")
_CLOSE_S = 2.0
_FAKE = "Fake_"  # Aravis's camera without a network


@dataclass(frozen=True, kw_only=True)
class AravisOptions:
    """Options of `aravis:NAME?...`, in small letters; GenICam settings begin with a capital and may stand beside them.

    Attributes:
        buffers: Blocks that wait for a slow reader; those that come when all are full are lost.
        packet: Bytes of a GigE Vision packet, IP and UDP headers included, such as 9000 where the network card and all
            switches have jumbo frames; 0 leaves what the camera has.
        encoder: Chunk that holds the encoder's count at the first line, such as ChunkEncoderValue; empty for none. The
            settings must switch it on.
        ignored: Chunk that counts the line triggers that the camera ignored; empty for none.
    """

    buffers: int = 32
    packet: int = 0
    encoder: str = ""
    ignored: str = ""


@dataclass
class _Handles:
    """What the library gave, and what it writes into; 0 for what there is not yet."""

    camera: int
    device: int  # the camera's own
    lost: threading.Event  # set by the library when the camera is gone
    handler: Any  # that sets it; called as long as it is connected
    connection: int
    lock: threading.Lock  # held while a thread reads: at the program's end another one releases all of it
    stream: int = 0
    parser: int = 0
    memory: dict[int, np.ndarray] = field(default_factory=dict)  # buffer -> its bytes


class AravisSource:
    """A camera that sends; see `LineSource`."""

    is_live = True

    def __init__(self, address: Address, settings: Sequence[Setting] = ()) -> None:
        """Open the camera, write the settings and start.

        Args:
            address: Its name is the camera's id, serial number, MAC address or IP address, see `list_aravis`.
            settings: GenICam names and values, written in this order before those of the address, and read back.

        Raises:
            InputError: An option is not what it must be.
            SourceError: The camera is not there, is taken by another program, or a setting did not take.
        """
        own, of_text = split_settings(address)
        settings = [*settings, *of_text]
        options = read_options(AravisOptions, own, address.text)
        check_range(address.text, options, {"buffers": (2, 10_000), "packet": (0, 65535)})
        self.name, self._options = address.text, options
        self._is_fake = address.name.startswith(_FAKE)
        self._arv = load_aravis()
        self._held = 0  # the buffer of the block that was read last
        try:
            self._handles = _open(_find(address))
        except SourceError as error:
            raise SourceError(
                f"{self.name}: cannot be opened ({error}); acl camera list says what is there"
            ) from error
        # What nobody closes must stop too, or the library's thread would write into freed memory.
        self._release = weakref.finalize(self, _release, self._handles)
        try:
            self._set_up(settings)
        except SourceError as error:
            self.close()
            raise SourceError(f"{self.name}: {error}") from error

    def read(self, timeout_s: float) -> Block | None:
        """The next block, or None if none arrived in time.

        Raises:
            SourceError: The camera is gone, or it sends something else than it was set to.
        """
        timeout_us = max(0, round(timeout_s * 1e6))
        if not self._release.alive:
            raise SourceError(f"{self.name}: is closed; open it again")
        with self._handles.lock:
            if not self._handles.stream:  # the program ends
                return None
            self._give_back()
            self._held = self._arv.stream_timeout_pop_buffer(self._handles.stream, timeout_us) or 0
            if self._held:
                return self._block(self._held, time.monotonic_ns())
        if self._handles.lost.is_set():
            raise SourceError(
                f"{self.name}: the camera does not answer any more; check its cable and power, and whether another "
                "program took it"
            )
        return None

    def close(self) -> None:
        """Stop, in two seconds at most; may be called twice and on a camera that is gone."""
        if self._release.detach() is None:
            return
        self._give_back()
        # Aravis asks a camera that is gone several times to stop and let go, and waits 2.5 s for each answer.
        releasing = threading.Thread(
            target=_release, args=(self._handles,), name="acl-aravis-close", daemon=True
        )
        releasing.start()
        releasing.join(_CLOSE_S)

    def _set_up(self, settings: Sequence[Setting]) -> None:
        arv, camera = self._arv, self._handles.camera
        if arv.camera_is_feature_available(camera, b"AcquisitionMode"):
            arv.camera_set_acquisition_mode(camera, CONTINUOUS)
        for name, value in settings:
            self._set(name, value)
        is_gige = bool(arv.camera_is_gv_device(camera))
        if self._options.packet and is_gige:
            arv.camera_gv_set_packet_size(camera, self._options.packet)
        self.width, self.height = (arv.camera_get_integer(camera, name) for name in (b"Width", b"Height"))
        pixels = arv.camera_get_string(camera, b"PixelFormat").decode()
        self._format = find_format(pixels)
        is_short = (is_gige and not self._has_long_numbers()) or self._is_fake
        self.numbers = SIXTEEN_BITS if is_short else None
        self._start(arv.camera_get_payload(camera))

    def _has_long_numbers(self) -> bool:
        """Whether block numbers have 64 bits, an option of GigE Vision 2."""
        name = LONG_NUMBERS.encode()
        if not self._arv.camera_is_feature_available(self._handles.camera, name):
            return False
        return bool(self._arv.camera_get_string(self._handles.camera, name) == b"On")

    def _start(self, payload: int) -> None:
        needed = self.width * self.height * self._format.bytes_per_pixel
        if payload < needed:
            raise SourceError(
                f"sends blocks of {payload} bytes, and its lines have {needed}; set Height and Width anew"
            )
        arv, handles = self._arv, self._handles
        handles.stream = arv.camera_create_stream(handles.camera, None, None)
        for _ in range(self._options.buffers):
            memory = np.zeros(payload, np.uint8)
            buffer = arv.buffer_new(payload, memory.ctypes.data)
            handles.memory[buffer] = memory
            arv.stream_push_buffer(handles.stream, buffer)
        if self._options.encoder or self._options.ignored:
            handles.parser = arv.camera_create_chunk_parser(handles.camera)
        arv.camera_start_acquisition(handles.camera)

    def _set(self, name: str, value: str) -> None:
        """Write a setting and read it back."""
        feature = self._arv.device_get_feature(self._handles.device, name.encode())
        if not feature:
            raise SourceError(f"the camera has no setting {name}; write it as the camera's manual does")
        try:
            if is_command(feature):
                self._arv.device_execute_command(self._handles.device, name.encode())
                return
            self._arv.gc_feature_node_set_value_from_string(feature, value.encode())
            got = self._arv.gc_feature_node_get_value_as_string(feature).decode()
        except SourceError as error:
            raise SourceError(
                f"{name}={value} was refused ({error}); see which values the camera takes"
            ) from error
        check_taken(name, value, got)

    def _block(self, buffer: int, now_ns: int) -> Block:
        arv = self._arv
        status, number = arv.buffer_get_status(buffer), arv.buffer_get_frame_id(buffer)
        if status in (SIZE_MISMATCH, NOT_SUPPORTED):
            raise SourceError(
                f"{self.name}: sends blocks of another kind or size than it was set to; open it again"
            )
        if self.numbers and number not in self.numbers and number != 0:
            raise SourceError(
                f"{self.name}: counts blocks beyond {self.numbers[-1]}; set GevGVSPExtendedIDMode=Off"
            )
        raw, is_complete, height = self._handles.memory[buffer], status == SUCCESS, self.height
        if is_complete:
            height = arv.buffer_get_image_height(buffer)
            width = arv.buffer_get_image_width(buffer)
            if width != self.width or not 0 < height <= self.height:
                raise SourceError(f"{self.name}: sent a block of {width}×{height} pixels; open it again")
        lines = raw[: height * self.width * self._format.bytes_per_pixel]
        exposed = arv.buffer_get_timestamp(buffer) if is_complete else 0
        return Block(
            lines=self._format.lines_of(lines, self.width),
            number=number if is_complete or number else None,  # 0: its leader did not come, see _give_back
            complete=is_complete,
            first_encoder=self._chunk(buffer, self._options.encoder) if is_complete else None,
            ignored_triggers=self._chunk(buffer, self._options.ignored) if is_complete else None,
            exposed_ns=exposed or None,
            received_ns=now_ns,
        )

    def _chunk(self, buffer: int, name: str) -> int | None:
        if not name:
            return None
        try:
            return int(self._arv.chunk_parser_get_integer_value(self._handles.parser, buffer, name.encode()))
        except SourceError as error:
            raise SourceError(
                f"{self.name}: sends no {name} ({error}); switch it on with ChunkModeActive=true&ChunkSelector=...&"
                "ChunkEnable=true"
            ) from error

    def _give_back(self) -> None:
        """Let the camera fill the block that was read last."""
        if self._held:
            # A block whose leader does not come keeps the number that its buffer had.
            self._arv.buffer_set_frame_id(self._held, 0)
            self._arv.stream_push_buffer(self._handles.stream, self._held)
            self._held = 0


def _open(name: str) -> _Handles:
    arv = load_aravis()
    camera = arv.camera_new(name.encode())
    device = arv.camera_get_device(camera)
    lost = threading.Event()
    handler = ON_LOST(lambda device, data: lost.set())
    return _Handles(camera, device, lost, handler, connect_lost(device, handler), threading.Lock())


def _release(handles: _Handles) -> None:
    """Stop the camera and give everything back; until its stream is gone, a thread may write into the memory."""
    with handles.lock:
        if handles.stream and not handles.lost.is_set():
            try:
                load_aravis().camera_stop_acquisition(handles.camera)
            except SourceError as error:
                LOG.info("a camera could not be stopped (%s)", error)
        disconnect(handles.device, handles.connection)
        for thing in (handles.parser, handles.stream, handles.camera):
            if thing:
                unref(thing)
        handles.stream = 0
        handles.memory.clear()


def list_aravis() -> list[FoundCamera]:
    """The cameras that answer within about a second."""
    arv = load_aravis()
    arv.update_device_list()

    def text(what: str, index: int) -> str:
        return (getattr(arv, f"get_device_{what}")(index) or b"").decode(errors="replace")

    return [
        FoundCamera(
            source=f"aravis:{text('id', index)}",
            model=f"{text('vendor', index)} {text('model', index)}".strip(),
            serial=text("serial_nbr", index),
            address=text("address", index),
            link=text("protocol", index),
            other=text("physical_id", index),
        )
        for index in range(arv.get_n_devices())
    ]


def _find(address: Address) -> str:
    """What Aravis calls the camera: an IP address as it is, else the id of the one that has such a name."""
    name = address.name
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        pass  # a name
    if name.startswith(_FAKE):
        load_aravis().enable_interface(b"Fake")
        return name
    cameras = list_aravis()
    ids = {camera.source.removeprefix("aravis:"): camera for camera in cameras}
    fitting = [
        each for each, camera in ids.items() if name in (each, camera.serial, camera.other, camera.address)
    ]
    if len(fitting) == 1:
        return fitting[0]
    there = (
        ", ".join(ids)
        or "none; check cable, power and that the network card has an address in the camera's net"
    )
    problem = "several cameras have that name" if fitting else f"no such camera{suggest(name, ids)}"
    raise SourceError(f"{problem}; there are: {there}")
