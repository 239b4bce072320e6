"""A test that may be looked at after every row: is the mean of bounded numbers above a margin?

It bets. Whoever starts with 1 and stakes a part of it, row after row, on the numbers being above
the margin, has on average no more than 1 at any time if they are not; that he ever has ``1 / a`` or
more then has a probability of ``a`` at the most (Ville's inequality), however often one looks and
whenever one stops. Nothing is assumed but the bound: the numbers may change their distribution and
depend on those before them, as long as none has, given these, a mean above the margin.

The best stake depends on how far above they are, so what there is at the start is split over
several, each of which plays on for itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Below 1: he who stakes all is ruined by one row.
_STAKES = 0.9 * 0.5 ** np.arange(8.0)


def _nothing_won() -> Floats:
    return np.zeros(len(_STAKES))


@dataclass
class BettingTest:
    """Evidence, gathered row by row, that the mean of numbers is above ``margin``.

    Attributes:
        bound: numbers are cut to ``-bound`` to ``bound``.
        margin: at least 0, below ``bound``.
        rows: how many numbers it has seen.
        highest: the largest logarithm of the wealth so far; 0 at the start.
    """

    bound: float
    margin: float
    rows: int = 0
    highest: float = 0.0
    _logs: Floats = field(default_factory=_nothing_won)

    def __post_init__(self) -> None:
        """Refuse what could not work (ValueError)."""
        if not 0 <= self.margin < self.bound:
            raise ValueError(f"margin is {self.margin}, must be from 0 to below {self.bound}")

    @property
    def evidence(self) -> float:
        """The wealth now: how many to one speak for a mean above the margin."""
        return math.exp(min(self._mixed(self._logs[:, None])[0], 700.0))

    def add(self, numbers: Floats) -> None:
        """Look at further numbers, ``[n]``; how they are cut into calls changes nothing."""
        if not len(numbers):
            return
        steps = (np.clip(numbers, -self.bound, self.bound) - self.margin) / (
            self.bound + self.margin
        )
        wins = np.log1p(_STAKES[:, None] * steps)
        logs = np.cumsum(np.concatenate([self._logs[:, None], wins], axis=1), axis=1)
        self._logs = logs[:, -1].copy()
        self.rows += len(numbers)
        self.highest = max(self.highest, float(self._mixed(logs[:, 1:]).max()))

    def has_found(self, false_alarm: float) -> bool:
        """Whether it was ever surer than that; of no use is it to ask again later."""
        return self.highest >= -math.log(false_alarm)

    @staticmethod
    def _mixed(logs: Floats) -> Floats:
        top = logs.max(axis=0)
        # Added up one after the other: numpy's sum of a single column has another order.
        sums = np.cumsum(np.exp(logs - top), axis=0)[-1]
        return np.asarray(top + np.log(sums / len(logs)), np.float64)

    def dump(self) -> dict[str, object]:
        """Everything, as plain data; ``load`` is its inverse."""
        return {
            "bound": self.bound,
            "margin": self.margin,
            "rows": self.rows,
            "highest": self.highest,
            "logs": self._logs.tolist(),
        }

    @classmethod
    def load(cls, data: dict[str, object]) -> BettingTest:
        """A test as it was when ``dump`` was called."""
        logs = np.array(data["logs"], np.float64)
        bound, margin, highest = (float(str(data[n])) for n in ("bound", "margin", "highest"))
        return cls(bound, margin, int(str(data["rows"])), highest, logs)
