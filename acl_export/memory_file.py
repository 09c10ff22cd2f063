"""A memory of good parts that goes into a graph: found, checked, and copied beside it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from acl_export.describe import GRAPH_MEMORY
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.calibration.memory_statistics import read_statistics
from acl_runtime.calibration.merge import find_memory_file
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.heads import defect_directions, read_with_memory
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_file import read_memory
from acl_train.reference import Reference


@dataclass(frozen=True)
class MemoryFile:
    """The file, and the memory in it."""

    path: Path
    memory: Memory

    @classmethod
    def find(cls, name: Path, manifest: Manifest, vectors: Tensor) -> MemoryFile:
        """Find the memory that a user names, for a graph.

        Args:
            name: A record of a calibration in its bundle, a memory's file, or the bundle.
            manifest: Of the bundle that is being written.
            vectors: (1, H, 2, D), see `head_vectors`; D is also the patches'.

        Raises:
            InputError: There is none, it is of another network or other prompts, or the head is not "map".
        """
        if manifest.head != "map":
            raise InputError(
                "a memory goes into a graph with head map; leave --memory out, or give --head map: a bundle with head "
                "embeddings gets its memory by acl calibrate --memory"
            )
        if manifest.windows:
            raise InputError("a graph that judges windows holds no memory; leave --memory out")
        path = find_memory_file(name)
        read_statistics(path, Bundle(Path("this export"), manifest))  # refuses that of another network
        return cls(path, read_memory(path, manifest, int(vectors.shape[-1])))

    def copy(self, folder: Path) -> None:
        """Put the file into the bundle that is being written: its statistics, and which images calibrate nothing."""
        shutil.copyfile(self.path, folder / GRAPH_MEMORY)

    def judge(self, reference: Reference, manifest: Manifest, vectors: np.ndarray) -> Reference:
        """Return the torch model's answers with the memory, by the runtime's own arithmetic on its vectors.

        Args:
            reference: By the text alone.
            manifest: Of the bundle that is being written.
            vectors: (H, 2, D), see `load_text_embeddings`.
        """
        outputs: Mapping[str, np.ndarray] = {
            "image_embeddings": reference.image_embeddings,
            "patch_embeddings": reference.patch_embeddings,
        }
        directions = defect_directions(
            vectors.reshape(-1, *vectors.shape[-2:]), temperature=manifest.temperature
        )
        logits, maps = read_with_memory(outputs, manifest, directions, self.memory)
        return replace(reference, image_logits=logits, anomaly_maps=maps)
