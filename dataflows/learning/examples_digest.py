"""A digest of the very examples that a model has learned from, in their order.

Two learners with equal digests have learned the same rows with the same truths: a version can be
held against a replay, or against a data set, without keeping the data.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from dataflows.learning.online import Floats, Online, Slots, Truths

_NOTHING = bytes(32)


class ExamplesDigest:
    """SHA-256, chained from example to example: how they are cut into calls changes nothing."""

    def __init__(self) -> None:
        self._value = _NOTHING

    def add(self, rows: Floats, truths: Truths) -> None:
        """Add examples: vectors float64 ``[n, d]`` and their truths float64 ``[n]``."""
        # As little-endian doubles, the truth behind its vector.
        table = np.column_stack([rows, truths]).astype("<f8", copy=False)
        data = memoryview(np.ascontiguousarray(table).tobytes())
        width = 8 * table.shape[1]
        value = self._value
        for begin in range(0, len(data), width):
            digest = sha256(value)
            digest.update(data[begin : begin + width])
            value = digest.digest()
        self._value = value

    def hex(self) -> str:
        """The digest; all zeros before the first example."""
        return self._value.hex()


class Digested:
    """An ``Online`` that leaves a digest of what it learns."""

    def __init__(self, online: Online, digest: ExamplesDigest) -> None:
        self._online = online
        self._digest = digest

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """See ``Online``."""
        # Numbers that no double holds are found in the scores, and no news.
        with np.errstate(over="ignore", invalid="ignore"):
            self._online.run(rows, scores, steps, truths)
        learned = steps[steps < 0]
        if len(learned):
            self._digest.add(rows[~learned], truths)

    def settle(self) -> None:
        """See ``Online``."""
        self._online.settle()
