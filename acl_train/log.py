"""The loss log: JSON lines, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError


class LossLog:
    """Writes `{"epoch", "step", "loss", ...}` a line as the steps are done; use it in a `with`."""

    def __init__(self, path: Path, *, keep_epochs: int = 0) -> None:
        """Open `path`, keeping the lines of the first `keep_epochs` epochs of an earlier run."""
        kept = [line for line, epoch in _lines(path) if epoch <= keep_epochs]
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


def check_log(path: Path) -> None:
    """Raise InputError if `path` is a file that is no loss log, which must not be lost to one."""
    _lines(path)


def _lines(path: Path) -> list[tuple[str, int]]:
    """The whole lines of a log and their epochs; a last line that was cut short by a crash is dropped."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        epochs = [json.loads(line)["epoch"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: is there already and is no loss log; name another output, or remove it"
        ) from error
    if (path.stat().st_size and not lines) or not all(isinstance(epoch, int) for epoch in epochs):
        raise InputError(f"{path}: is there already and is no loss log; name another output, or remove it")
    return list(zip(lines, epochs, strict=True))


def _tensorboard(folder: Path, keep_epochs: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), filename_suffix=f".after{keep_epochs}")
