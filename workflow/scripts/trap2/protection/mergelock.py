"""Merge-Lock: mixed head features (Merge-Lock paper, Eq. 5, 8, 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomMixing:
    """Merge-Lock: T = R·P·D.

    R has independent standard normal entries, P is a uniformly random permutation, and D is
    diagonal and log-normal around 1.

    Attributes:
        log_std: standard deviation of the logarithm of D's entries.
        floor: smaller entries of D are raised to it.
    """

    log_std: float = 0.2
    floor: float = 1e-4

    def draw(self, width: int, generator: np.random.Generator) -> np.ndarray:
        mixing = generator.standard_normal((width, width))
        permutation = np.eye(width)[generator.permutation(width)]
        scales = np.maximum(generator.lognormal(0.0, self.log_std, width), self.floor)
        found: np.ndarray = mixing @ permutation @ np.diag(scales)
        return found
