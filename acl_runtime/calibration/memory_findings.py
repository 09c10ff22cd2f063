"""What a user must know about the memory before he believes in it: images that are unlike the others, or all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from acl_runtime.calibration.memory_choice import evidence_words
from acl_runtime.calibration.memory_images import FittedMemory
from acl_runtime.calibration.record import Finding, JudgedImages
from acl_runtime.scoring.memory_kinds import kinds_text
from acl_runtime.scoring.rule import log_odds
from acl_runtime.text.names import shorten

LEAST_IMAGES = 4  # in the memory, to tell one that is unlike the others
UNLIKE = 6.0  # median deviations above the median
LEAST_DEVIATION = 0.25  # log-odds; a handful of images that are all alike shows less
FAR = 5.0  # log-odds of the median peak of the images that calibrate, above the memory's own and above 0


def find_memory_findings(fitted: FittedMemory, good: JudgedImages) -> tuple[Finding, ...]:
    """Find images in the memory that are defective or of another product, and a memory that is of another product.

    Args:
        fitted: The memory.
        good: The images that calibrate, judged with it.
    """
    return (*_choice(fitted), *_unlike(fitted.peaks), *_another_product(fitted, good))


def _choice(fitted: FittedMemory) -> Iterator[Finding]:
    if fitted.evidence:
        text = (
            f"the memory is of the kind {kinds_text(fitted.memory.kinds)}, chosen by {fitted.chosen_by}: AUROC "
            f"{evidence_words(fitted.evidence)}"
        )
        yield Finding(kind="memory", text=text, images=())
    if fitted.statistics.images == 1:
        text = (
            "the memory is of a single image, whose parts were compared with each other: it does not know what other "
            "good parts look like; remember 8 or more"
        )
        yield Finding(kind="memory", text=text, images=tuple(fitted.digests.values()))


def _unlike(peaks: Mapping[str, float]) -> Iterator[Finding]:
    if len(peaks) < LEAST_IMAGES:
        return
    values = np.array(list(peaks.values()))
    median = float(np.median(values))
    deviation = max(float(np.median(np.abs(values - median))), LEAST_DEVIATION)
    names = tuple(name for name, value in peaks.items() if value - median > UNLIKE * deviation)
    if names:
        first = peaks[names[0]]
        text = (
            f"{len(names)} of {len(peaks)} images in the memory {'is' if len(names) == 1 else 'are'} unlike the "
            f"others: {shorten(names, most=5)} (map peak at {first:.1f} log-odds beside the others, usual "
            f"{median:.1f}); defective, or of another product; what looks like them passes; leave them out and "
            "calibrate again"
        )
        yield Finding(kind="unlike the memory", text=text, images=names)


def _another_product(fitted: FittedMemory, good: JudgedImages) -> Iterator[Finding]:
    median = float(np.median([log_odds(peak) for peak in good.peak]))
    usual = max(fitted.peaks.values(), default=0.0)
    if median > FAR and median - usual > FAR:
        own = f", above {usual:.1f} of any in the memory beside the others" if fitted.peaks else ""
        text = (
            f"half of the good images are far from the memory (map peaks from {median:.1f} log-odds on{own}): it is of "
            "another product or view, or of images that are more alike than parts are; remember parts like these"
        )
        yield Finding(kind="unlike the memory", text=text, images=())
