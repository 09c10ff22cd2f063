"""Talk to a Triton server: version 2 of the inference protocol over HTTP, arrays as they lie in memory.

The protocol is the one that KServe publishes, with Triton's extension for binary tensors. It is spoken with Python's
own `http.client`: NVIDIA's tritonclient holds protobuf and other packages back, and its HTTP client is for one thread.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from acl_runtime.backends.triton_address import Address
from acl_runtime.files.errors import BackendError

SERVE_HINT = "see that tritonserver runs there, and that the port is that of its HTTP service"
_TYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_JSON_SIZE = "Inference-Header-Content-Length"
_MOST_IDLE = 64  # connections that are kept
_LONGEST_REASON = 300
_MOST_BYTES = 1 << 30  # of an answer
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


class ServerGoneError(BackendError):
    """The server cannot be reached, or went away.

    Attributes:
        was_idle: The connection had been used before, so that another may do.
    """

    def __init__(self, message: str, *, was_idle: bool) -> None:
        """Say why."""
        super().__init__(message)
        self.was_idle = was_idle


class RefusedError(BackendError):
    """The server answered, with an error."""


class TritonClient:
    """Connections to one server; threads may share it, each call has a connection to itself."""

    def __init__(self, address: Address, *, time_limit_s: float) -> None:
        """Connect to nothing yet.

        Args:
            address: Of the server.
            time_limit_s: Longest that the server may be silent in a call, in seconds.
        """
        self.address, self._time_limit_s = address, time_limit_s
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Close every connection that is not in use; those that are, when their calls end."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """The JSON that the server answers to a GET, or to a POST of `body`.

        Raises:
            ServerGoneError: It cannot be reached.
            RefusedError: It answers with an error.
        """
        method, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        payload, _ = self._call(method, path, [data], {"Content-Type": "application/json"})
        return _document(payload, self.address)

    def infer(
        self, model: str, version: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Run a model of the server.

        Args:
            model: Its name.
            version: Its version; a server that has another one refuses.
            inputs: uint8 or float32 arrays by name.
            outputs: Names of those that are wanted.

        Returns:
            Arrays by name; of the caller's own.

        Raises:
            ServerGoneError: The server cannot be reached, or went away.
            RefusedError: It answers with an error.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": name,
                        "shape": array.shape,
                        "datatype": _NAMES[array.dtype],
                        "parameters": {"binary_data_size": array.nbytes},
                    }
                    for name, array in arrays.items()
                ],
                "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            }
        ).encode()
        headers = {"Content-Type": "application/octet-stream", _JSON_SIZE: str(len(header))}
        path = f"v2/models/{quote(model)}/versions/{version}/infer"
        parts: list[bytes | memoryview] = [header, *(array.data.cast("B") for array in arrays.values())]
        payload, json_size = self._call("POST", path, parts, headers)
        try:
            return _read_arrays(payload, json_size)
        except _MALFORMED as error:
            raise BackendError(
                f"{self.address}: its answer is not of the inference protocol ({error})"
            ) from error

    def _call(
        self, method: str, path: str, parts: Sequence[bytes | memoryview], headers: Mapping[str, str]
    ) -> tuple[bytearray, int]:
        """The answer, and how much of it is JSON."""
        with self._lock:
            if self._is_closed:
                raise BackendError("the session was closed; open another")
            connection = self._idle.pop() if self._idle else None
        was_idle = connection is not None
        connection = connection or self._connection()
        is_kept = False
        try:
            size = sum(memoryview(part).nbytes for part in parts)
            connection.request(method, f"/{path}", iter(parts), {**headers, "Content-Length": str(size)})
            answer = connection.getresponse()
            payload = _read_all(answer, self.address)
            json_size = int(answer.headers.get(_JSON_SIZE, len(payload)))
            is_kept = not answer.will_close
        except TimeoutError as error:
            raise ServerGoneError(
                f"{self.address}: gave no answer in {self._time_limit_s:g} s; see whether the server is there, and "
                "whether it has too much to do",
                was_idle=False,
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._close_idle()  # they are no better
            reason = _words(str(error) or type(error).__name__)
            raise ServerGoneError(
                f"{self.address}: the Triton server cannot be reached ({reason}); {SERVE_HINT}",
                was_idle=was_idle,
            ) from error
        finally:
            self._give_back(connection, is_kept=is_kept)
        if answer.status != http.client.OK:
            raise RefusedError(f"{self.address}: {_reason(payload, answer.status)}")
        return payload, json_size

    def _connection(self) -> http.client.HTTPConnection:
        host, port, limit_s = self.address.host, self.address.port, self._time_limit_s
        if self.address.is_secure:
            context = ssl.create_default_context()
            return _SecureConnection(host, port, timeout=limit_s, context=context)
        return _Connection(host, port, timeout=limit_s)

    def _give_back(self, connection: http.client.HTTPConnection, *, is_kept: bool) -> None:
        with self._lock:
            if is_kept and not self._is_closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()


class _Connection(http.client.HTTPConnection):
    """Sends what is small at once, instead of waiting for more."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _SecureConnection(http.client.HTTPSConnection):
    """As above."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _read_all(answer: http.client.HTTPResponse, address: Address) -> bytearray:
    """The answer's bytes, in memory that arrays may be made of."""
    chunks = answer.read(_MOST_BYTES + 1) if answer.length is None else b""
    if max(answer.length or 0, len(chunks)) > _MOST_BYTES:
        raise BackendError(f"{address}: answers with more than {_MOST_BYTES} bytes; {SERVE_HINT}")
    if answer.length is None:  # sent in chunks
        return bytearray(chunks)
    payload = bytearray(answer.length)
    view, place = memoryview(payload), 0
    while place < len(payload):
        count = answer.readinto(view[place:])
        if not count:
            raise http.client.IncompleteRead(b"", len(payload) - place)
        place += count
    return payload


def _read_arrays(payload: bytearray, json_size: int) -> dict[str, np.ndarray]:
    """Arrays of an answer, whose JSON is followed by their bytes, in order."""
    document = json.loads(bytes(payload[:json_size]))
    arrays: dict[str, np.ndarray] = {}
    place = json_size
    for output in document["outputs"]:
        dtype, shape = _TYPES[output["datatype"]], [int(side) for side in output["shape"]]
        size = int(output["parameters"]["binary_data_size"])
        array = np.frombuffer(payload, np.uint8, size, place).view(dtype).reshape(shape)
        arrays[output["name"]] = array if array.flags.aligned else array.copy()
        place += size
    return arrays


def _document(payload: bytearray, address: Address) -> Any:
    try:
        return json.loads(bytes(payload)) if payload else {}
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{address}: answers, but not as Triton does; {SERVE_HINT}") from error


def _reason(payload: bytearray, status: int) -> str:
    """What the server says of an error, as a line."""
    try:
        return _words(json.loads(bytes(payload))["error"])
    except _MALFORMED:
        return f"answers with HTTP status {status}"


def _words(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_REASON]
