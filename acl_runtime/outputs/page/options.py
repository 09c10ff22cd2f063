"""What a station's file says of its live page."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.secret import read_secrets

SHORTEST_TOKEN = 16  # characters; `openssl rand -hex 24` gives 48
ADMINISTRATOR = "administrator"  # name of one without a name
LONGEST_NAME = 60
_CREDENTIAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "page"`.

    Attributes:
        host: Address to listen on; any other than that of this machine itself needs both tokens.
        port: To listen on.
        title: What the page is headed with.
        viewer_token_file: File with the token of those who may look, readable by nobody else.
        admin_token_file: File with the token of those who may also review and set thresholds, readable by nobody
            else; a line each, with the name that their reviews and thresholds are signed with behind it.
        viewer_credential: Name of a systemd credential with the viewer's token, in the place of the file.
        admin_credential: Name of a systemd credential with the administrators' tokens, in the place of the file.
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
    viewer_credential: str = ""
    admin_credential: str = ""
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
        for role in ("viewer", "admin"):
            name = getattr(self, f"{role}_credential")
            if name and getattr(self, f"{role}_token_file") is not None:
                raise InputError(f"{role}_token_file and {role}_credential name one token twice; give one")
            if name and not _CREDENTIAL.fullmatch(name):
                raise InputError(f"{role}_credential must be a name without a folder, got {name!r}")
        if not self.is_local and not (self.has_viewer and self.has_admin):
            raise InputError(
                f"host {self.host} can be reached from other machines; give viewer_token_file and admin_token_file, "
                'or leave host = "127.0.0.1"'
            )
        if self.has_viewer and not self.has_admin:
            raise InputError("viewer_token_file needs admin_token_file beside it; else nobody may review")

    @property
    def has_viewer(self) -> bool:
        """Whether there is a token of those who may look."""
        return bool(self.viewer_credential) or self.viewer_token_file is not None

    @property
    def has_admin(self) -> bool:
        """Whether there are tokens of administrators."""
        return bool(self.admin_credential) or self.admin_token_file is not None

    @property
    def is_local(self) -> bool:
        """Whether only this machine itself reaches the page."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a caller must know.

    Attributes:
        viewer: To look; None where nothing need be known.
        admins: To review and set thresholds, by the name of who has it; empty where everybody may.
    """

    viewer: str | None = None
    admins: Mapping[str, str] = field(default_factory=dict)


def read_tokens(options: Options) -> Tokens:
    """Read the tokens.

    Raises:
        InputError: A file or credential cannot be read, others may read it, or a token is too short or that of another.
    """
    viewer = admins = None
    if options.has_viewer:
        place, lines = _read_lines(options.viewer_token_file, options.viewer_credential)
        viewer = _check_token(place, lines[0])
    if options.has_admin:
        place, lines = _read_lines(options.admin_token_file, options.admin_credential)
        admins = _read_admins(place, lines)
        if viewer in admins.values():
            raise InputError(f"{place}: holds the viewer's token; write another: openssl rand -hex 24")
    return Tokens(viewer=viewer, admins=admins or {})


def _read_lines(file: Path | None, credential: str) -> tuple[Path, list[str]]:
    if file is not None:
        return file, read_secrets(file)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise InputError(
            f"credential {credential}: $CREDENTIALS_DIRECTORY is not set, as systemd does; write "
            f"LoadCredential={credential}:FILE into the unit, or name a token file"
        )
    path = Path(folder) / credential
    return path, read_secrets(path, is_guarded=True)


def _read_admins(place: Path, lines: Sequence[str]) -> dict[str, str]:
    admins: dict[str, str] = {}
    for line in lines:
        token, _, name = line.partition(" ")
        name = name.strip() or ADMINISTRATOR
        if name in admins or token in admins.values():
            raise InputError(
                f"{place}: two administrators have one name or one token; give each a name behind it"
            )
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"{place}: a name must have {LONGEST_NAME} characters at most, and no others than letters"
            )
        admins[name] = _check_token(place, token)
    return admins


def _check_token(place: Path, token: str) -> str:
    if not (len(token) >= SHORTEST_TOKEN and token.isascii() and token.isalnum()):
        raise InputError(
            f"{place}: must hold {SHORTEST_TOKEN} letters and digits at least; write another: openssl rand -hex 24"
        )
    return token


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
