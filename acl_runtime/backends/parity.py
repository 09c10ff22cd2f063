"""How far a session's answers are from the torch model's, on the bundle's golden images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle, load_golden, load_text_embeddings
from acl_runtime.files.errors import BackendError
from acl_runtime.scoring.heads import defect_directions, read_head

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]
ROUNDS = 3  # calls per batch size: a session may record the first and replay it from then on


@dataclass(frozen=True)
class Difference:
    """Worst absolute differences from torch in float32 at one batch size; infinite where nan came out."""

    batch: int
    image_logits: float  # log-odds
    anomaly_map: float  # probability


class GoldenImages:
    """A bundle's golden images with the torch model's answers, or other images with a session's."""

    def __init__(self, bundle: Bundle, known: Mapping[str, np.ndarray] | None = None) -> None:
        """Read them; ValueError if the file is not one.

        Args:
            bundle: Whose.
            known: Other images with their answers, see `answers_of`; None for the golden ones.
        """
        self._manifest = bundle.manifest
        self._golden = load_golden(bundle) if known is None else known
        self._directions = defect_directions(
            load_text_embeddings(bundle), temperature=bundle.manifest.temperature
        )

    def __len__(self) -> int:
        return len(self._golden["images"])

    def rows(self, start: int, batch: int) -> np.ndarray:
        """Numbers of `batch` images from `start` on, beginning anew at the end."""
        return np.arange(start, start + batch) % len(self)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """As the graph takes them."""
        return np.ascontiguousarray(self._golden["images"][rows])

    def compare(self, session: Run, *, batch: int, rounds: int = ROUNDS) -> Difference:
        """Run a session on all images, `batch` at a time, every image in several places of the batch.

        Args:
            session: As the detector calls it, or a function that does what one does when it is called.
            batch: Images per call; more than there are repeats them.
            rounds: Calls at least.
        """
        passes = -(-len(self) // batch)  # calls until every image was seen once; then they change places
        starts = [call * batch + call // passes for call in range(max(rounds, passes))]
        differences = [self._compare_call(session, self.rows(start, batch)) for start in starts]
        logits, maps = np.max(differences, axis=0).tolist()
        return Difference(batch, logits, maps)

    def _compare_call(self, session: Run, rows: np.ndarray) -> tuple[float, float]:
        outputs = session(self.images(rows))
        if not all(np.isfinite(array).all() for array in outputs.values()):
            return np.inf, np.inf
        logits, maps = read_head(outputs, self._manifest, self._directions)
        return _worst(logits, self._golden["image_logits"][rows]), _worst(
            maps, self._golden["anomaly_maps"][rows]
        )


def check_parity(run: Run, bundle: Bundle, *, batches: Iterable[int], who: str) -> None:
    """See that something which runs a bundle's graph computes what was trained.

    Args:
        run: Does what a session does.
        bundle: Whose golden images count.
        batches: Images per call, each in turn.
        who: What runs it, in words.

    Raises:
        BackendError: An answer is further from torch's than the manifest accepts.
    """
    golden, tolerance = GoldenImages(bundle), bundle.manifest.parity.tolerance
    for batch in batches:
        found = golden.compare(run, batch=batch, rounds=1)
        for name, limit in tolerance.items():
            if not (off := getattr(found, name)) <= limit:
                raise BackendError(
                    f"{who} does not compute what was trained: {name} is off by {off:.2g} at batch {batch}, at most "
                    f"{limit:g} is accepted; choose another backend there"
                )


def answers_of(session: Session, bundle: Bundle, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a session says of images, for others to be compared with it.

    Args:
        session: Computes exactly; asked for one image at a time.
        bundle: Whose graph it runs.
        images: (N, S, S, 3) uint8, as the graph takes them.

    Returns:
        `images`, `image_logits` (N,) and `anomaly_maps` (N, S, S).
    """
    manifest = bundle.manifest
    directions = defect_directions(load_text_embeddings(bundle), temperature=manifest.temperature)
    answers = [read_head(session(images[row : row + 1]), manifest, directions) for row in range(len(images))]
    logits, maps = (np.concatenate(part) for part in zip(*answers, strict=True))
    return {"images": images, "image_logits": logits, "anomaly_maps": maps}


def worst_of(a: Difference, b: Difference) -> Difference:
    """The larger of the figures of two rounds at one batch size."""
    return Difference(a.batch, max(a.image_logits, b.image_logits), max(a.anomaly_map, b.anomaly_map))


def _worst(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())
