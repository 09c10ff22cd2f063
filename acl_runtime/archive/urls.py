"""Object storage through fsspec: its addresses, what lies below one, and the bytes of an object."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec

from acl_runtime.files.errors import InputError

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Storage where an object appears whole or not at all; "memory" is fsspec's own, inside a process."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)")  # scheme, and bucket
_SIGNED = re.compile(r"[?&](sig|signature|token|x-(amz|goog)-[a-z-]+|awsaccesskeyid)=", re.IGNORECASE)
_PACKAGES = frozenset(  # whose errors are often none of Python's own: those of fsspec, and what they stand on
    {
        *("fsspec", "aiohttp", "asyncio", "requests", "urllib3"),
        *("s3fs", "aiobotocore", "botocore", "gcsfs", "google", "adlfs", "azure"),
    }
)
_OF_THE_OBJECT = (
    "AccessDenied",
    "AllAccessDisabled",
    "InvalidObjectState",
    "403",
)  # S3's words; others: of the user
_KINDS = (FileNotFoundError, PermissionError, TimeoutError, OSError)


def scheme_of(text: str) -> str:
    """The scheme of an address such as `s3://bucket/folder`; empty for a path.

    Raises:
        InputError: It is one of a storage that we do not know, or has credentials in it, which are then not shown.
    """
    found = _ADDRESS.match(text)
    if not found:
        return ""
    scheme, bucket = found.groups()
    if scheme not in SCHEMES:
        raise InputError(
            f"{scheme}://…: addresses must begin with one of {', '.join(SCHEMES)} and ://; mount anything else, and "
            "name a folder"
        )
    if ":" in bucket or _SIGNED.search(text):
        raise InputError(
            f"{scheme}://…: has credentials in it, which results and messages would show; give them to fsspec's "
            "package by its own files or variables"
        )
    return scheme


@contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Let what a storage's package raises name the address, as an OSError.

    Raises:
        PermissionError: The object may not be read; credentials that have expired or are wrong are a plain OSError.
    """
    try:
        with package_errors(address):
            yield
    except OSError as error:
        if error.filename:
            raise
        kind = next(kind for kind in _KINDS if isinstance(error, kind))
        reason = error.strerror or _one_line(error)
        if kind is PermissionError and _code(error) not in (None, *_OF_THE_OBJECT):
            kind, reason = OSError, f"{reason}; renew the credentials, and the same command goes on"
        number = errno.EIO if kind is OSError else error.errno or errno.EIO
        raise kind(number, reason, address) from error


@contextmanager
def package_errors(address: str) -> Iterator[None]:
    """Turn errors that only a storage's package knows into an OSError; all others are let through as they are."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each package has kinds of its own, and is imported by fsspec alone
        if type(error).__module__.partition(".")[0] not in _PACKAGES:
            raise
        reason = f"{_one_line(error)}; see that the storage answers, and that its package has credentials"
        raise OSError(errno.EIO, reason, address) from error


def _code(error: OSError) -> str | None:
    """What S3 called an error; None where s3fs does not say."""
    response = getattr(error.__cause__, "response", None)
    return response["Error"].get("Code") if isinstance(response, dict) and "Error" in response else None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


class Storage:
    """The storage that an address lies in."""

    def __init__(self, address: str) -> None:
        """Find it; nothing is asked of it yet.

        Raises:
            InputError: fsspec's package for it is not installed, or lacks settings.
            OSError: It finds no credentials.
        """
        self._scheme = scheme_of(address)
        try:
            with storage_errors(address):
                self._files: Any = fsspec.filesystem(self._scheme)
        except ImportError as error:
            raise InputError(f"{address}: {error}; install it with pip") from error
        except ValueError as error:  # what adlfs says without an account
            raise InputError(
                f"{address}: {_one_line(error)}; give fsspec's package what it lacks by its own files or variables"
            ) from error

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Names of what lies in a folder, and whether each is a folder too; none where there is no such folder."""
        path = self._files._strip_protocol(folder)
        self._files.invalidate_cache(path)
        try:
            with storage_errors(folder):
                listed = self._files.ls(path, detail=True)
        except FileNotFoundError:
            return []
        found = [(PurePosixPath(entry["name"]).name, entry["type"] == "directory") for entry in listed]
        return [(name, is_folder) for name, is_folder in found if name]

    def exists(self, address: str) -> bool:
        """Whether there is an object or a folder of this name."""
        with storage_errors(address):
            return bool(self._files.exists(address))

    def is_file(self, address: str) -> bool:
        """Whether there is an object of this name."""
        with storage_errors(address):
            return bool(self._files.isfile(address))

    def glob(self, pattern: str) -> list[str]:
        """Addresses that a pattern stands for, in no order."""
        with storage_errors(pattern):
            return [self._address(path) for path in self._files.glob(pattern)]

    @contextmanager
    def open(self, address: str) -> Iterator[IO[bytes]]:
        """Open an object to be read, and close it."""
        with package_errors(address):  # while it is read too
            with storage_errors(address):
                file: IO[bytes] = self._files.open(address, "rb")
            with file:
                yield file

    def read(self, address: str, most: int) -> bytes:
        """The first `most` bytes of an object."""
        with storage_errors(address):
            try:
                data: bytes = self._files.cat_file(address, start=0, end=most)
            except OSError as error:  # an empty object has no first byte: S3 calls the range invalid
                if error.errno != errno.EINVAL or self._files.size(address) != 0:
                    raise
                return b""
            return data

    def put(self, file: str, address: str) -> None:
        """Let a local file appear as an object, whole."""
        with storage_errors(address):
            self._files.put_file(file, address)

    def _address(self, path: str) -> str:
        return f"{self._scheme}://{path.lstrip('/')}"
