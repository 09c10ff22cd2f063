"""The command line as a user types it."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from acl_runtime.cli import app


def acl(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line(result: Result, message: str, code: int = 1) -> None:
    """The command failed with one line on stderr that holds the message."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
