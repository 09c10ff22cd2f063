"""The exported graph: normalisation, the vision tower and, for head "map", everything up to the map."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from acl_export.config import Head
from acl_runtime.heads import defect_direction
from acl_runtime.maps import map_operator
from acl_train.clip import CLIP, normalize_images
from acl_train.config import TEMPERATURE

OPSET = 18  # LayerNormalization is one operator since 17; TensorRT 8.6 (JetPack 6.0) reads 18
ONE_FILE_BYTES = 512 << 20  # larger weights go to model.onnx.data, which runtimes map instead of copying

OUTPUTS = {
    Head.map: ("image_logits", "anomaly_maps"),
    Head.embeddings: ("image_embeddings", "patch_embeddings"),
}


class EmbeddingsGraph(nn.Module):
    """Images to embeddings; the runtime applies the prompts."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.visual = clip.visual

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 RGB to (B, D) and (B, L, G·G, D) float32, unit norm."""
        outputs: tuple[Tensor, Tensor] = self.visual(normalize_images(images))
        return outputs


class MapGraph(EmbeddingsGraph):
    """Images to log-odds and maps; the prompts are one vector inside the graph."""

    operator: Tensor  # (S, G)
    direction: Tensor  # (D,)

    def __init__(self, clip: CLIP, text_embeddings: np.ndarray, *, blur_sigma: float) -> None:
        super().__init__(clip)
        operator = map_operator(clip.visual.grid, clip.visual.config.image_size, blur_sigma)
        direction = defect_direction(text_embeddings, temperature=TEMPERATURE)
        self.grid = clip.visual.grid
        self.register_buffer("operator", torch.from_numpy(operator.astype(np.float32)))
        self.register_buffer("direction", torch.from_numpy(direction))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 RGB to (B,) log-odds and (B, S, S) probabilities, float32."""
        image_embeddings, patch_embeddings = super().forward(images)
        patches = torch.sigmoid(patch_embeddings @ self.direction).mean(dim=1)  # (B, G·G)
        patches = patches.unflatten(1, (self.grid, self.grid))
        return image_embeddings @ self.direction, self.operator @ patches @ self.operator.T


def make_graph(clip: CLIP, text_embeddings: np.ndarray, *, head: Head, blur_sigma: float) -> EmbeddingsGraph:
    """The module to export for a head."""
    if head is Head.map:
        return MapGraph(clip, text_embeddings, blur_sigma=blur_sigma)
    return EmbeddingsGraph(clip)


def write_onnx(graph: EmbeddingsGraph, path: Path, *, head: Head, max_batch: int) -> None:
    """Export by torch.export, with a dynamic batch, and let onnx check the file.

    Raises:
        onnx.checker.ValidationError: If the file is not valid ONNX.
    """
    size = graph.visual.config.image_size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # two: torch.export takes one for a constant
    batch = torch.export.Dim("batch", min=1, max=max(2, max_batch))
    bytes_of_weights = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    with warnings.catch_warnings():  # the exporter's dependencies deprecate things to each other
        warnings.simplefilter("ignore")
        # exported first by itself: a batch that some line of the network fixes is then an error
        program = torch.export.export(graph.eval(), (example,), dynamic_shapes={"images": {0: batch}})
        torch.onnx.export(
            program,
            (),
            path,
            input_names=["images"],
            output_names=OUTPUTS[head],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"images": {0: batch}},  # here it only names the dimension
            external_data=bytes_of_weights > ONE_FILE_BYTES,
            verbose=False,
        )
    onnx.checker.check_model(str(path), full_check=True)
