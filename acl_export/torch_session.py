"""The torch model as a session, so that it can be judged by the same evaluation as its export."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from acl_runtime.bundle import Bundle, load_text_embeddings
from acl_runtime.manifest import Manifest
from acl_train.clip import CLIP
from acl_train.config import Attention, VisionConfig
from acl_train.reference import Reference, run_reference
from acl_train.weights import build_clip, load_weights


class TorchSession:
    """What the bundle was exported from: the published steps in PyTorch, float32, on the CPU.

    Call it with what the bundle's graph takes; it returns the outputs of both heads, whatever the bundle's, so that a
    detector with a memory of good parts remembers here too.
    """

    def __init__(self, clip: CLIP, text_embeddings: Tensor, manifest: Manifest) -> None:
        """Use a network in float32 with prompts, (2, D), as the manifest describes them."""
        self._clip, self._text_embeddings, self._manifest = clip, text_embeddings, manifest

    @classmethod
    def of_bundle(cls, bundle: Bundle, weights: str | None = None) -> TorchSession:
        """Build the network that a bundle was exported from.

        Args:
            bundle: Says which weights, layers and text embeddings.
            weights: open_clip tag or file of the weights; None for what the bundle was exported from.

        Raises:
            FileNotFoundError: The weights were a file and it is not here.
            ValueError: They are not those of the bundle.
        """
        text_embeddings = torch.from_numpy(load_text_embeddings(bundle))
        return cls(load_clip(bundle, weights), text_embeddings, bundle.manifest)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on `images`, the graph's input."""
        reference = self.judge(images)
        names = ("image_logits", "anomaly_maps", "image_embeddings", "patch_embeddings")
        return {name: getattr(reference, name) for name in names}

    def judge(self, images: np.ndarray) -> Reference:
        """The same with all that the published steps give on the way."""
        frames = images if self._manifest.preprocessing.color == "BGR" else images[..., ::-1]
        blur_sigma = self._manifest.blur_sigma
        return run_reference(self._clip, self._text_embeddings, list(frames), blur_sigma=blur_sigma)


def load_clip(bundle: Bundle, weights: str | None = None) -> CLIP:
    """The network that a bundle was exported from; arguments and errors as of `TorchSession.of_bundle`."""
    manifest = bundle.manifest
    backbone = manifest.backbone
    source = weights or (None if backbone.name == "tiny" else backbone.weights)
    loaded = load_weights(backbone.name, source, quick_gelu=backbone.quick_gelu)
    if loaded.sha256 != backbone.weights_sha256:
        raise ValueError(
            f"weights must be those the bundle was exported from ({backbone.name} {backbone.weights}, sha256 "
            f"{backbone.weights_sha256[:12]}), got {loaded.source}, sha256 {loaded.sha256[:12]}; pass --weights FILE"
        )
    attention = Attention(manifest.attention)
    return build_clip(loaded, VisionConfig(manifest.image_size, manifest.layers, manifest.vv_from, attention))
