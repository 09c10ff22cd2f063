"""The `acl` command: each command parses, makes one library call and prints.

The one module that may name all three packages; it imports them inside functions, so that `acl --help` is
instant and `acl run` works where only the runtime is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from acl_runtime.backend import Backend

if TYPE_CHECKING:
    from acl_runtime.manifest import Backbone

_EXTRAS = {  # module -> extra that installs it
    **dict.fromkeys(("torch", "open_clip", "safetensors", "scipy"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
}


class _Commands(typer.core.TyperGroup):
    """Turns a library's error into one line on stderr; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):  # typer's own business
            raise
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            _fail(f'{error.name} is not installed; pip install "anomalyclip-deploy[{extra}]"', 1)
        except (ValueError, RuntimeError, OSError) as error:
            _fail(f"error: {_explain(error)}", 1)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _fail(message: str, code: int) -> None:
    _echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)


def _echo(text: str, *, err: bool = False) -> None:
    """Print; a character that the terminal cannot show, as file names may hold, is written as its code."""
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)


def _warn_unless_fit(backbone: Backbone) -> None:
    if not backbone.inspection:
        _echo(f"note: {backbone.name} is a demonstration, not for inspection", err=True)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)


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


@app.command()
def run(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    source: Annotated[
        list[str], typer.Argument(help="Images, folders, videos, camera numbers.", show_default=False)
    ],
    *,
    json: Annotated[
        Path | None, typer.Option(help="Write one JSON object per frame to this file; - for stdout.")
    ] = None,
    save_maps: Annotated[Path | None, typer.Option(help="Folder for anomaly maps, .npy float32.")] = None,
    save_overlays: Annotated[Path | None, typer.Option(help="Folder for heat maps on frames, .png.")] = None,
    backend: Annotated[Backend, typer.Option(help="What runs the graph.")] = Backend.auto,
    provider: Annotated[str, typer.Option(help="Where ONNX Runtime computes: auto, cpu, cuda ...")] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Smallest score of a defect, instead of the bundle's own."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames to look at together.")] = 1,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 when any frame is anomalous.")
    ] = False,
) -> None:
    """Look at every frame and say OK or NG.

    A file that cannot be read is reported and does not stop the run; the exit code is then 1.
    """
    import time

    from acl_runtime.detector import Detector
    from acl_runtime.frames import list_sources
    from acl_runtime.progress import progress
    from acl_runtime.run import Tally, inspect_sources, json_line, json_writer, text_line

    sources = list_sources(source)
    detector = Detector(bundle, backend=backend.value, provider=provider, threshold=threshold)
    _warn_unless_fit(detector.bundle.manifest.backbone)
    total = None if any(item.is_video for item in sources) else len(sources)
    to_stdout = json == Path("-")
    show = json_line if to_stdout else text_line
    tally, started = Tally(), time.perf_counter()
    results = inspect_sources(
        detector, sources, batch=batch, save_maps=save_maps, save_overlays=save_overlays
    )
    with json_writer(None if to_stdout else json) as write, progress("inspecting", total=total) as advance:
        for result in results:
            tally.add(result)
            write(result)
            _echo(show(result))
            advance()
    _echo(tally.text(time.perf_counter() - started), err=to_stdout)
    raise typer.Exit(tally.exit_code(fail_on_defect=fail_on_defect))


@app.command()
def info(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Check every file of a bundle and say what it is."""
    from acl_runtime.bundle import load_bundle
    from acl_runtime.info import describe
    from acl_runtime.manifest import manifest_to_json

    loaded = load_bundle(bundle)
    _echo(manifest_to_json(loaded.manifest).rstrip() if json else describe(loaded))
