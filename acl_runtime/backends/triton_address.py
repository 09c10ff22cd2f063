"""Where a Triton server is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from acl_runtime.files.errors import InputError

PORT = 8000  # of Triton's HTTP service


@dataclass(frozen=True)
class Address:
    """Where a server is, and which of its models is meant.

    Attributes:
        host: Name or number.
        port: Of its HTTP service.
        is_secure: Whether to speak HTTPS.
        model: Of the server; empty for the one that is the bundle's.
    """

    host: str
    port: int
    is_secure: bool
    model: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_secure else 'http'}://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `HOST[:PORT][/MODEL]`, with http:// or https:// before it or not.

    Raises:
        InputError: It is something else.

    >>> parse_address("gpu-box/parts")
    Address(host='gpu-box', port=8000, is_secure=False, model='parts')
    """
    whole = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("http:")
    path = parts.path.strip("/")
    if not host or parts.scheme not in ("http", "https") or "/" in path or parts.query or parts.username:
        raise InputError(f"a Triton server must be HOST[:PORT][/MODEL], such as gpu-box:{PORT}, got {text}")
    is_secure = parts.scheme == "https"
    return Address(host, port or (443 if is_secure else PORT), is_secure, path)
