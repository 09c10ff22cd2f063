"""What a station's file says of its live page."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.secret import read_secret

SHORTEST_TOKEN = 16  # characters; `openssl rand -hex 24` gives 48


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "page"`.

    Attributes:
        host: Address to listen on; any other than that of this machine itself needs both tokens.
        port: To listen on.
        title: What the page is headed with.
        viewer_token_file: File with the token of those who may look, readable by nobody else.
        admin_token_file: File with the token of those who may also review, readable by nobody else.
        certificate: File with the chain of certificates (PEM) for HTTPS; without it a proxy must encrypt.
        key: File with its key.
        keep_parts: Newest parts, and newest defects of a web, that the page remembers.
        keep_ng: Newest NG parts whose pictures are kept in memory.
        keep_ng_mb: Most memory that these take; the oldest go.
        most_clients: Browsers that are told of every change; a further one is refused.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    title: str = "Station"
    viewer_token_file: Path | None = None
    admin_token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keep_parts: int = 1000
    keep_ng: int = 24
    keep_ng_mb: int = 256
    most_clients: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be, and an open door."""
        ranges = {
            "port": (1, 65_535),
            "keep_parts": (10, 10_000),
            "keep_ng": (1, 1000),
            "keep_ng_mb": (1, 100_000),
            "most_clients": (1, 1000),
        }
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} must be {least} to {most}, got {getattr(self, name)}")
        if (self.certificate is None) != (self.key is None):
            raise InputError("certificate and key belong together; give both, or none")
        if not self.is_local and (self.viewer_token_file is None or self.admin_token_file is None):
            raise InputError(
                f"host {self.host} can be reached from other machines; give viewer_token_file and admin_token_file, "
                'or leave host = "127.0.0.1"'
            )
        if self.viewer_token_file is not None and self.admin_token_file is None:
            raise InputError("viewer_token_file needs admin_token_file beside it; else nobody may review")

    @property
    def is_local(self) -> bool:
        """Whether only this machine itself reaches the page."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a caller must know; None where nothing need be known."""

    viewer: str | None = None
    admin: str | None = None


def read_tokens(options: Options) -> Tokens:
    """Read the tokens.

    Raises:
        InputError: A file cannot be read, others may read it, or its token is too short or that of the other.
    """
    found = {"viewer": options.viewer_token_file, "admin": options.admin_token_file}
    tokens = {role: None if path is None else read_secret(path) for role, path in found.items()}
    for role, token in tokens.items():
        if token is not None and not (len(token) >= SHORTEST_TOKEN and token.isascii() and token.isalnum()):
            raise InputError(
                f"{found[role]}: must hold {SHORTEST_TOKEN} letters and digits at least; write another: "
                "openssl rand -hex 24"
            )
    if tokens["viewer"] is not None and tokens["viewer"] == tokens["admin"]:
        raise InputError(f"{found['admin']}: holds the viewer's token; write another: openssl rand -hex 24")
    return Tokens(**tokens)


def check_certificate(options: Options) -> None:
    """Raise InputError unless certificate and key can be used together."""
    if options.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{options.certificate}: cannot be used with {options.key} ({error}); give a chain and its key as PEM"
        ) from error
