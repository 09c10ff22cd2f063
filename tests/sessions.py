"""Sessions for tests that put something between the detector and the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acl_runtime.backends.session import Session


@dataclass
class Around:
    """A session whose calls go through a function; it tells how often it was closed."""

    session: Session
    call: Callable[[np.ndarray], Any]
    backend: str = field(init=False)
    provider: str = field(init=False)
    closed: int = 0

    def __post_init__(self) -> None:
        self.backend, self.provider = self.session.backend, self.session.provider

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        answer: Mapping[str, np.ndarray] = self.call(images)
        return answer

    def close(self) -> None:
        self.closed += 1
        self.session.close()
