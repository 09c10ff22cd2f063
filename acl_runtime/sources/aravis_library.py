"""The system's libaravis 0.8 through ctypes: the functions that are used, GLib's errors raised as SourceError.

Aravis speaks GigE Vision and USB3 Vision. Its library alone is needed, neither headers nor GObject introspection, so
any Python can load it. Names and arguments are those of https://aravisproject.github.io/aravis/aravis-stable/.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from typing import Any, NamedTuple

from acl_runtime.files.errors import SourceError

SUCCESS, SIZE_MISMATCH, NOT_SUPPORTED = 0, 5, 8  # of ArvBufferStatus
CONTINUOUS = 0  # of ArvAcquisitionMode
ON_LOST = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)  # handler of the signal control-lost
Function = Callable[..., Any]


class Aravis(NamedTuple):
    """Functions of the library, called as in C but for the last argument of those that fail: they raise."""

    enable_interface: Function
    update_device_list: Function
    get_n_devices: Function
    get_device_id: Function
    get_device_physical_id: Function
    get_device_vendor: Function
    get_device_model: Function
    get_device_serial_nbr: Function
    get_device_address: Function
    get_device_protocol: Function
    camera_new: Function
    camera_is_gv_device: Function
    camera_get_device: Function
    camera_set_acquisition_mode: Function
    camera_is_feature_available: Function
    camera_get_integer: Function
    camera_get_string: Function
    camera_get_payload: Function
    camera_gv_set_packet_size: Function
    camera_create_stream: Function
    camera_create_chunk_parser: Function
    camera_start_acquisition: Function
    camera_stop_acquisition: Function
    device_get_feature: Function
    device_execute_command: Function
    gc_feature_node_set_value_from_string: Function
    gc_feature_node_get_value_as_string: Function
    chunk_parser_get_integer_value: Function
    buffer_new: Function
    buffer_get_status: Function
    buffer_get_frame_id: Function
    buffer_set_frame_id: Function
    buffer_get_timestamp: Function
    buffer_get_image_width: Function
    buffer_get_image_height: Function
    stream_push_buffer: Function
    stream_timeout_pop_buffer: Function


_FAILS = "!"  # the function has a GError ** as its last argument
_SIGNATURES: dict[str, tuple[Any, ...]] = {  # result, then arguments
    "enable_interface": (None, c_char_p),
    "update_device_list": (None,),
    "get_n_devices": (c_uint,),
    **{
        f"get_device_{what}": (c_char_p, c_uint)
        for what in ("id", "physical_id", "vendor", "model", "serial_nbr", "address", "protocol")
    },
    "camera_new": (c_void_p, c_char_p, _FAILS),
    "camera_is_gv_device": (c_int, c_void_p),
    "camera_get_device": (c_void_p, c_void_p),
    "camera_set_acquisition_mode": (None, c_void_p, c_int, _FAILS),
    "camera_is_feature_available": (c_int, c_void_p, c_char_p, _FAILS),
    "camera_get_integer": (c_int64, c_void_p, c_char_p, _FAILS),
    "camera_get_string": (c_char_p, c_void_p, c_char_p, _FAILS),
    "camera_get_payload": (c_uint, c_void_p, _FAILS),
    "camera_gv_set_packet_size": (None, c_void_p, c_int, _FAILS),
    "camera_create_stream": (c_void_p, c_void_p, c_void_p, c_void_p, _FAILS),
    "camera_create_chunk_parser": (c_void_p, c_void_p),
    "camera_start_acquisition": (None, c_void_p, _FAILS),
    "camera_stop_acquisition": (None, c_void_p, _FAILS),
    "device_get_feature": (c_void_p, c_void_p, c_char_p),
    "device_execute_command": (None, c_void_p, c_char_p, _FAILS),
    "gc_feature_node_set_value_from_string": (None, c_void_p, c_char_p, _FAILS),
    "gc_feature_node_get_value_as_string": (c_char_p, c_void_p, _FAILS),
    "chunk_parser_get_integer_value": (c_int64, c_void_p, c_void_p, c_char_p, _FAILS),
    "buffer_new": (c_void_p, c_size_t, c_void_p),
    "buffer_get_status": (c_int, c_void_p),
    "buffer_get_frame_id": (c_uint64, c_void_p),
    "buffer_set_frame_id": (None, c_void_p, c_uint64),
    "buffer_get_timestamp": (c_uint64, c_void_p),
    "buffer_get_image_width": (c_int, c_void_p),
    "buffer_get_image_height": (c_int, c_void_p),
    "stream_push_buffer": (None, c_void_p, c_void_p),
    "stream_timeout_pop_buffer": (c_void_p, c_void_p, c_uint64),
}


class _Error(ctypes.Structure):
    _fields_ = [("domain", ctypes.c_uint32), ("code", c_int), ("message", c_char_p)]


_ErrorPointer = ctypes.POINTER(_Error)


@cache
def load_aravis() -> Aravis:
    """Load the library, once.

    Raises:
        SourceError: It is not installed.
    """
    library = _load("libaravis-0.8.so.0")
    return Aravis(**{name: _bind(library, f"arv_{name}", *_SIGNATURES[name]) for name in Aravis._fields})


def is_command(feature: int) -> bool:
    """Whether a feature node is a command, which is executed rather than written."""
    get_type = _bind(_load("libaravis-0.8.so.0"), "arv_gc_command_get_type", c_size_t)
    is_a = _bind(_gobject(), "g_type_check_instance_is_a", c_int, c_void_p, c_size_t)
    return bool(is_a(feature, get_type()))


def unref(thing: int) -> None:
    """Give an object back."""
    _bind(_gobject(), "g_object_unref", None, c_void_p)(thing)


def connect_lost(device: int, handler: Any) -> int:
    """Call an `ON_LOST` when the camera is lost, in a thread of the library's; returns the number to disconnect."""
    arguments = (c_void_p, c_char_p, ON_LOST, c_void_p, c_void_p, c_int)
    connect = _bind(_gobject(), "g_signal_connect_data", ctypes.c_ulong, *arguments)
    return int(connect(device, b"control-lost", handler, None, None, 0))


def disconnect(device: int, number: int) -> None:
    """Call no handler any more."""
    _bind(_gobject(), "g_signal_handler_disconnect", None, c_void_p, ctypes.c_ulong)(device, number)


@cache
def _gobject() -> ctypes.CDLL:
    return _load("libgobject-2.0.so.0")


@cache
def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise SourceError(
            f"GigE Vision and USB3 Vision cameras need {name}, which cannot be loaded ({error}); on Debian and Ubuntu: "
            "apt-get install --no-install-recommends libaravis-0.8-0"
        ) from error


def _bind(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Function:
    function = getattr(library, name)
    function.restype = result
    if _FAILS not in arguments:
        function.argtypes = arguments
        return function  # type: ignore[no-any-return]
    function.argtypes = [*arguments[:-1], ctypes.POINTER(_ErrorPointer)]

    def call(*values: Any) -> Any:
        problem = _ErrorPointer()
        answer = function(*values, ctypes.byref(problem))
        if problem:
            message = problem.contents.message.decode(errors="replace")
            _load("libglib-2.0.so.0").g_error_free(problem)
            raise SourceError(" ".join(message.split()))
        return answer

    return call
