"""Take some of the good images into a memory, before anything is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.calibration.images import Progress, pixel_digest
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.images.frame import BadFrame
from acl_runtime.scoring.heads import defect_directions, read_embeddings
from acl_runtime.scoring.patch_memory import LEAST_IMAGES, Memory, remember
from acl_runtime.sources.files import Source, iter_frames

MOST_PATCHES = 8192  # of one image that are looked at, drawn at random: a large frame has many tiles


@dataclass(frozen=True)
class Remembered:
    """A memory, and which images it is of."""

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
    embeddings: list[npt.NDArray[np.float32]] = field(default_factory=list)
    logits: list[npt.NDArray[np.float32]] = field(default_factory=list)

    @property
    def backend(self) -> str:
        """Of the session."""
        return self.session.backend

    @property
    def provider(self) -> str:
        """Of the session."""
        return self.session.provider

    def close(self) -> None:
        """Close the session."""
        self.session.close()

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Run the session."""
        outputs, manifest = self.session(images), self.bundle.manifest
        directions = defect_directions(load_text_embeddings(self.bundle), temperature=manifest.temperature)
        _, logits, embeddings = read_embeddings(outputs, manifest, directions)
        layers, joint = embeddings.shape[1], embeddings.shape[3]
        self.embeddings.append(embeddings.swapaxes(1, 2).reshape(-1, layers, joint).copy())
        self.logits.append(logits.swapaxes(1, 2).reshape(-1, layers).copy())
        return outputs

    def take(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """All patches since the last time, `MOST_PATCHES` of them where there are more."""
        embeddings, logits = np.concatenate(self.embeddings), np.concatenate(self.logits)
        self.embeddings.clear()
        self.logits.clear()
        chosen = np.sort(rng.permutation(len(embeddings))[:MOST_PATCHES])
        return embeddings[chosen], logits[chosen]


def check_memory(bundle: Bundle, images: int) -> None:
    """Raise ValueError unless so many images can be remembered for a bundle."""
    if bundle.manifest.head != "embeddings":
        raise InputError(
            f'{bundle.path}: has head "{bundle.manifest.head}", which gives no patches to remember; export it with '
            "--head embeddings"
        )
    if bundle.manifest.windows:
        raise InputError(f"{bundle.path}: judges windows, which cannot be remembered; leave --memory out")
    if images < LEAST_IMAGES:
        raise InputError(f"memory must be of at least {LEAST_IMAGES} images, got {images}")


def remember_images(
    detector: Detector, sources: Sequence[Source], count: int, *, seed: int, progress: Progress
) -> Remembered:
    """Make a memory of some images, drawn at random whatever they show.

    Args:
        detector: Looks at them, cut into tiles and resized as it does.
        sources: Images of good parts; those that cannot be read are passed over here.
        count: Distinct images to remember.
        seed: Of the draw.
        progress: Called after each image.
    """
    check_memory(detector.bundle, count)
    rng = np.random.default_rng([seed, 2])  # not the draw of the images that set the scales
    recorder = Recorder(detector.session, detector.bundle)
    look = Detector(
        detector.bundle, session=recorder, tiling=detector.tiling, fast_resize=detector.fast_resize
    ).with_memory(None)
    digests: dict[str, str] = {}
    patches = []
    for item in iter_frames([sources[row] for row in rng.permutation(len(sources))]):
        if isinstance(item, BadFrame) or (digest := pixel_digest(item.frame)) in digests:
            continue
        digests[digest] = item.source
        look(item.frame)
        patches.append(recorder.take(rng))
        progress("remembering good parts", len(digests), count)
        if len(digests) == count:
            break
    if len(digests) < count:
        raise InputError(
            f"good images must be more than the {count} to remember, all different, got {len(digests)}"
        )
    embeddings, logits = zip(*patches, strict=True)
    return Remembered(remember(embeddings, logits, seed=seed), digests)
