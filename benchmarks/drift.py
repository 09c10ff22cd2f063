"""Which changes of light and focus the drift monitor notices on photographs. `python -m benchmarks.drift BUNDLE`"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from acl_runtime.calibration.monitor import QUANTITIES, WINDOW, DriftMonitor, measure_quantities
from acl_runtime.data.samples import good_samples
from acl_runtime.detection.detector import Detector
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.images.decode import load_frame
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table

CALIBRATING = 0.6  # share of the good images that say what is usual
MOST = 60  # frames that are then looked at
Change = Callable[[np.ndarray], np.ndarray]


def _scale(factor: float) -> Change:
    return lambda frame: np.clip(frame * factor, 0, 255).astype(np.uint8)


def _blur(sigma: float) -> Change:
    return lambda frame: np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma))


def _noise(frame: np.ndarray) -> np.ndarray:
    return np.clip(frame + np.random.default_rng(0).normal(0, 8, frame.shape), 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Change] = {
    "none": lambda frame: frame,
    "15 % darker": _scale(0.85),
    "30 % darker": _scale(0.7),
    "20 % brighter": _scale(1.2),
    "blur, σ 1 px": _blur(1),
    "blur, σ 2 px": _blur(2),
    "noise, σ 8": _noise,
}


def measure(detector: Detector, frame: np.ndarray) -> dict[str, float]:
    """What the monitor watches of a frame."""
    return measure_quantities(detector(frame), measure_appearance(frame))


def find_unusual(
    detector: Detector, calibration: Mapping[str, Sequence[float]], frames: Sequence[np.ndarray]
) -> str:
    """The quantities that were unusual at any time; a dash for none."""
    monitor = DriftMonitor(calibration, window=min(WINDOW, len(frames)))
    found: dict[str, None] = {}
    for frame in frames:
        monitor.add(measure(detector, frame))
        found |= dict.fromkeys(monitor.unusual)
    return ", ".join(found) or "-"


def main(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    data: Annotated[list[Path], typer.Option(help="Folder with train/good or test/good; repeat.")],
) -> None:
    """Calibrate on some good images, change the others, and say what is noticed."""
    machine = describe_machine()
    detector = Detector(bundle)
    rows = []
    for root in data:
        paths = [
            part.path
            for split in ("train", "test")
            for part in good_samples(root / split / "good", category="")
        ]
        paths = [paths[index] for index in np.random.default_rng(0).permutation(len(paths))]
        split = round(CALIBRATING * len(paths))
        measured = [measure(detector, load_frame(path)) for path in paths[:split]]
        calibration = {name: [each[name] for each in measured] for name in QUANTITIES}
        frames = [load_frame(path) for path in paths[split : split + MOST]]
        noticed = [
            find_unusual(detector, calibration, [change(frame) for frame in frames])
            for change in CHANGES.values()
        ]
        rows.append([root.resolve().name, f"{split}, {len(frames)}", *noticed])
    typer.echo(f"{machine_line(machine)}\n\n{markdown_table(['set', 'calibrating, judged', *CHANGES], rows)}")


if __name__ == "__main__":
    typer.run(main)
