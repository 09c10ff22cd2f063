"""The manifest of a bundle: every key of `manifest.json`, its type and its meaning.

The classes below are the reference of the file format, version 1: a field is a key, a nested class is a JSON
object, a tuple a list. No key is optional and no other key is allowed, except in the free-form objects
(`prompts`, `tools`, `tolerance`), whose keys are up to the writer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

FORMAT: Literal["anomalyclip-bundle"] = "anomalyclip-bundle"
FORMAT_VERSION: Literal[1] = 1


@dataclass(frozen=True)
class Backbone:
    """The CLIP model inside the graph."""

    name: str  # such as "ViT-L-14-336"
    weights: str  # open_clip tag or file name it was loaded from
    weights_sha256: str  # of the weights as loaded
    inspection: bool  # false: a demonstration model, not fit to judge real products
    note: str  # what a user must know about it; may be empty


@dataclass(frozen=True)
class Tensor:
    """An input or output of the graph."""

    name: str
    shape: tuple[int | str, ...]  # a str is a dimension chosen at run time, such as "batch"
    dtype: str  # "uint8" or "float32"


@dataclass(frozen=True)
class Graph:
    """The ONNX file and what goes in and out of it."""

    file: str
    inputs: tuple[Tensor, ...]  # images (B, S, S, 3) uint8 RGB
    outputs: tuple[Tensor, ...]  # "map": image_logits, anomaly_maps; "embeddings": image_, patch_embeddings


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the graph's input; mean and std are applied inside the graph."""

    color: Literal["RGB"]
    layout: Literal["BHWC"]
    dtype: Literal["uint8"]
    resize: Literal["bicubic antialiased (Pillow)"]  # squashed to image_size × image_size
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """Where a defect begins, as probabilities in [0, 1]."""

    score_threshold: float  # a frame is anomalous when its score is at least this
    map_threshold: float  # a pixel belongs to a region when the map is at least this
    source: str  # "default", or what the thresholds were measured on


@dataclass(frozen=True)
class Parity:
    """The export's proof: worst absolute differences between the graph and the torch model."""

    reference: str  # what the graph was compared with
    image_logits: float
    anomaly_map: float
    tolerance: dict[str, float]  # largest differences that the export would have accepted
    frames: int  # how many frames were compared


@dataclass(frozen=True)
class FileRecord:
    """What a file of the bundle must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything the box needs to know about a bundle, beside the arrays."""

    format: Literal["anomalyclip-bundle"]
    format_version: Literal[1]
    head: Literal["map", "embeddings"]  # what the graph returns, see Graph.outputs
    precision: Literal["fp32", "fp16"]
    opset: int
    image_size: int  # side S of the network input and of the map, in pixels
    grid: int  # side G of the patch grid
    layers: tuple[int, ...]  # 1-based blocks whose patch embeddings make the map
    vv_from: int  # 1-based block at whose input the second path starts
    attention: Literal["vv", "qq", "kk", "qk"]  # of the second path
    temperature: float  # log-odds are cosine differences divided by this
    blur_sigma: float  # standard deviation of the map's Gaussian, in pixels
    max_batch: int  # most frames the graph takes at once
    backbone: Backbone
    prompts: dict[str, str]  # metadata of the learned prompts; "recipe" and "sha256" at least
    graph: Graph
    preprocessing: Preprocessing
    calibration: Calibration
    parity: Parity
    files: dict[str, FileRecord]  # path inside the bundle, with "/" between folders
    tools: dict[str, str]  # versions that made the bundle
    created: str  # ISO 8601 date


def manifest_to_json(manifest: Manifest) -> str:
    """The text of `manifest.json`."""
    return json.dumps(asdict(manifest), indent=2, allow_nan=False) + "\n"


def manifest_from_json(text: str | bytes) -> Manifest:
    """Read and check the text of `manifest.json`; ValueError says which key is wrong."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON ({error}); export the bundle again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f'is no manifest (it lacks "format": "{FORMAT}"); name a bundle made by acl export')
    version = document.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise ValueError(
            f"is of format version {version}, newer than {FORMAT_VERSION}; upgrade anomalyclip-deploy"
        )
    manifest: Manifest = _read(Manifest, document, "manifest")
    _check_ranges(manifest)
    return manifest


def _check_ranges(manifest: Manifest) -> None:
    for key in ("image_size", "grid", "max_batch", "temperature"):
        if (value := getattr(manifest, key)) <= 0:
            raise ValueError(f"{key} must be positive, got {value}")
    if manifest.blur_sigma < 0:
        raise ValueError(f"blur_sigma must not be negative, got {manifest.blur_sigma}")
    if not manifest.layers:
        raise ValueError("layers must name at least one block, got []")
    for key in ("score_threshold", "map_threshold"):
        if not 0 <= (value := getattr(manifest.calibration, key)) <= 1:
            raise ValueError(f"calibration.{key} must lie in 0..1, got {value}")
    if missing := {"recipe", "sha256"} - manifest.prompts.keys():
        raise ValueError(f"prompts lacks the key {min(missing)!r}")


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` from JSON as the annotated type `kind`, or a ValueError that names `where` it is wrong."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _read_object(kind, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _read(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) in (int, float) and abs(value) < 1e308:  # false for nan and infinity
        return float(value)
    if _is_scalar(kind, value):
        return value
    raise ValueError(f"{where} must be {_expected(kind)}, got {json.dumps(value)[:60]}")


def _is_scalar(kind: Any, value: Any) -> bool:
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        return value in choices and type(value) in map(type, choices)  # JSON's true is not 1
    return type(value) in choices or (kind in (int, str, bool) and type(value) is kind)


def _read_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {json.dumps(value)[:60]}")
    names = {field.name for field in fields(kind)}
    if missing := names - value.keys():
        raise ValueError(f"{where} lacks the key {min(missing)!r}")
    if unknown := value.keys() - names:
        raise ValueError(f"{where} has an unknown key {min(unknown)!r}")
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in sorted(names)})


def _expected(kind: Any) -> str:
    names = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in get_args(kind))
    if get_origin(kind) is dict:
        return "an object"
    return names.get(kind) or ("a list" if get_origin(kind) is tuple else "an integer or a string")
