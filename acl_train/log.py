"""The loss log: JSON lines, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from acl_runtime.files.atomic import atomic_file


class LossLog:
    """Writes `{"epoch", "step", "loss", ...}` a line as the steps are done; use it in a `with`."""

    def __init__(self, path: Path, *, keep_epochs: int = 0) -> None:
        """Open `path`, keeping the lines of the first `keep_epochs` epochs of an earlier run."""
        kept = [line for line in _lines(path) if json.loads(line)["epoch"] <= keep_epochs]
        with atomic_file(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a", buffering=1)  # a line is on disk when it is written
        self._board = _tensorboard(path.with_suffix("").with_suffix(".tensorboard"), keep_epochs)
        self._steps = len(kept)

    def write(self, epoch: int, step: int, losses: dict[str, float]) -> None:
        """Append one step's losses."""
        self._file.write(json.dumps({"epoch": epoch, "step": step, **losses}) + "\n")
        self._steps += 1
        if self._board is not None:
            for name, loss in losses.items():
                self._board.add_scalar(f"loss/{name}", loss, self._steps)

    def __enter__(self) -> LossLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _lines(path: Path) -> list[str]:
    """The whole lines of a log; a last line that was cut short by a crash is dropped."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _tensorboard(folder: Path, keep_epochs: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), filename_suffix=f".after{keep_epochs}")
