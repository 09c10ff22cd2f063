"""`acl serve`: the service of a station."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.text.terminal import echo


def serve(
    station: Annotated[
        Path | None, typer.Argument(metavar="STATION.toml", help="The station's file.", show_default=False)
    ] = None,
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Say what would happen; see whether cameras, outputs and the disk answer and this box keeps up.",
        ),
    ] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a file to begin with.")] = False,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print a unit of systemd for this file.")
    ] = False,
) -> None:
    """Inspect parts or a web for months, and tell PLC, broker and files.

    A part is OK only if the network judged its own frame in time; whatever is
    late, lost or impossible is NOT JUDGED, which is NG. Cameras, PLCs and brokers
    that are away are waited for. The log on stdout is one JSON object a line.

    SIGTERM ends it: what waits is judged for two seconds, the rest is told as not
    judged, outputs deliver, and the exit code is 0. SIGHUP reads the file again.
    """
    from acl_runtime.inspection.station.words import example_text, unit_text

    if example:
        echo(example_text().rstrip("\n"))
        return
    if station is None:
        raise typer.BadParameter("name the station's file; acl serve --example prints one to begin with")
    if print_unit:
        echo(unit_text(station).rstrip("\n"))
        return
    from acl_runtime.inspection.station.station_file import load_station

    file = load_station(station)
    if check:
        from acl_runtime.commands.serve_check import check_station

        raise typer.Exit(0 if check_station(file, echo) else 1)
    from acl_runtime.inspection.station.service import Station
    from acl_runtime.inspection.watch import reload_signal, stop_signals
    from acl_runtime.text.json_log import json_log

    with json_log(level=file.log.level, repeat_s=file.log.repeat_s) as log:
        with stop_signals() as stopped, reload_signal() as reload:
            opened = Station(file, log=log)
            opened.run(stopped, reload)
        if opened.engine.is_abandoned:
            _end_at_once()


def _end_at_once() -> None:
    """End although a call of the network did not return, which nothing else could end; all else was closed."""
    import os
    import sys

    sys.stdout.flush()
    os._exit(0)
