"""The torch model as a session, so that it can be judged by the same evaluation as its export."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.arrays import read_arrays
from acl_runtime.files.errors import InputError
from acl_train.clip import CLIP
from acl_train.config import VisionConfig
from acl_train.patches import LayerProjections
from acl_train.reference import Reference, run_reference
from acl_train.weights import Network, build_network, load_weights


class TorchSession:
    """What the bundle was exported from: the published steps in PyTorch, float32, on the CPU.

    Call it with what the bundle's graph takes; it returns the outputs of both heads, whatever the bundle's, so that a
    detector with a memory of good parts remembers here too.

    Attributes:
        backend: "torch".
        provider: The device, such as "CPU".
    """

    backend = "torch"

    def __init__(self, clip: Network, vectors: Tensor, manifest: Manifest) -> None:
        """Use a network in float32 with prompts, (H, 2, D), as the manifest describes them."""
        self.provider = str(clip.device).upper()
        self._clip, self._vectors, self._manifest = clip, vectors, manifest

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
        vectors = torch.from_numpy(load_text_embeddings(bundle))
        return cls(load_clip(bundle, weights), vectors, bundle.manifest)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on `images`, the graph's input."""
        reference = self.judge(images)
        names = ("image_logits", "anomaly_maps", "image_embeddings", "patch_embeddings")
        return {name: getattr(reference, name) for name in names}

    def close(self) -> None:
        """Do nothing: the network is whoever gave it."""

    def judge(self, images: np.ndarray) -> Reference:
        """The same with all that the published steps give on the way."""
        frames = images if self._manifest.preprocessing.color == "BGR" else images[..., ::-1]
        return run_reference(
            self._clip,
            self._vectors,
            list(frames),
            blur_sigma=self._manifest.blur_sigma,
            temperature=self._manifest.temperature,
        )


def load_clip(bundle: Bundle, weights: str | None = None) -> Network:
    """The network that a bundle was exported from; arguments and errors as of `TorchSession.of_bundle`."""
    manifest = bundle.manifest
    backbone = manifest.backbone
    source = weights or (None if backbone.name == "tiny" else backbone.weights)
    loaded = load_weights(backbone.name, source, quick_gelu=backbone.quick_gelu)
    if loaded.sha256 != backbone.weights_sha256:
        raise InputError(
            f"weights must be those the bundle was exported from ({backbone.name} {backbone.weights}, sha256 "
            f"{backbone.weights_sha256[:12]}), got {loaded.source}, sha256 {loaded.sha256[:12]}; pass --weights FILE"
        )
    vision = VisionConfig(
        manifest.image_size,
        manifest.layers,
        manifest.vv_from,
        manifest.attention,
        manifest.class_norm,
        manifest.projections is not None,
        manifest.windows,
        has_class_layers(bundle),
    )
    clip = build_network(loaded, vision)
    fill_projections(clip, bundle)
    return clip


def has_class_layers(bundle: Bundle) -> bool:
    """Whether its vectors are also of each layer's class token, see `load_text_embeddings`."""
    layers = len(bundle.manifest.layers)
    return layers > 1 and len(load_text_embeddings(bundle)) == 2 * layers


def fill_projections(clip: Network, bundle: Bundle) -> None:
    """Put a bundle's learned projection, if it has one, into a network read out for it."""
    if bundle.manifest.projections is not None:
        assert isinstance(clip, CLIP)
        path = bundle.path / bundle.manifest.projections
        stored = read_arrays(path, ("weight", "bias"), remedy="export the bundle again")
        weight, bias = map(torch.from_numpy, stored)
        clip.visual.patch_projection = LayerProjections(weight, bias)
