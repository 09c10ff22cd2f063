"""What all commands share: printing, and errors in one line."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import typer
import typer.core

if TYPE_CHECKING:
    from acl_runtime.bundle.manifest import Backbone

_EXTRAS = {  # module -> extra that installs it
    **dict.fromkeys(("torch", "open_clip", "safetensors", "scipy"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
}


class Commands(typer.core.TyperGroup):
    """A group of commands that turns a library's error into one line on stderr; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):  # typer's own business
            raise
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            fail(f'{error.name} is not installed; in the checkout: pip install -e ".[{extra}]"', 1)
        except (ValueError, RuntimeError, OSError) as error:
            fail(f"error: {_explain(error)}", 1)


def fail(message: str, code: int) -> NoReturn:
    """Print one line on stderr and exit."""
    echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)


def echo(text: str, *, err: bool = False) -> None:
    """Print; a character that the terminal cannot show, as file names may hold, is written as its code."""
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)


def shows_blocks() -> bool:
    """Whether the terminal has Unicode's block characters."""
    try:
        "▁█".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def note(message: str) -> None:
    """Say something on stderr that does not stop the work."""
    echo(f"note: {message}", err=True)


def note_once() -> Callable[[str], None]:
    """A `note` that says no sentence twice."""
    said: set[str] = set()

    def tell(message: str) -> None:
        if message not in said:
            said.add(message)
            note(message)

    return tell


def note_unless_fit(backbone: Backbone) -> None:
    """Say on stderr that a demonstration model is one."""
    if not backbone.inspection:
        note(f"{backbone.name} is a demonstration, not for inspection")


def _explain(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    remedy = "; free some, or write to another disk" if error.errno == errno.ENOSPC else ""
    return f"{where}{error.strerror.lower()}{remedy}"
