"""The `acl` command: each command parses, makes one library call and prints.

The one module that may name all three packages; it imports them inside functions, so that `acl --help` is
instant and `acl run` works where only the runtime is installed. Their `config` modules, which need nothing but
Python, are imported at the top: the defaults are written there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from acl_export.config import ExportConfig, Head, Precision
from acl_runtime import options
from acl_runtime.backend import Backend
from acl_train.config import Attention, LearnConfig, Recipe, VisionConfig, make_vision_config

if TYPE_CHECKING:
    from acl_runtime.manifest import Backbone

LEARN, EXPORT = LearnConfig(), ExportConfig()  # the defaults
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
            _fail(f'{error.name} is not installed; in the checkout: pip install -e ".[{extra}]"', 1)
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
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror.lower()}"


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


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(help="Folders of labelled images.", show_default=False)],
    output: options.Output,
    *,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    recipe: Annotated[
        Recipe, typer.Option(help="paper: four layers, λ 1; released: the last layer, λ 4.")
    ] = LEARN.recipe,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
    attention: Annotated[Attention, typer.Option(help="What the second path attends with.")] = Attention.vv,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = LEARN.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = LEARN.batch_size,
    lr: Annotated[float, typer.Option(min=0, help="Adam's learning rate.")] = LEARN.learning_rate,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first vectors and of the images' order.")
    ] = LEARN.seed,
    device: Annotated[options.Device, typer.Option(help="Where torch computes.")] = options.Device.auto,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the feature cache. [default: ~/.cache/anomalyclip-deploy]")
    ] = None,
    fp32_cache: Annotated[
        bool, typer.Option("--fp32-cache", help="Twice the disk; equals learning without a cache.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch.")] = False,
) -> None:
    """Learn the two prompts on images of good and defective products.

    DATA is in the layout of MVTec AD or VisA, has a meta.json of the published code, or is a folder with good
    and bad (and perhaps masks) inside. Beside the output lie a loss log and a checkpoint per epoch.
    """
    from acl_runtime.progress import progress_phases
    from acl_train.device import choose_device
    from acl_train.train import TrainFiles
    from acl_train.train import train as learn
    from acl_train.weights import load_weights

    config = LearnConfig(recipe, epochs, batch_size, lr, seed)
    loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
    vision = make_vision_config(
        loaded.backbone,
        loaded.architecture.vision_layers,
        recipe=recipe,
        image_size=image_size,
        layers=options.parse_layers(layers),
        vv_from=vv_from,
        attention=attention,
    )
    files = TrainFiles(output, cache or Path.home() / ".cache" / "anomalyclip-deploy")
    with progress_phases() as progress:
        learn(
            data,
            files,
            loaded,
            vision,
            config,
            device=choose_device(device.value),
            half_cache=not fp32_cache,
            resume=resume,
            progress=progress,
            say=lambda message: _echo(f"note: {message}", err=True),
        )
    _echo(f"{output}: prompts learned; losses in {files.log}, an epoch each in {files.checkpoints}")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help=".pth of the published code.", show_default=False)],
    output: options.Output,
    *,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
) -> None:
    """Turn a checkpoint of the published code into a prompts file.

    The checkpoint does not say which weights, size and layers it was learned with; the published ones are
    ViT-L-14-336 openai, 518 and the last layer.
    """
    from acl_train.convert import convert_checkpoint
    from acl_train.prompts import save_prompts
    from acl_train.weights import load_weights

    loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
    vision = make_vision_config(
        loaded.backbone,
        loaded.architecture.vision_layers,
        recipe=Recipe.released,
        image_size=image_size,
        layers=options.parse_layers(layers),
        vv_from=vv_from,
    )
    save_prompts(output, convert_checkpoint(checkpoint, loaded, vision))
    _echo(f"{output}: prompts for {loaded.backbone} at {vision.image_size} px, layers {list(vision.layers)}")


@app.command()
def export(
    prompts: Annotated[Path, typer.Argument(help="Prompts from train or convert.", show_default=False)],
    output: options.Output,
    *,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
    head: Annotated[
        Head, typer.Option(help="map: image in, map out; embeddings: the runtime applies the prompts.")
    ] = EXPORT.head,
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the graph.")] = EXPORT.precision,
    max_batch: Annotated[int, typer.Option(min=1, help="Most images at once.")] = EXPORT.max_batch,
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="Image to prove the graph on and keep in the bundle; repeat. [default: drawn]"),
    ] = None,
) -> None:
    """Write a bundle: text embeddings, ONNX, and the proof that it equals PyTorch.

    Size, layers and weights are those of the prompts unless given. The bundle is written only when the graph
    has been run and compared.
    """
    from acl_export.export import export_bundle, find_weights
    from acl_train.prompts import load_prompts

    learned = load_prompts(prompts).config
    loaded = find_weights(learned, backbone, weights, quick_gelu=quick_gelu)
    vision = VisionConfig(
        image_size or learned.vision.image_size,
        options.parse_layers(layers) or learned.vision.layers,
        vv_from or learned.vision.vv_from,
        learned.vision.attention,
    )
    config = ExportConfig(head, precision, max_batch)
    manifest = export_bundle(prompts, output, loaded, config, vision=vision, frames=frames or ())
    parity = manifest.parity
    _echo(
        f"{output}: head {manifest.head}, {manifest.image_size} px; equal to {parity.reference} on "
        f"{parity.frames} frames within {parity.image_logits:.1e} (log-odds) and {parity.anomaly_map:.1e} (map)"
    )
    _warn_unless_fit(manifest.backbone)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all of it.")] = Path("demo"),
    *,
    data: Annotated[
        Path | None, typer.Option(help="Judge your own labelled images instead of drawn ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawings and of the learning.")] = 111,
) -> None:
    """Go the whole road in minutes: draw products, learn, export, prove, detect, and write a page to look at.

    Needs no GPU and no downloads: it uses a small CLIP that ships with the package.
    """
    from acl_export.demo import DemoConfig, run_demo
    from acl_export.demo_report import summary
    from acl_runtime.progress import progress_phases

    with progress_phases() as progress:
        result = run_demo(output, DemoConfig(seed=seed), data=data, progress=progress, say=_echo)
    for line in summary(result):
        _echo(line)
