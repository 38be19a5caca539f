"""Snapshots of made-up content, for the process that writes checkpoints."""

import numpy as np

from algos.snapshots import Snapshot

LARGE = 40_000_000
"""Bytes of a file that no memory of the scribe's holds whole."""


class Lent(Snapshot):
    """A snapshot whose parts are somebody's memory, and which knows whether they may be changed."""

    is_free = False

    def release(self):
        self.is_free = True


def snapshot(**contents):
    return Lent({name.replace("__", "/"): content for name, content in contents.items()})


def noise(num_bytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, num_bytes, dtype=np.uint8).tobytes()
