"""What is printed: notes once, nothing that steers a terminal, and nothing at all where the stream is closed."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from console import acl
from typer.testing import CliRunner

from acl_runtime.files.errors import InputError
from acl_runtime.text.names import printable
from acl_runtime.text.terminal import Commands, echo, note

SHOW = "from acl_runtime.text.terminal import echo; echo('seen'); echo('noted', err=True)"


def command(body: object) -> typer.Typer:
    """An application whose only command calls `body`."""
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.command()(body)  # type: ignore[type-var]
    app.command("other")(lambda: None)
    return app


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("z\rOK  0.001", r"z\rOK  0.001"),
        ("\x1b[32mOK\x1b[0m", r"\x1b[32mOK\x1b[0m"),
        ("\x1b]8;;http://x\x07link", r"\x1b]8;;http://x\x07link"),
        ("part\u202egnp.exe", r"part\u202egnp.exe"),
        ("two\nlines", r"two\nlines"),
        ("bytes\udcff", r"bytes\udcff"),
        ("Prüfling-№7 部品.png", "Prüfling-№7 部品.png"),
    ],
)
def test_a_name_cannot_steer_the_terminal(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(name) == shown
    echo(name.replace("\n", " "))
    assert "\x1b" not in capsys.readouterr().out


def test_a_note_is_said_once_unless_it_may_be_said_again() -> None:
    def body() -> None:
        for _ in range(2):
            logging.getLogger("acl").warning("%s is odd", "part")
            note("watching", again=True)

    result = CliRunner().invoke(command(body), ["body"])
    assert result.stderr.splitlines() == ["note: part is odd", "note: watching", "note: watching"]


def test_an_error_of_the_user_is_one_line_and_a_bug_keeps_its_traceback() -> None:
    def user() -> None:
        raise InputError("x.png: is no picture; save it again")

    def bug() -> None:
        dict(zip([1], [], strict=True))

    result = CliRunner().invoke(command(user), ["user"])
    assert (result.exit_code, result.stderr) == (1, "error: x.png: is no picture; save it again\n")
    assert isinstance(CliRunner().invoke(command(bug), ["bug"]).exception, ValueError)


def test_closed_streams_are_no_error() -> None:
    run = subprocess.run(
        ["/bin/sh", "-c", f'{sys.executable} -c "{SHOW}" >&-'], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("", "noted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_with_what_was_written_to() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        run = subprocess.run(
            [sys.executable, "-m", "acl_runtime.cli", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert run.returncode != 0


def test_commands_of_other_tools_are_suggested() -> None:
    assert "Did you mean 'run'?" in acl("predict").stderr
    assert "Did you mean 'eval'?" in acl("test", "bundle").stderr


def test_a_note_is_said_once_whatever_handlers_the_root_of_logging_has() -> None:
    """PyTorch's exporter gives it one."""

    def body() -> None:
        note("said")

    root, lines = logging.getLogger(), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    root.addHandler(handler)
    try:
        result = CliRunner().invoke(command(body), ["body"])
    finally:
        root.removeHandler(handler)
    assert (result.stderr, lines) == ("note: said\n", [])


def test_a_library_of_the_system_that_is_missing_is_one_line() -> None:
    def body() -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    result = CliRunner().invoke(command(body), ["body"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a library cannot be loaded: libGL.so.1: cannot open")
