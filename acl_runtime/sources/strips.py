"""A folder of strips or a video, one picture after another, replayed as a line camera would deliver its lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from acl_runtime.files.errors import SourceError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.address import Address, read_options
from acl_runtime.sources.block import check_lines
from acl_runtime.sources.files import iter_frames, list_sources
from acl_runtime.sources.replay import Replay, ReplayOptions


@dataclass(frozen=True, kw_only=True)
class StripOptions(ReplayOptions):
    """Options of `strips:PATH?...`: those of the delivery.

    Attributes:
        seed: Chooses the blocks that are lost.
    """

    seed: int = 0


class StripSource(Replay):
    """A line camera over pictures; it ends with the last of them."""

    def __init__(
        self,
        address: Address,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with the first picture.

        Args:
            address: Its name is a folder of images, which come in natural order (2 before 10), an image, or a video.
            clock: Seconds, as of `time.monotonic`.
            sleep: Lets the clock's time pass.

        Raises:
            InputError: The folder holds no images, or an option is not what it must be.
            SourceError: The first picture cannot be read.
            FileNotFoundError: There is no such file or folder.
        """
        options = read_options(StripOptions, address.pairs, address.text)
        options.check(address.text)
        self._strips = _strips(address)
        self._strip = next(self._strips)  # the one that is being delivered
        self._first = 0  # number of its first line
        super().__init__(
            address.text,
            self._copy,
            self._strip.shape[1:],
            self._strip.dtype,
            options,
            seed=options.seed,
            close=self._strips.close,
            clock=clock,
            sleep=sleep,
        )

    def _copy(self, first: int, out: np.ndarray) -> int:
        """Write lines from number `first` on; those before are passed over."""
        done = 0
        while done < len(out):
            begin = first + done - self._first
            if begin >= len(self._strip):
                self._first += len(self._strip)
                strip = next(self._strips, None)
                if strip is None:
                    self._strip = self._strip[:0]
                    break
                self._strip = strip
                continue
            part = self._strip[begin : begin + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)
        return done


def _strips(address: Address) -> Generator[np.ndarray, None, None]:
    """The pictures as lines, all of one width and kind."""
    kind: tuple[tuple[int, ...], np.dtype] | None = None
    for item in iter_frames(list_sources([address.name])):
        strip = _lines_of(item)
        found = (strip.shape[1:], strip.dtype)
        if kind is not None and found != kind:
            raise SourceError(
                f"{item.source}: lines are {_words(*found)}, and {_words(*kind)} before; give strips of one camera"
            )
        kind = found
        yield strip


def _lines_of(item: Frame | BadFrame) -> np.ndarray:
    if isinstance(item, BadFrame):
        raise SourceError(f"{item.problem}; what lies behind it has no place on the web")
    try:
        check_lines(item.frame)
    except SourceError as error:
        raise SourceError(f"{item.source}: {error}") from error
    return item.frame


def _words(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{'×'.join(map(str, shape))} {dtype}"
