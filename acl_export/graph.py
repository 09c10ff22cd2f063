"""The exported graph: resize if asked for, normalisation, the vision tower and, for head "map", all up to the map."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from acl_export.config import FrameSize, Head
from acl_export.mixed import attend, in_arithmetic, with_attention
from acl_export.resize import PillowResize
from acl_export.weights_file import WeightsFile
from acl_runtime.bundle.manifest import Arithmetic
from acl_runtime.scoring.heads import defect_directions, of_images, of_patches
from acl_runtime.scoring.maps import map_operator
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.windows import LEAST_LOGIT, cover_operator
from acl_train.config import TEMPERATURE
from acl_train.weights import Tower

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

    def __init__(self, visual: Tower, frame_size: FrameSize | None = None) -> None:
        super().__init__()
        side = visual.config.image_size
        self.visual, self.input_name = visual, input_name(frame_size)
        self.input_shape = (*(frame_size or (side, side)), 3)
        self.resize = nn.Identity() if frame_size is None else PillowResize(*frame_size, side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 RGB, or (B, H, W, 3) BGR frames, to (B, D) and (B, L, G·G, D) float32, unit norm.

        With a class token of each layer the first is (B, L, D); with windows the second is (B, 1, M, D), see
        `VisionTower.forward`.
        """
        outputs: tuple[Tensor, Tensor] = self.visual(self.visual.normalize(self.resize(images)))
        return outputs


class MapGraph(EmbeddingsGraph):
    """Images to log-odds and maps; the prompts are one vector inside the graph, or one for images and one per layer."""

    operator: Tensor  # (S, G)
    of_images: Tensor  # (D,), or (L·D,) for the class tokens of the layers
    of_patches: Tensor  # (D, 1), or (L, D, 1)

    def __init__(
        self,
        visual: Tower,
        vectors: np.ndarray,
        *,
        blur_sigma: float,
        temperature: float,
        frame_size: FrameSize | None = None,
    ) -> None:
        super().__init__(visual, frame_size)
        operator = map_operator(visual.grid, visual.config.image_size, blur_sigma)
        directions = defect_directions(vectors, temperature=temperature)
        self.grid, self.windows = visual.grid, visual.config.windows
        self.register_buffer("operator", torch.from_numpy(operator.astype(np.float32)))
        layers = 1 if self.windows else len(visual.config.layers)
        self.register_buffer("of_images", torch.from_numpy(of_images(directions, layers)))
        per_layer = of_patches(directions, layers)[:, :, None]
        self.register_buffer(
            "of_patches", torch.from_numpy(per_layer if len(per_layer) > 1 else per_layer[0])
        )
        for side in self.windows:
            cover = cover_operator(visual.grid, side).astype(np.float32)
            self.register_buffer(f"cover_{side}", torch.from_numpy(cover))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Input as above to (B,) log-odds and (B, S, S) probabilities, float32."""
        image_embeddings, patch_embeddings = super().forward(images)
        image_logits = image_embeddings.flatten(1) @ self.of_images
        patch_logits = (patch_embeddings @ self.of_patches).squeeze(-1)  # (B, L, G·G)
        if self.windows:
            patches = self.aggregate_windows(patch_logits[:, 0], image_logits)
        else:
            patches = torch.sigmoid(patch_logits).mean(dim=1).unflatten(1, (self.grid, self.grid))
        return image_logits, self.operator @ patches @ self.operator.T

    def aggregate_windows(self, window_logits: Tensor, image_logits: Tensor) -> Tensor:
        """`acl_runtime.scoring.windows.windows_to_patches`: (B, M) and (B,) to (B, G, G)."""
        inverse = inverse_probability(image_logits)[:, None, None]
        places = [self.grid - side + 1 for side in self.windows]
        of_sides = inverse_probability(window_logits).split([count**2 for count in places], dim=1)
        for side, count, windows in zip(self.windows, places, of_sides, strict=True):
            cover = self.get_buffer(f"cover_{side}")
            inverse = inverse + cover @ windows.unflatten(1, (count, count)) @ cover.T
        return (1 + len(self.windows)) / inverse


def inverse_probability(logits: Tensor) -> Tensor:
    """1 / sigmoid."""
    return 1 + torch.exp(-logits.clamp(min=LEAST_LOGIT))


def make_graph(
    visual: Tower,
    vectors: np.ndarray,
    *,
    head: Head,
    blur_sigma: float,
    temperature: float = TEMPERATURE,
    arithmetic: Arithmetic | None = None,
    attention: Callable[..., Tensor] = attend,
    frame_size: FrameSize | None = None,
    memory: Memory | None = None,
) -> EmbeddingsGraph:
    """The module to export.

    Args:
        visual: In float32.
        vectors: (H, 2, D) float32, unit rows NORMAL, ANOMALOUS, see `head_vectors`.
        head: What it returns.
        blur_sigma: Of the map's Gaussian, in pixels.
        temperature: Log-odds are differences of cosines divided by this.
        arithmetic: One of `LADDER`, or `FUSED`; None for float32 on the weights as they are.
        attention: Of the latter, see `with_attention`.
        frame_size: Height and width of the camera's frames, to be resized in the graph; None for images of the
            network's size.
        memory: Of good parts, for head "map"; None for the text alone.
    """
    visual = with_attention(visual, attention) if arithmetic is None else in_arithmetic(visual, arithmetic)
    if memory is not None:
        from acl_export.memory_graph import MemoryGraph

        return MemoryGraph(
            visual, vectors, memory, blur_sigma=blur_sigma, temperature=temperature, frame_size=frame_size
        )
    if head is Head.map:
        return MapGraph(
            visual, vectors, blur_sigma=blur_sigma, temperature=temperature, frame_size=frame_size
        )
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
