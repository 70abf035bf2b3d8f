"""Random generators that depend on the configuration's seed and a job's name, on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *names: str) -> int:
    """A 63-bit seed for one named use of randomness.

    ``seed`` is the configuration's; ``names`` say who draws and what for, for instance
    ``("train", "digits", "batches")``.  Two uses with different names never share a stream.
    """
    text = "\x1f".join((str(int(seed)), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, *names: str) -> np.random.Generator:
    """A NumPy generator (PCG64) for one named use of randomness."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *names)))
