"""How many of the latest rows are bad: beyond a share the flow must stop, not set all aside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class TooManyBadRecordsError(Exception):
    """So many records are bad that going on would throw the topic away."""


class BadShare:
    """Looks at each window of consecutive rows, wherever batches end. Pure."""

    def __init__(self, share_max: float, window_rows: int) -> None:
        """More than ``share_max`` of any ``window_rows`` rows are too many."""
        self._share_max = share_max
        self._window_rows = window_rows
        self._recent = np.empty(0, np.bool_)

    def too_many(self, is_bad: npt.NDArray[np.bool_]) -> str:
        """``N of WINDOW`` if a window that ends in these rows has too many, else empty."""
        recent = np.concatenate([self._recent, is_bad])
        window = self._window_rows
        self._recent = recent[-(window - 1) :] if window > 1 else recent[:0]
        if len(recent) < window:
            return ""
        counts = np.concatenate([[0], np.cumsum(recent)])
        worst = int((counts[window:] - counts[:-window]).max())
        return f"{worst} of {window}" if worst > self._share_max * window else ""
