"""Prompts files that somebody shares: found by name in a folder, or fetched by https and kept if their hash is right.

A prompts file is a `.safetensors`: numbers and a few facts, nothing that is run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import InputError

SUFFIX = ".safetensors"
MOST_BYTES = 64 << 20  # learned projections of four layers of a ViT-L have 13 MB
TIMEOUT_S = 30
BLOCK = 1 << 20
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:@([0-9a-f]{64}))?")

Opener = Callable[[str], AbstractContextManager[BinaryIO]]


def find_shared(name: str, place: str, *, cache: Path, open_url: Opener | None = None) -> Path:
    """The prompts file of a name.

    Args:
        name: NAME, the file without its suffix, or NAME@SHA256 with the hash that it must have.
        place: A folder, or an https URL of one; from a URL the hash is needed.
        cache: Where fetched files are kept; one that is there is not fetched again.
        open_url: Opens a URL; None for https with the system's certificates.

    Raises:
        FileNotFoundError: The folder has no such file.
        InputError: The name, place or hash is none, the file is too large or another one, or cannot be fetched.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(f"prompts must be NAME or NAME@SHA256 (64 hexadecimal digits), got {name[:200]!r}")
    file, wanted = found[1] + SUFFIX, found[2]
    if "://" not in place:
        return _from_folder(Path(place), file, wanted)
    if urlsplit(place).scheme != "https":
        raise InputError(f"prompts are fetched by https only, got {place}; copy them into a folder instead")
    if wanted is None:
        raise InputError(
            f"prompts from a URL need the hash that they must have: pass --prompts {found[1]}@SHA256, as whoever "
            "shares them says it"
        )
    kept = cache / "prompts" / f"{wanted}{SUFFIX}"
    if not kept.is_file() or sha256(kept) != wanted:
        _fetch(f"{place.rstrip('/')}/{file}", wanted, kept, open_url or _open_https)
    return kept


def _from_folder(folder: Path, file: str, wanted: str | None) -> Path:
    path = folder / file
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in folder.glob(f"*{SUFFIX}"))[:10]) or "none"
        raise FileNotFoundError(f"{path}: no such prompts file; the folder's are {names}")
    if wanted is not None and (own := sha256(path)) != wanted:
        raise InputError(f"{path}: its sha256 must be {wanted}, got {own}; it is another file or damaged")
    return path


def _fetch(url: str, wanted: str, target: Path, open_url: Opener) -> None:
    """Write what a URL gives if it has the hash, block by block, never more than the largest size."""
    digest, size = hashlib.sha256(), 0
    try:
        with atomic_file(target) as temporary, open_url(url) as answer, open(temporary, "wb") as file:
            while block := answer.read(BLOCK):
                size += len(block)
                if size > MOST_BYTES:
                    raise InputError(
                        f"{url}: has more than {MOST_BYTES >> 20} MB, so it is no prompts file; refused"
                    )
                digest.update(block)
                file.write(block)
            if digest.hexdigest() != wanted:
                raise InputError(
                    f"{url}: its sha256 must be {wanted}, got {digest.hexdigest()}; it is another file or damaged, and "
                    "nothing was kept"
                )
    except URLError as error:
        raise InputError(
            f"{url}: could not be fetched ({error.reason}); fetch it where there is a network and pass its folder with "
            "--from"
        ) from error


class _HttpsOnly(HTTPRedirectHandler):
    """Goes where it is sent only if that is https too."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """See the base class."""
        if urlsplit(newurl).scheme != "https":
            raise InputError(f"{req.full_url}: sends on to {newurl[:200]}, which is no https; refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open_https(url: str) -> AbstractContextManager[BinaryIO]:
    answer: AbstractContextManager[BinaryIO] = build_opener(_HttpsOnly).open(Request(url), timeout=TIMEOUT_S)
    return answer
