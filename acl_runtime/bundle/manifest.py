"""The manifest of a bundle: every key of `manifest.json`, its type and its meaning.

The classes below are the reference of the file format, version 6: a field is a key, a nested class is a JSON
object, a tuple a list. No key is optional and no other key is allowed, except in the free-form objects
(`prompts`, `tools`, `metrics`), whose keys are up to the writer. One key is beside the classes:
`checksum`, see `manifest_checksum`.

Version 5 lacked `graph_memory` and, in `calibration`, `ignore`; version 4 also `checksum`, `region_threshold` in
`calibration`, and `heads`, `text_heads` and `basis` in `backbone`;
version 3 also `class_norm`, `windows` and `projections`, and `memory` in `calibration`; version 2 also `ladder`,
`int8`, `drift` in `parity`, and `width` and `blocks` in `backbone`; version 1 also `quick_gelu` there, and `rule`,
`tiling` and `record` in `calibration`. All are read as if they had the defaults, those of `backbone` as unknown.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from acl_runtime.bundle.limits import check_limits
from acl_runtime.files.errors import BundleError
from acl_runtime.files.strict_json import parse_document, read_strictly
from acl_runtime.text.names import printable

FORMAT: Literal["anomalyclip-bundle"] = "anomalyclip-bundle"
FORMAT_VERSION: Literal[6] = 6
CHECKSUM = "checksum"  # key of the file
Arithmetic = Literal[
    "fp32",
    "fp16",
    "fp16-accumulate-fp32",
    "fp16-attention-fp32",
    "fp16-attention-split",
    "int8",
    "fp8",
    "fused-attention",
]
"""How a graph computes; see `acl_export/mixed.py` for what each means. The types are in the graph itself."""
QUANTIZED: tuple[Arithmetic, ...] = ("int8", "fp8")  # linear layers of eight bits, for engines
FUSED: Arithmetic = "fused-attention"  # for ONNX Runtime on CUDA


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """The CLIP model inside the graph."""

    name: str  # such as "ViT-L-14-336"
    weights: str  # open_clip tag or file name it was loaded from
    weights_sha256: str  # of the weights as loaded
    quick_gelu: bool | None  # activation: x * sigmoid(1.702 x), as in OpenAI's weights; false: GELU;
    # null: not known, because the bundle was made when the manifest did not say
    width: int | None  # of the vision tower's tokens; null as above
    blocks: int | None  # of the vision tower; null as above
    heads: int | None  # of each block's attention in the vision tower; null as above
    text_heads: int | None  # of each block's attention in the text tower; null as above
    basis: str | None  # what activation and heads are known from; null as above
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
    inputs: tuple[Tensor, ...]  # images (B, S, S, 3) uint8 RGB, or frames (B, H, W, 3) BGR, see Preprocessing
    outputs: tuple[Tensor, ...]  # "map": image_logits, anomaly_maps; "embeddings": image_, patch_embeddings


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes the graph's input; mean and std are applied inside the graph."""

    color: Literal["RGB", "BGR"]  # BGR where the graph resizes
    layout: Literal["BHWC"]
    dtype: Literal["uint8"]
    resize: Literal[
        "bicubic antialiased (Pillow)", "in the graph"
    ]  # squashed to image_size × image_size; in the
    # graph: the input is the camera's frame as it is, of one size, and the graph resizes it, equal to Pillow's
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Tiling:
    """How large frames are cut into tiles, in frame pixels; see `tiles.py`."""

    tile: int | Literal["auto"]  # side of a tile; "auto": by the frame's size and min_defect
    overlap: int | None  # least pixels that neighbours share; null: a quarter of the tile
    min_defect: int | None  # size of the smallest defect of interest, for "auto"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Where a defect begins, as probabilities in [0, 1]."""

    rule: Literal["score", "score or peak"]  # what makes a frame anomalous, see below
    score_threshold: float  # either rule: a score of at least this
    map_threshold: float  # "score or peak": also a map with a value of at least this
    region_threshold: float | None  # map value from which regions are drawn; null: from map_threshold
    tiling: (
        Tiling | None
    )  # how frames are cut; null: each is squashed whole. The thresholds hold for this only
    source: str  # "default", or what the thresholds were measured on and what they promise
    record: (
        str | None
    )  # file of the bundle with the evidence, see `calibration/record.py`; null for the default
    memory: (
        str | None
    )  # file of the bundle with a memory of good parts, see `memory_file.py`; null: the text alone
    ignore: (
        str | None
    )  # file of the bundle with the parts of a frame that do not count, see `ignore.py`; null: none

    @property
    def regions_from(self) -> float:
        """Map value from which a region is drawn, in [0, 1]."""
        return self.map_threshold if self.region_threshold is None else self.region_threshold


@dataclass(frozen=True)
class Drift:
    """How far the graph's metrics are from the torch model's on labelled images."""

    data: tuple[str, ...]  # names of the data sets
    images: int
    metrics: dict[str, float]  # graph minus torch, in [-1, 1]; the mean over categories, by metric


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The export's proof: worst absolute differences between the graph and the torch model."""

    reference: str  # what the graph was compared with
    image_logits: float
    anomaly_map: float
    tolerance: dict[
        str, float
    ]  # largest differences that the export would have accepted, and an engine may have, by the names of both above
    frames: int  # how many frames were compared
    drift: Drift | None  # null: no labelled images were given


@dataclass(frozen=True)
class Step:
    """A graph that computes the same more carefully."""

    arithmetic: Arithmetic
    file: str  # ONNX; its inputs and outputs are those of Graph
    parity: Parity


@dataclass(frozen=True)
class FileRecord:
    """What a file of the bundle must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything the box needs to know about a bundle, beside the arrays."""

    format: Literal["anomalyclip-bundle"]
    format_version: Literal[6]
    head: Literal["map", "embeddings"]  # what the graph returns, see Graph.outputs
    precision: Arithmetic  # of the graph
    opset: int
    image_size: int  # side S of the network input and of the map, in pixels
    grid: int  # side G of the patch grid
    layers: tuple[int, ...]  # 1-based blocks whose patch embeddings make the map
    vv_from: int  # 1-based block at whose input the second path starts
    attention: str  # of the second path: vv, qq, kk or qk, or several with + between them, which are averaged
    class_norm: (
        bool  # whether the class token goes through ln_post, as in CLIP; not in the published AnomalyCLIP
    )
    windows: tuple[
        int, ...
    ]  # sides, in patches, of windows whose embeddings stand for those of patches; or none
    projections: (
        str | None
    )  # file with the learned projection of each layer's patches, `weight` (L, W, D) and `bias` (L, D) float32, which
    # the graph holds too; null: CLIP's own projection
    temperature: float  # log-odds are cosine differences divided by this
    blur_sigma: float  # standard deviation of the map's Gaussian, in pixels
    max_batch: int  # most frames the graph takes at once
    backbone: Backbone
    prompts: dict[
        str, str
    ]  # of the prompts: "recipe" and "sha256" at least; "method", and "category" if they name it
    graph_memory: (
        str | None
    )  # file with the memory of good parts that is in the graph too, see `memory_file.py`; null: none is
    graph: Graph
    ladder: tuple[
        Step, ...
    ]  # tried in this order where an engine made of the graph does not compute what it says, but for `on_request`
    int8: str | None  # graph for CPUs with the linear layers in int8; used where `acl qualify` has passed
    preprocessing: Preprocessing
    calibration: Calibration
    parity: Parity  # of the graph
    files: dict[str, FileRecord]  # path inside the bundle, with "/" between folders
    tools: dict[str, str]  # versions that made the bundle
    created: str  # ISO 8601 date

    @property
    def memory_file(self) -> str | None:
        """File with the memory of good parts that judges, in the graph or beside it; None: the text alone does."""
        return self.calibration.memory or self.graph_memory

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of the frames that the graph resizes itself; None: it takes images of its own size."""
        if self.preprocessing.resize != "in the graph":
            return None
        _, height, width, _ = self.graph.inputs[0].shape
        return int(height), int(width)

    def arithmetics(self, first: Arithmetic | None = None) -> tuple[Arithmetic, ...]:
        """Those that the bundle has a graph for, from `first` on, each more careful than the one before.

        Those of `on_request` are not among them, but for `first` itself.

        Raises:
            BundleError: There is no graph for `first`.
        """
        steps = (step.arithmetic for step in self.ladder if step.arithmetic not in self.on_request)
        all_of_them = (self.precision, *steps)
        if first is None:
            return all_of_them
        if first in QUANTIZED:
            if first not in self.on_request:
                raise BundleError(
                    f"the bundle has no graph in {first}; export it with acl export --precision fp16 --quantize {first}"
                )
            return (first, *all_of_them)
        if first not in all_of_them:
            raise BundleError(
                f"arithmetic must be one of {', '.join(all_of_them)} (what the bundle was exported with), got {first}"
            )
        return all_of_them[all_of_them.index(first) :]

    @property
    def on_request(self) -> tuple[Arithmetic, ...]:
        """Those of the graphs that are there because somebody asked for them, and run only where somebody does."""
        return tuple(step.arithmetic for step in self.ladder if step.arithmetic in (*QUANTIZED, FUSED))

    def graph_file(self, arithmetic: Arithmetic) -> str:
        """The ONNX file, relative to the bundle, of one of `arithmetics()` or `on_request`."""
        return self.graph.file if arithmetic == self.precision else self._step(arithmetic).file

    def parity_of(self, arithmetic: Arithmetic) -> Parity:
        """How the graph of one of `arithmetics()` or `on_request` compares with torch."""
        return self.parity if arithmetic == self.precision else self._step(arithmetic).parity

    def _step(self, arithmetic: Arithmetic) -> Step:
        return next(step for step in self.ladder if step.arithmetic == arithmetic)


def manifest_to_json(manifest: Manifest) -> str:
    """The text of `manifest.json`."""
    document = asdict(manifest)
    sealed = document | {CHECKSUM: manifest_checksum(document)}
    return json.dumps(sealed, indent=2, allow_nan=False) + "\n"


def manifest_checksum(document: Mapping[str, Any]) -> str:
    """The sha256 of what a manifest says, 64 lower-case hexadecimal digits; white space and the order of keys are free.

    It finds damage and edits by hand, such as a threshold that no calibration stands behind. It is no signature: who
    means to deceive computes it anew. Versions 1 to 4 had none.

    Args:
        document: The JSON object; its `checksum`, if there is one, is left out.
    """
    content = {key: value for key, value in document.items() if key != CHECKSUM}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def manifest_from_json(text: str | bytes) -> Manifest:
    """Read and check the text of `manifest.json`; BundleError says which key is wrong."""
    document = parse_document(
        text,
        kind="manifest",
        format_name=FORMAT,
        newest=FORMAT_VERSION,
        remedy="name a bundle made by acl export",
    )
    version = document.get("format_version")
    if type(version) is not int or version >= 5:
        document = _without_checksum(document)
    if type(version) is int and version in range(1, FORMAT_VERSION):
        document = _with_later_keys(document, version)
    _check_strings(document, "manifest")
    manifest: Manifest = read_strictly(Manifest, document, "manifest")
    check_limits(manifest)
    if manifest.calibration.tiling is not None:
        check_tiling(manifest.calibration.tiling)
    return manifest


def check_tiling(tiling: Tiling) -> None:
    """Raise ValueError unless the sizes are such as a user may ask for."""
    tile, overlap = tiling.tile, tiling.overlap
    if isinstance(tile, int) and tile < 1:
        raise BundleError(f"tile must be at least 1 pixel, got {tile}")
    if overlap is not None and not 0 <= overlap < (tile if isinstance(tile, int) else math.inf):
        raise BundleError(f"overlap must be at least 0 and less than the tile ({tile}), got {overlap}")
    if tiling.min_defect is not None and tiling.min_defect < 1:
        raise BundleError(f"min_defect must be at least 1 pixel, got {tiling.min_defect}")


def _without_checksum(document: dict[str, Any]) -> dict[str, Any]:
    if CHECKSUM not in document:
        raise BundleError(f"manifest lacks the key {CHECKSUM!r}; copy the whole bundle again")
    try:
        found = manifest_checksum(document)
    except RecursionError as error:
        raise BundleError("is nested too deeply; copy the whole bundle again") from error
    if document[CHECKSUM] != found:
        raise BundleError(
            "was altered (its checksum differs); copy the whole bundle again, and change thresholds by acl calibrate"
        )
    return {key: value for key, value in document.items() if key != CHECKSUM}


def _check_strings(value: Any, where: str) -> None:
    """Names are shown on terminals and pages: no control characters, and nothing that is no Unicode."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key, where)
            _check_strings(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            _check_strings(item, where)
    elif isinstance(value, str) and any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        raise BundleError(f"{printable(where)} must hold no control characters, got {printable(value)[:60]}")


def _with_later_keys(document: dict[str, Any], version: int) -> dict[str, Any]:
    added: dict[str, dict[str, Any]] = {"calibration": {"ignore": None}, "backbone": {}, "parity": {}}
    whole: dict[str, Any] = {"graph_memory": None}
    if version <= 4:
        added["calibration"] |= {"region_threshold": None}
        added["backbone"] |= {"heads": None, "text_heads": None, "basis": None}
    if version <= 3:
        added["calibration"] |= {"memory": None}
        whole |= {"class_norm": False, "windows": [], "projections": None}
    if version <= 2:
        added["parity"] |= {"drift": None}
        added["backbone"] |= {"width": None, "blocks": None}
        whole |= {"ladder": [], "int8": None}
    if version == 1:
        added["backbone"]["quick_gelu"] = None
        added["calibration"] |= {"rule": "score", "tiling": None, "record": None}
    parts = {key: added[key] | document[key] for key in added if isinstance(document.get(key), dict)}
    return whole | document | parts | {"format_version": FORMAT_VERSION}
