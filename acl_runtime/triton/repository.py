"""Write a Triton model repository from a bundle: the network, and a model that takes a picture and gives a verdict.

The repository is a folder of two models that Triton reads as it is, and that holds all that they need:

    NAME/config.pbtxt             the network: images as the graph takes them, arrays as it gives them
    NAME/<version>/               model.py with the bundle, or the ONNX file, or the engine with its certificate
    NAME-picture/config.pbtxt     a JPEG, PNG or other image file: score, peak, verdict, regions and map
    NAME-picture/<version>/       model.py with the bundle

A version is a number made of the hash of what is served, see `TritonSession`.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from acl_runtime.backends.tensorrt.certificate import find_certificate
from acl_runtime.backends.tensorrt.choose import suits
from acl_runtime.backends.tensorrt.engine_file import Engine, is_of, list_engines
from acl_runtime.backends.triton_session import BUNDLE, COMPUTES, NETWORK, version_of
from acl_runtime.bundle.bundle import Bundle, check_judges
from acl_runtime.bundle.identity import bundle_sha256, hash_sources, network_sha256
from acl_runtime.bundle.manifest import QUANTIZED, Tensor
from acl_runtime.files.atomic import atomic_folder
from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.text.names import slug
from acl_runtime.triton.config import Device, ModelConfig, Port, ServerBackend, config_text

MARKER = "acl-triton.txt"  # by which a repository is known to be ours, and may be written anew
BUNDLE_FOLDER = "bundle"  # inside a version's folder
ENGINE_FILE = "model.plan"
SESSION, PROVIDER, NETWORK_MODEL, READING = "acl.session", "acl.provider", "acl.network_model", "acl.{}"
_KINDS = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
_CUDA = {"use_tf32": "0"}  # as OnnxSession has it: TensorFloat-32 keeps ten bits of a number
_MODEL = '''"""Run by Triton's Python backend; written by acl triton."""

import triton_python_backend_utils as pb_utils

from {module} import {kind}


class TritonPythonModel({kind}):
    """What the server calls."""

    pb_utils = pb_utils
'''


@dataclass(frozen=True, kw_only=True)
class RepositoryOptions:
    """What is chosen when a repository is written.

    Attributes:
        name: Of the network's model; that of pictures has `-picture` behind it. Empty for the bundle's.
        backend: Of the server, that runs the network.
        device: What the server runs it on; the Python backend's session chooses with "gpu" as `acl run` does.
        session: With the Python backend, what runs the graph inside; see `open_session`.
        instances: Copies of the network, on each device.
        picture_instances: Processes that read pictures and judge.
        max_delay_us: Longest that a request waits for others to share its batch, in microseconds.
        reading: How pictures become frames.
    """

    name: str = ""
    backend: ServerBackend = "python"
    device: Device = "gpu"
    session: str = "auto"
    instances: int = 1
    picture_instances: int = 1
    max_delay_us: int = 0
    reading: ReadSettings = field(default_factory=ReadSettings)


def write_repository(bundle: Bundle, output: Path, options: RepositoryOptions) -> list[str]:
    """Write the repository, atomically; an older one is replaced.

    Args:
        bundle: A checked bundle.
        output: Folder to write; new, empty, or a repository of ours.
        options: What is chosen.

    Returns:
        The models' names: network, picture.

    Raises:
        InputError: An option or the folder is not what it must be.
        BundleError: The bundle cannot judge yet.
        BackendError: The bundle has no engine that Triton can serve.
    """
    check_judges(bundle)
    if output.resolve().is_relative_to(bundle.path.resolve()):
        raise InputError(f"{output}: lies in the bundle; name another folder")
    name = options.name or slug(bundle.path.resolve().name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(
            f"the model's name must be letters, digits, '-', '_' and '.', got {name!r}; give --name"
        )
    network, picture = (
        _network(bundle, replace(options, name=name)),
        _picture(bundle, replace(options, name=name)),
    )
    with atomic_folder(output, marker=MARKER) as folder:
        (folder / MARKER).write_text(
            f"Models of {bundle.path.resolve().name} for Triton, written by acl triton; see docs/triton.md\n",
            encoding="utf-8",
        )
        version = _make(folder, network, version_of(network_sha256(bundle)))
        if options.backend == "onnxruntime":
            _copy_graph(bundle, version, options)
        elif options.backend == "tensorrt":
            _copy_engine(_choose_engine(bundle), version)
        else:
            _write_model(version, "NetworkModel")
            _copy_bundle(bundle, version)
        version = _make(folder, picture, version_of(bundle_sha256(bundle)))
        _write_model(version, "PictureModel")
        _copy_bundle(bundle, version)
    return [network.name, picture.name]


def _network(bundle: Bundle, options: RepositoryOptions) -> ModelConfig:
    """The configuration of the model that runs the graph."""
    manifest, backend = bundle.manifest, options.backend
    max_batch, precision, file = manifest.max_batch, manifest.precision, "model.py"
    outputs = manifest.graph.outputs
    if backend == "tensorrt":
        engine = _choose_engine(bundle)
        max_batch, precision, file = engine.record.max_batch, engine.record.arithmetic, ENGINE_FILE
        outputs = (
            engine.record.outputs
        )  # peaks and sums of maps too: the server wants all of an engine's named
        if options.device == "cpu":
            raise InputError(
                "TensorRT runs on a GPU; leave --device cpu out, or choose --backend onnxruntime"
            )
    elif backend == "onnxruntime":
        graph = _graph(bundle, options)
        file = Path(graph).name
        precision = next(each for each in manifest.arithmetics() if manifest.graph_file(each) == graph)
    session = {} if backend != "python" else {SESSION: options.session, PROVIDER: _provider(options)}
    inside = "acl" if options.session == "auto" else f"acl {options.session}"
    return ModelConfig(
        name=options.name,
        backend=backend,
        file=file,
        max_batch=max_batch,
        inputs=[_port(tensor) for tensor in manifest.graph.inputs],
        outputs=[_output(tensor, backend) for tensor in outputs],
        device=options.device,
        instances=options.instances,
        max_delay_us=options.max_delay_us,
        warm_up=sorted({1, max_batch}),
        parameters={
            NETWORK: network_sha256(bundle),
            BUNDLE: bundle_sha256(bundle),
            COMPUTES: f"{inside if backend == 'python' else backend} on {options.device}, {precision}",
            **session,
        },
        cuda=_CUDA if (backend, options.device) == ("onnxruntime", "gpu") else {},
    )


def _picture(bundle: Bundle, options: RepositoryOptions) -> ModelConfig:
    """The configuration of the model that judges pictures; it calls the other one, so it cannot be warmed up first."""
    reading = options.reading
    settings = {"exif": str(reading.exif).lower(), "max_megapixels": f"{reading.max_megapixels:g}"}
    settings |= {} if reading.bits is None else {"bits": str(reading.bits)}
    return ModelConfig(
        name=f"{options.name}-picture",
        backend="python",
        file="model.py",
        max_batch=bundle.manifest.max_batch,
        inputs=[Port("picture", "TYPE_STRING", (1,))],
        outputs=[
            Port("score", "TYPE_FP64", (1,)),
            Port("peak", "TYPE_FP64", (1,)),
            Port("is_anomalous", "TYPE_BOOL", (1,)),
            Port("regions", "TYPE_STRING", (1,)),
            Port("record", "TYPE_STRING", (1,)),
            Port("anomaly_map", "TYPE_FP32", (-1, -1)),
        ],
        device="cpu",
        instances=options.picture_instances,
        max_delay_us=options.max_delay_us,
        warm_up=(),
        parameters={
            BUNDLE: bundle_sha256(bundle),
            NETWORK_MODEL: options.name,
            **{READING.format(key): value for key, value in settings.items()},
        },
        cuda={},
    )


def _provider(options: RepositoryOptions) -> str:
    """Where ONNX Runtime computes in the Python backend; "auto" leaves it to the session."""
    return "cpu" if options.device == "cpu" and options.session in ("auto", "onnxruntime") else "auto"


def _port(tensor: Tensor) -> Port:
    return Port(tensor.name, _KINDS[tensor.dtype], tuple(int(side) for side in tensor.shape[1:]))


def _output(tensor: Tensor, backend: ServerBackend) -> Port:
    """An output; an array of the batch alone has an axis of one more there, which the Python backend's model adds."""
    port = _port(tensor)
    return port if port.dims else Port(port.name, port.kind, (1,), is_of_batch=backend != "python")


def _graph(bundle: Bundle, options: RepositoryOptions) -> str:
    path = bundle.cpu_graph_path if options.device == "cpu" else bundle.graph_path
    return path.relative_to(bundle.path).as_posix()


def _copy_graph(bundle: Bundle, version: Path, options: RepositoryOptions) -> None:
    """The ONNX file and its weights, which it names relative to itself."""
    graph = _graph(bundle, options)
    folder = Path(graph).parent
    for name in hash_sources(bundle, graph):
        _copy(bundle.path / name, version / Path(name).relative_to(folder))


def _choose_engine(bundle: Bundle) -> Engine:
    """The engine that Triton can serve; of several the one for the largest batch, then the newest."""
    reasons, fitting = [], []
    for engine in list_engines(bundle).whole:
        reason, low = _why_not_served(engine, bundle), engine.record.arithmetic
        if low in QUANTIZED:  # served only where it is qualified, which the Python backend looks at
            reason = f"is in {low}: serve it with --session tensorrt-{low}, where acl qualify passed"
        if reason:
            reasons.append(f"{engine.path.name} {reason}")
        else:
            fitting.append(engine)
    if not fitting:
        found = "; ".join(reasons) or "it has none"
        raise BackendError(
            f"{bundle.path}: has no engine that Triton serves ({found}); build one on the server's GPU with "
            f"acl build {bundle.path} --batch 1..{bundle.manifest.max_batch}"
        )
    return max(fitting, key=lambda engine: (suits(engine.record, None), engine.record.created))


def _why_not_served(engine: Engine, bundle: Bundle) -> str:
    record = engine.record
    if not is_of(record, bundle):
        return "was built from another graph"
    if record.library != "tensorrt":
        return f"is of {record.library}, which Triton has no backend for: serve it with --backend python"
    if record.weightless:
        return "has no weights"
    if record.min_batch != 1 or isinstance(record.inputs[0].shape[0], int):
        return f"takes batches of {record.min_batch}..{record.max_batch} alone"
    try:
        certificate = find_certificate(engine, bundle)
    except InputError as error:
        return f"has a certificate that cannot be used ({error})"
    return "" if certificate is not None and certificate.holds else "has no certificate that holds"


def _copy_engine(engine: Engine, version: Path) -> None:
    """The engine under the name that Triton looks for, and the evidence beside it."""
    _copy(engine.path, version / ENGINE_FILE)
    _copy(engine.path.with_suffix(".json"), version / "model.json")
    _copy(engine.certificate_path, version / "model.certificate.json")


def _make(folder: Path, config: ModelConfig, version: int) -> Path:
    path = folder / config.name / str(version)
    path.mkdir(parents=True)
    (folder / config.name / "config.pbtxt").write_text(config_text(config), encoding="utf-8")
    return path


def _write_model(version: Path, kind: str) -> None:
    text = _MODEL.format(module="acl_runtime.triton.models", kind=kind)
    (version / "model.py").write_text(text, encoding="utf-8")


def _copy_bundle(bundle: Bundle, version: Path) -> None:
    """The whole bundle with its engines; what the other model has too is there once, where the disk can do that."""
    target = version / BUNDLE_FOLDER
    first = version.parents[1]
    for source in sorted(bundle.path.rglob("*")):
        name = source.relative_to(bundle.path)
        if source.is_dir() or any(part.startswith(".") for part in name.parts):
            continue
        twin = next((each for each in first.glob(f"*/*/{BUNDLE_FOLDER}/{name.as_posix()}")), None)
        _copy(source, target / name, twin=twin)


def _copy(source: Path, target: Path, *, twin: Path | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if twin is not None:
        try:
            os.link(twin, target)
        except OSError:  # the file system has no links
            shutil.copyfile(source, target)
        return
    shutil.copyfile(source, target)
