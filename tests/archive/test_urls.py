"""Addresses of object storage, and what its packages say when something is wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import fsspec
import pytest

from acl_runtime.archive.folder import open_folder
from acl_runtime.archive.urls import Storage, scheme_of
from acl_runtime.files.errors import InputError

ADDRESS = "memory://urls/0.png"


class ClientError(Exception):
    """As of botocore, which is not installed here."""

    __module__ = "botocore.exceptions"

    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code}}


def forbidden(code: str) -> PermissionError:
    """What s3fs makes of S3's answer: words, no number, no name, and the answer as its cause."""
    error = PermissionError("The provided token has expired." if code == "ExpiredToken" else "Access Denied")
    error.__cause__ = ClientError(code)
    return error


@pytest.fixture
def storage() -> Iterator[Storage]:
    files = fsspec.filesystem("memory")
    files.pipe_file("/urls/0.png", b"")
    yield Storage(ADDRESS)
    files.rm("/urls", recursive=True)


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object, **settings: object) -> object:
        raise error

    for name in ("cat_file", "ls", "exists", "isfile", "glob", "put_file", "_open"):
        monkeypatch.setattr(type(fsspec.filesystem("memory")), name, fail)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:wordpass@bucket/in",
        "s3://AKIA:word/pass@bucket/in",
        "memory://key:wordpass@bucket",
        "az://container/in?sv=2026&sig=wordpass",
        "s3://bucket/0.png?X-Amz-Signature=wordpass",
        "https://user:wordpass@host/in",
        "https://host/in?token=wordpass",
    ],
)
def test_credentials_in_an_address_are_refused_and_never_shown(address: str) -> None:
    for name in (scheme_of, open_folder, Storage):
        with pytest.raises(InputError, match="has credentials in it|must begin with one of") as refused:
            name(address)
        assert "pass" not in str(refused.value)


@pytest.mark.parametrize("address", ["abfs://parts@account.dfs.core.windows.net/in", "s3://b/a:b@c?d=e.png"])
def test_an_address_without_any_is_none_of_these(address: str) -> None:
    assert scheme_of(address) == address.partition(":")[0]


def test_an_error_that_only_a_package_knows_names_the_address(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, ClientError("NoCredentials"))
    for ask in (
        lambda: storage.read(ADDRESS, 10),
        lambda: storage.entries(ADDRESS),
        lambda: storage.exists(ADDRESS),
        lambda: storage.is_file(ADDRESS),
        lambda: storage.glob(ADDRESS),
        lambda: storage.put("x", ADDRESS),
        lambda: storage.open(ADDRESS).__enter__(),
    ):
        with pytest.raises(OSError, match=r"\(NoCredentials\); see that the storage answers") as raised:
            ask()
        assert raised.value.filename == ADDRESS


def test_a_storage_that_is_away_names_the_address_and_stays_what_it_is(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, TimeoutError("no answer"))
    with pytest.raises(TimeoutError, match="no answer") as raised:
        storage.read(ADDRESS, 10)
    assert raised.value.filename == ADDRESS


def test_an_error_of_the_program_is_let_through(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        storage.read(ADDRESS, 10)


def test_an_object_that_is_forbidden_is_not_the_user_who_is(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in ("AccessDenied", "403"):
        fails(monkeypatch, forbidden(code))
        with pytest.raises(PermissionError):
            storage.read(ADDRESS, 10)
    for code in ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"):
        fails(monkeypatch, forbidden(code))
        with pytest.raises(OSError, match="; renew the credentials") as raised:
            storage.read(ADDRESS, 10)
        assert not isinstance(raised.value, PermissionError)


def test_an_empty_object_is_read_although_it_has_no_range(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, OSError(errno.EINVAL, "The requested range is not satisfiable"))
    assert storage.read(ADDRESS, 10) == b""
    fsspec.filesystem("memory").store["/urls/0.png"].write(b"not empty")
    with pytest.raises(OSError, match="not satisfiable"):
        storage.read(ADDRESS, 10)


def test_a_package_that_lacks_settings_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*arguments: object) -> object:
        raise ValueError("Must provide either a connection_string or account_name with credentials!!")

    monkeypatch.setattr(fsspec, "filesystem", lacks)
    with pytest.raises(InputError, match="az://c/in: Must provide .*; give fsspec's package what it lacks"):
        Storage("az://c/in")
