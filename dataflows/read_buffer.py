"""What a view's reads saw, kept until the rows that asked for it are run."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataflows.batches import Floats, Ints


class ReadBuffer:
    """Results of reads by rank; pickled as it is."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Floats]] = []

    def add(self, ranks: Ints, values: Floats) -> None:
        """Keep ``values[i]`` (float64[n, F]) for the read of rank ``ranks[i]``."""
        order = np.argsort(ranks)
        self._parts.append((ranks[order], values[order]))

    def find(self, ranks: Ints) -> tuple[Any, Floats]:
        """(bool[n] whether the read of that rank is there, values of those that are)."""
        if not self._parts:
            return np.zeros(len(ranks), np.bool_), np.empty((0, 0))
        held, values = self._merged()
        places, found = _places(held, ranks)
        return found, values[places[found]]

    def drop(self, ranks: Ints) -> None:
        """Forget the reads of these ranks."""
        if not self._parts:
            return
        held, values = self._merged()
        places, found = _places(held, ranks)
        keep = np.ones(len(held), np.bool_)
        keep[places[found]] = False
        self._parts = [(held[keep], values[keep])] if keep.any() else []

    def _merged(self) -> tuple[Ints, Floats]:
        """All that is held, in one piece in the order of ranks."""
        if len(self._parts) > 1:
            ranks = np.concatenate([part for part, _ in self._parts])
            values = np.concatenate([part for _, part in self._parts])
            order = np.argsort(ranks)
            self._parts = [(ranks[order], values[order])]
        return self._parts[0]


def _places(held: Ints, ranks: Ints) -> tuple[Ints, Any]:
    """Where in the sorted ``held`` each rank stands, and whether it does."""
    places = np.minimum(np.searchsorted(held, ranks), len(held) - 1)
    return places, held[places] == ranks
