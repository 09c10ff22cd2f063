"""What a memory of good parts is fitted to, without the parts: it is added up, merged over machines and kept.

Beside what judges, a memory's file holds `counts` [images, patches], the sums `total` (L, D) and `products` (L,
D(D+1)/2, the upper triangle), `place_total` (G·G), all float64, `spreads` (3, 3) of text, subspace and place, each
count, mean and squares, `digests` (N, 32) of the images' pixels and `subject` (32), a digest of the network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import Manifest
from acl_runtime.calibration.moments import Doubles, Moments, Spread, Sum, exact
from acl_runtime.files.arrays import list_arrays, read_arrays
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BundleError, InputError
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_file import REMEDY, memory_arrays

NAMES = ("counts", "total", "products", "place_total", "spreads", "digests", "subject")
_MADE_BY = ("image_size", "grid", "layers", "vv_from", "attention", "class_norm", "windows", "temperature")


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sums over images of good parts, each compared with the others."""

    images: int
    moments: Moments  # of their patches
    place_total: Sum  # (P,) of the images' log-odds at each place, averaged over the layers; P is G·G
    text: Spread  # of the patches' log-odds
    outside: Spread  # of `outside_distances` of images that were left out
    place: Spread  # of log-odds minus the mean of the other images; of none where there is one image
    digests: frozenset[str]  # of the images' pixels
    subject: str  # see `network_digest`

    def __add__(self, other: Statistics) -> Statistics:
        """Those of the images of both, of the same network.

        Spreads are put together as they were measured, each beside its own memory.
        """
        if self.subject != other.subject:
            raise ValueError("statistics must be of one network")
        return Statistics(
            images=self.images + other.images,
            moments=self.moments + other.moments,
            place_total=self.place_total + other.place_total,
            text=self.text + other.text,
            outside=self.outside + other.outside,
            place=self.place + other.place,
            digests=self.digests | other.digests,
            subject=self.subject,
        )


def network_digest(manifest: Manifest) -> str:
    """Return what tells the patches and log-odds of one network and its prompts from those of another: a sha256."""
    facts = {key: getattr(manifest, key) for key in _MADE_BY}
    facts |= {"weights": manifest.backbone.weights_sha256, "prompts": manifest.prompts["sha256"]}
    if "category" in manifest.prompts:  # sentences that name another product give other log-odds
        facts |= {"category": manifest.prompts["category"]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def save_memory(path: Path, memory: Memory, statistics: Statistics | None = None) -> None:
    """Write a memory into a bundle, atomically; it is in force once the manifest names it."""
    arrays = memory_arrays(memory)
    if statistics is not None:
        arrays |= _to_arrays(statistics)
    with atomic_file(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def read_statistics(path: Path, bundle: Bundle) -> Statistics:
    """Return the statistics of a memory's file, for a bundle.

    Raises:
        InputError: They are of another network.
        BundleError: The file is no memory, or one of an earlier version, which kept none.
    """
    if not set(NAMES) <= list_arrays(path, remedy=REMEDY):
        raise BundleError(
            f"{path}: holds no statistics of the good parts, as memories of earlier versions; {REMEDY} with --memory"
        )
    counts, total, products, place_total, spreads, digests, subject = read_arrays(path, NAMES, remedy=REMEDY)
    made_by = subject.tobytes().hex()
    if made_by != (here := network_digest(bundle.manifest)):
        raise InputError(
            f"{path}: is of another network or other prompts ({made_by[:12]}) than {bundle.path} ({here[:12]}); merge "
            "memories of bundles with the same weights, prompts, image size and layers"
        )
    layers, joint = total.shape if total.ndim == 2 else (0, 0)
    expected = (
        (2,),
        (layers, joint * (joint + 1) // 2),
        (bundle.manifest.grid**2,),
        (3, 3),
        (len(digests), 32),
    )
    shapes = tuple(array.shape for array in (counts, products, place_total, spreads, digests))
    if shapes != expected or counts.dtype.kind != "i" or counts.min() < 1:
        raise BundleError(f"{path}: statistics must have the shapes {expected}, got {shapes}; {REMEDY}")
    if spreads[:, ::2].min() < 0:
        raise BundleError(f"{path}: statistics count numbers and sum squares, none is below 0; {REMEDY}")
    text, outside, place = (Spread(int(n), float(mean), float(squares)) for n, mean, squares in spreads)
    return Statistics(
        images=int(counts[0]),
        moments=Moments(int(counts[1]), exact(total), exact(_unpack(products, joint))),
        place_total=exact(place_total),
        text=text,
        outside=outside,
        place=place,
        digests=frozenset(row.tobytes().hex() for row in digests.astype(np.uint8)),
        subject=made_by,
    )


def _to_arrays(statistics: Statistics) -> dict[str, np.ndarray]:
    moments = statistics.moments
    rows, columns = np.triu_indices(moments.total.value.shape[1])
    spreads = [
        [spread.count, spread.mean, spread.squares]
        for spread in (statistics.text, statistics.outside, statistics.place)
    ]
    digests = [np.frombuffer(bytes.fromhex(digest), np.uint8) for digest in sorted(statistics.digests)]
    return {
        "counts": np.array([statistics.images, moments.count]),
        "total": moments.total.value,
        "products": moments.products.value[:, rows, columns],
        "place_total": statistics.place_total.value,
        "spreads": np.array(spreads, np.float64),
        "digests": np.array(digests, np.uint8).reshape(-1, 32),
        "subject": np.frombuffer(bytes.fromhex(statistics.subject), np.uint8),
    }


def _unpack(packed: Doubles, joint: int) -> Doubles:
    rows, columns = np.triu_indices(joint)
    products = np.zeros((len(packed), joint, joint))
    products[:, rows, columns] = products[:, columns, rows] = packed
    return products
