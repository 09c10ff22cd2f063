"""The exported graph: resize if asked for, normalisation, the vision tower and, for head "map", all up to the map."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from acl_export.config import FrameSize, Head
from acl_export.mixed import in_arithmetic
from acl_export.resize import PillowResize
from acl_export.weights_file import WeightsFile
from acl_runtime.heads import defect_direction
from acl_runtime.manifest import Arithmetic
from acl_runtime.maps import map_operator
from acl_train.clip import VisionTower, normalize_images
from acl_train.config import TEMPERATURE

OPSET = 18  # LayerNormalization is one operator since 17; TensorRT 8.6 (JetPack 6.0) reads 18
ONE_FILE_BYTES = 512 << 20  # larger weights go to a file of their own, which runtimes map instead of copying

OUTPUTS = {
    Head.map: ("image_logits", "anomaly_maps"),
    Head.embeddings: ("image_embeddings", "patch_embeddings"),
}


def input_name(frame_size: FrameSize | None) -> str:
    """What the graph's input is called."""
    return "images" if frame_size is None else "frames"


class EmbeddingsGraph(nn.Module):
    """Images to embeddings; the runtime applies the prompts."""

    def __init__(self, visual: VisionTower, frame_size: FrameSize | None = None) -> None:
        super().__init__()
        side = visual.config.image_size
        self.visual, self.input_name = visual, input_name(frame_size)
        self.input_shape = (*(frame_size or (side, side)), 3)
        self.resize = nn.Identity() if frame_size is None else PillowResize(*frame_size, side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 RGB, or (B, H, W, 3) BGR frames, to (B, D) and (B, L, G·G, D) float32, unit norm."""
        outputs: tuple[Tensor, Tensor] = self.visual(normalize_images(self.resize(images)))
        return outputs


class MapGraph(EmbeddingsGraph):
    """Images to log-odds and maps; the prompts are one vector inside the graph."""

    operator: Tensor  # (S, G)
    direction: Tensor  # (D,)

    def __init__(
        self,
        visual: VisionTower,
        text_embeddings: np.ndarray,
        *,
        blur_sigma: float,
        frame_size: FrameSize | None = None,
    ) -> None:
        super().__init__(visual, frame_size)
        operator = map_operator(visual.grid, visual.config.image_size, blur_sigma)
        direction = defect_direction(text_embeddings, temperature=TEMPERATURE)
        self.grid = visual.grid
        self.register_buffer("operator", torch.from_numpy(operator.astype(np.float32)))
        self.register_buffer("direction", torch.from_numpy(direction))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Input as above to (B,) log-odds and (B, S, S) probabilities, float32."""
        image_embeddings, patch_embeddings = super().forward(images)
        patches = torch.sigmoid(patch_embeddings @ self.direction).mean(dim=1)  # (B, G·G)
        patches = patches.unflatten(1, (self.grid, self.grid))
        return image_embeddings @ self.direction, self.operator @ patches @ self.operator.T


def make_graph(
    visual: VisionTower,
    text_embeddings: np.ndarray,
    *,
    head: Head,
    blur_sigma: float,
    arithmetic: Arithmetic | None = None,
    frame_size: FrameSize | None = None,
) -> EmbeddingsGraph:
    """The module to export.

    Args:
        visual: In float32.
        text_embeddings: (2, D) float32, unit rows NORMAL, ANOMALOUS.
        head: What it returns.
        blur_sigma: Of the map's Gaussian, in pixels.
        arithmetic: One of `LADDER`; None for float32 on the weights as they are.
        frame_size: Height and width of the camera's frames, to be resized in the graph; None for images of the
            network's size.
    """
    if arithmetic is not None:
        visual = in_arithmetic(visual, arithmetic)
    if head is Head.map:
        return MapGraph(visual, text_embeddings, blur_sigma=blur_sigma, frame_size=frame_size)
    return EmbeddingsGraph(visual, frame_size)


def write_onnx(
    graph: EmbeddingsGraph, path: Path, *, head: Head, max_batch: int, weights: WeightsFile | None = None
) -> None:
    """Export by torch.export, with a dynamic batch, and let onnx check the file.

    Args:
        graph: What to export.
        path: ONNX file to write.
        head: Names the outputs.
        max_batch: Most images at once.
        weights: Where to put the weights; None to leave them in the file unless they are large.

    Raises:
        onnx.checker.ValidationError: If the file is not valid ONNX.
    """
    model = _to_onnx(graph, head=head, max_batch=max_batch)
    if weights is None and sum(len(tensor.raw_data) for tensor in model.graph.initializer) > ONE_FILE_BYTES:
        weights = WeightsFile(path.with_name(f"{path.name}.data"))
    if weights is not None:
        weights.move_from(model)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)


def _to_onnx(graph: EmbeddingsGraph, *, head: Head, max_batch: int) -> onnx.ModelProto:
    example = torch.zeros(
        2, *graph.input_shape, dtype=torch.uint8
    )  # two: torch.export takes one for a constant
    batch = torch.export.Dim("batch", min=1, max=max(2, max_batch))
    with warnings.catch_warnings():  # the exporter's dependencies deprecate things to each other
        warnings.simplefilter("ignore")
        # exported first by itself: a batch that some line of the network fixes is then an error
        program = torch.export.export(graph.eval(), (example,), dynamic_shapes={"images": {0: batch}})
        exported = torch.onnx.export(
            program,
            (),
            input_names=[graph.input_name],
            output_names=OUTPUTS[head],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"images": {0: batch}},  # here it only names the dimension
            verbose=False,
        )
    assert exported is not None
    return _without_origins(exported.model_proto)


def _without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop where in the source each node comes from: most of the file, and folders of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    return model
