"""Files of published weights that the Hugging Face Hub has, or an earlier download left."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

REACH_S = 5  # within which a server answers if it can be reached


def find_in_cache(repository: str, names: Sequence[str]) -> Path | None:
    """The first of the files that an earlier download left; published weights do not change."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def check_hub() -> None:
    """Raise OSError within seconds if the Hub cannot be reached; its own client would try for a minute."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    with suppress(HTTPError):  # it answers, and that is enough
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=REACH_S).close()


def first_line(error: BaseException) -> str:
    """What an error says, without the rest."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
