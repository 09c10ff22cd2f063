"""What all commands share: printing, notes, and errors in one line."""

from __future__ import annotations

import errno
import logging
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
import typer.core

from acl_runtime.files.errors import UserError
from acl_runtime.text.names import printable

LOG = logging.getLogger("acl")  # notes of all packages: info and warning alike are shown as "note: ..."
_REMEMBERED = 1000  # notes that are not said again; a watch that runs for ever must not keep all of them

_MEANT = {  # what other tools call these commands
    **dict.fromkeys(("predict", "inspect", "infer", "detect"), "run"),
    **dict.fromkeys(("test", "evaluate", "validate"), "eval"),
    **dict.fromkeys(("learn", "fit"), "train"),
    "benchmark": "bench",
}
_EXTRAS = {  # module -> extra that installs it
    **dict.fromkeys(("torch", "open_clip", "safetensors", "scipy"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    "cv2": "opencv",
    "pypylon": "basler",
    **dict.fromkeys(("pyarrow", "fsspec"), "archive"),
    "ray": "ray",
}


class Commands(typer.core.TyperGroup):
    """A group of commands that turns a library's error into one line on stderr; a bug keeps its traceback."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in _MEANT:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{_MEANT[args[0]]}'?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _notes_on_stderr():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):  # typer's own business
            raise
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # of what checks typer's choices
            raise
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            fail(f'{error.name} is not installed; in the checkout: pip install -e ".[{extra}]"', 1)
        except ImportError as error:
            if ".so" not in str(error):
                raise
            fail(f"error: a library cannot be loaded: {error}; acl doctor says what is missing", 1)
        except (UserError, OSError) as error:
            fail(f"error: {_explain(error)}", 1)
        except MemoryError:
            fail("error: the memory does not suffice; use smaller images or batches, or a larger machine", 1)


def fail(message: str, code: int) -> NoReturn:
    """Print one line on stderr and exit."""
    echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)


def echo(text: str, *, err: bool = False) -> None:
    """Print lines; a character that the terminal cannot show, or that would steer it, is written as its code.

    Where the stream was closed by whoever started the program, nobody reads, and nothing is printed.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    lines = "\n".join(map(printable, text.split("\n")))
    encoding = stream.encoding or "utf-8"
    try:
        typer.echo(lines.encode(encoding, "backslashreplace").decode(encoding), err=err)
    except OSError as error:
        error.filename = error.filename or f"standard {'error' if err else 'output'}"
        raise


def shows_blocks() -> bool:
    """Whether the terminal has Unicode's block characters."""
    try:
        "▁█".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def note(message: str, *, again: bool = False) -> None:
    """Say something on stderr that does not stop the work; once, unless it may be said again."""
    LOG.info("%s", message, extra={"again": again})


def _explain(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    remedy = "; free some, or write to another disk" if error.errno == errno.ENOSPC else ""
    return f"{where}{error.strerror.lower()}{remedy}"


class _Notes(logging.Handler):
    """Shows notes on stderr, each once, unless its record says `again`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said: OrderedDict[str, None] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message in self._said and not getattr(record, "again", False):
            return
        self._said[message] = None
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        echo(f"note: {printable(message)}", err=True)  # on one line, whatever the name of a file holds


@contextmanager
def _notes_on_stderr() -> Iterator[None]:
    handler, level, propagate = _Notes(), LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False  # PyTorch's exporter gives the root a handler that would say each note again
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagate
