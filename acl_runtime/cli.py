"""The `acl` command, put together from the three packages' commands.

The one module of the runtime that names the other packages. Their `commands` modules import everything heavy inside
functions, so that `acl --help` is instant and `acl run` works where only the runtime is installed.
"""

from __future__ import annotations

from typing import Annotated

import typer

from acl_export.commands.bench import bench
from acl_export.commands.demo import demo
from acl_export.commands.evaluate import evaluate
from acl_export.commands.export import export
from acl_runtime.commands.archive import archive
from acl_runtime.commands.build import build
from acl_runtime.commands.calibrate import calibrate
from acl_runtime.commands.camera import camera
from acl_runtime.commands.doctor import doctor
from acl_runtime.commands.evidence import evidence
from acl_runtime.commands.info import info
from acl_runtime.commands.plan import plan
from acl_runtime.commands.qualify import qualify
from acl_runtime.commands.restore import restore
from acl_runtime.commands.run import run
from acl_runtime.commands.serve import serve
from acl_runtime.commands.watch import watch
from acl_runtime.commands.web import web
from acl_runtime.text.terminal import Commands
from acl_train.commands import convert, train

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"anomalyclip-deploy {version('anomalyclip-deploy')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find defects on products never seen before: learn prompts once, export, inspect without PyTorch."""


for command in (
    *(train, convert, export, build, qualify, run, watch, plan, web, serve, archive, calibrate, restore),
    *(bench, info, doctor, demo),
):
    app.command()(command)
app.command("eval")(evaluate)  # eval is a builtin of Python
app.add_typer(camera, name="camera")
app.add_typer(evidence, name="evidence")

if __name__ == "__main__":
    app()
