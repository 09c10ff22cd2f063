"""Fit a patch memory to some of the good images, before anything is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.calibration.images import Progress, pixel_digest
from acl_runtime.detection.detector import Detector
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.images.frame import BadFrame
from acl_runtime.scoring.heads import defect_directions, read_embeddings
from acl_runtime.scoring.patch_memory import Floats, GaussianScale, Memory, nearest_distances
from acl_runtime.sources.files import Source, iter_frames

LEAST_IMAGES = 2  # each is compared with the others
PATCHES = 1024  # kept of all images together: AUROC within 0.1 points of keeping all patches of four images
LEAST_TEXT_SPREAD = 0.05  # log-odds; as of scores, see `calibration/thresholds.py`
LEAST_DISTANCE_SPREAD = 1e-3  # 1 - cosine: what rounding to float16 moves, a few times over
MOST_PATCHES = 8192  # of one image that are looked at, drawn at random: a large frame has many tiles


@dataclass(frozen=True)
class FittedMemory:
    """A patch memory, and which images it was fitted to."""

    memory: Memory
    digests: dict[str, str]  # of the pixels -> source


@dataclass
class Recorder:
    """A session that keeps what it says about patches until it is taken.

    Attributes:
        session: What computes.
        bundle: Of the session; its head is "embeddings".
        embeddings: Of each call (P, L, D) float32.
        logits: Of each call (P, L) float32, log-odds by the text.
    """

    session: Session
    bundle: Bundle
    embeddings: list[Floats] = field(default_factory=list)
    logits: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the directions of the text once, not for every batch."""
        self.backend, self.provider = self.session.backend, self.session.provider
        manifest = self.bundle.manifest
        self._directions = defect_directions(
            load_text_embeddings(self.bundle), temperature=manifest.temperature
        )

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Run the session."""
        outputs = self.session(images)
        _, logits, embeddings = read_embeddings(outputs, self.bundle.manifest, self._directions)
        layers, joint = embeddings.shape[1], embeddings.shape[3]
        self.embeddings.append(embeddings.swapaxes(1, 2).reshape(-1, layers, joint).copy())
        self.logits.append(logits.swapaxes(1, 2).reshape(-1, layers).copy())
        return outputs

    def close(self) -> None:
        """Close the session."""
        self.session.close()

    def take(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return all patches since the last call, `MOST_PATCHES` of them where there are more."""
        embeddings, logits = np.concatenate(self.embeddings), np.concatenate(self.logits)
        self.embeddings.clear()
        self.logits.clear()
        chosen = np.sort(rng.permutation(len(embeddings))[:MOST_PATCHES])
        return embeddings[chosen], logits[chosen]


def check_memory(bundle: Bundle, images: int) -> None:
    """Raise InputError unless a patch memory of so many images can be fitted for a bundle."""
    if bundle.manifest.head != "embeddings":
        raise InputError(
            f'{bundle.path}: has head "{bundle.manifest.head}", which gives no patches to remember; export it with '
            "--head embeddings"
        )
    if bundle.manifest.windows:
        raise InputError(f"{bundle.path}: judges windows, which cannot be remembered; leave --memory out")
    if images < LEAST_IMAGES:
        raise InputError(f"memory must be of at least {LEAST_IMAGES} images, got {images}")


def fit_memory_to_images(
    detector: Detector, sources: Sequence[Source], count: int, *, seed: int, progress: Progress
) -> FittedMemory:
    """Fit a patch memory to some images, drawn at random whatever they show.

    Args:
        detector: Computes their patches, with its tiling and its resize.
        sources: Images of good parts; those that cannot be read are passed over here.
        count: Number of distinct images to put into the memory.
        seed: Seed of the draw.
        progress: Called after each image.

    Raises:
        InputError: The bundle gives no patches, or there are too few distinct images.
    """
    check_memory(detector.bundle, count)
    rng = np.random.default_rng([seed, 2])  # not the draw of the images that set the scales
    recorder = Recorder(detector.session, detector.bundle)
    plain = Detector(
        detector.bundle, session=recorder, tiling=detector.tiling, fast_resize=detector.fast_resize
    ).with_memory(None)
    digests: dict[str, str] = {}
    patches = []
    for item in iter_frames([sources[row] for row in rng.permutation(len(sources))]):
        if isinstance(item, BadFrame) or (digest := pixel_digest(item.frame)) in digests:
            continue
        digests[digest] = item.source
        plain(item.frame)
        patches.append(recorder.take(rng))
        progress("fitting the patch memory", len(digests), count)
        if len(digests) == count:
            break
    if len(digests) < count:
        raise InputError(
            f"good images must be more than the {count} to remember, all different, got {len(digests)}"
        )
    embeddings, logits = zip(*patches, strict=True)
    return FittedMemory(fit_memory(embeddings, logits, seed=seed), digests)


def fit_memory(
    patch_embeddings: Sequence[Floats], patch_logits: Sequence[Floats], *, patches: int = PATCHES, seed: int
) -> Memory:
    """Fit a patch memory to good parts.

    Args:
        patch_embeddings: (P, L, D) float32 of each image, unit norm; P is G·G, or that times its tiles.
        patch_logits: (P, L) float32 of each image, log-odds by the text.
        patches: Largest number of patches to keep of all images together.
        seed: Seed of the draw of each image's first patch.
    """
    if len(patch_embeddings) < LEAST_IMAGES:
        raise InputError(
            f"memory must be of at least {LEAST_IMAGES} images, each is compared with the others, "
            f"got {len(patch_embeddings)}"
        )
    rng, each = np.random.default_rng(seed), max(1, patches // len(patch_embeddings))
    kept = [
        _farthest_patches(image, each, rng).astype(np.float16).astype(np.float32)
        for image in patch_embeddings
    ]
    distances = [
        nearest_distances(
            image.swapaxes(0, 1), np.concatenate([*kept[:row], *kept[row + 1 :]]).swapaxes(0, 1)
        )
        for row, image in enumerate(patch_embeddings)
    ]
    text = [logits.mean(axis=1) for logits in patch_logits]
    return Memory(
        np.ascontiguousarray(np.concatenate(kept).swapaxes(0, 1)),
        _fit_scale(text, LEAST_TEXT_SPREAD),
        _fit_scale(distances, LEAST_DISTANCE_SPREAD),
    )


def save_memory(path: Path, memory: Memory) -> None:
    """Write a patch memory into a bundle, atomically; it is in force once the manifest names it."""
    text, distance = (np.array([scale.location, scale.spread]) for scale in (memory.text, memory.distance))
    with atomic_file(path) as temporary:
        np.savez(
            temporary,
            patch_embeddings=memory.patch_embeddings.astype(np.float16),
            text=text,
            distance=distance,
        )


def _fit_scale(values: Sequence[Floats], least: float) -> GaussianScale:
    together = np.concatenate(values).astype(np.float64)
    return GaussianScale(float(together.mean()), max(float(together.std()), least))


def _farthest_patches(image: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Choose (count, L, D) of (P, L, D) patches: each next one is the farthest from all before.

    This greedy k-centre keeps rare patches of good parts, which a random choice would forget (PatchCore, arXiv
    2106.08265).
    """
    if len(image) <= count:
        return image
    vectors = image.reshape(len(image), -1) / np.sqrt(np.float32(image.shape[1]))  # unit norm
    chosen = [int(rng.integers(len(image)))]
    nearest = vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(nearest.argmin()))
        np.maximum(nearest, vectors @ vectors[chosen[-1]], out=nearest)
    return image[chosen]
