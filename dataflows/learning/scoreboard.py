"""Running metrics of a model and of two trivial baselines, over the same outcomes."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from contracts.probability_bounds import PROBABILITY_MAX, PROBABILITY_MIN
from dataflows.learning.auc import auc_in_order
from dataflows.learning.records import Outcomes

AUC_OUTCOMES_MAX = 20_000
_NAMES = ("", "baseline_rate_", "baseline_last_")
_NO_ORDER = np.empty(0, dtype=np.int64)


class Scoreboard:
    """Log loss and accuracy since the beginning, AUC over the latest 20,000 outcomes.

    Sums are taken row by row, so how the rows are split into calls changes no bit. Takes 920 KB
    when full, and 440 KB of a saved state.
    """

    def __init__(self) -> None:
        self.outcomes = 0
        self._losses = np.zeros(3, dtype=np.float64)
        self._hits = np.zeros(3, dtype=np.int64)
        self._labels = np.zeros(AUC_OUTCOMES_MAX, dtype=np.bool_)
        self._scores = np.zeros(AUC_OUTCOMES_MAX, dtype=np.float64)
        self._rates = np.zeros(AUC_OUTCOMES_MAX, dtype=np.float64)
        self._lasts = np.zeros(AUC_OUTCOMES_MAX, dtype=np.float32)  # 0, 0.5 and 1 fit exactly
        # Sorting is most of a report, so it goes on from the report before.
        self._orders = [_NO_ORDER] * 3
        self._reported = 0

    def take(self, outcomes: Outcomes) -> None:
        """Add outcomes whose labels are 1.0 or 0.0."""
        rates, lasts = outcomes.baseline_rates, outcomes.baseline_lasts
        self.add(outcomes.labels != 0.0, outcomes.scores, rates, lasts)

    def add(
        self,
        labels: NDArray[np.bool_],
        scores: NDArray[np.float64],
        rates: NDArray[np.float64],
        lasts: NDArray[np.float64],
    ) -> None:
        """Add outcomes: the truth, then P(True) of the model, the rate and the last label.

        All have shape ``[k]``. Rows whose score is NaN count for nobody.
        """
        if np.isnan(scores).any():
            known = ~np.isnan(scores)
            labels, scores, rates, lasts = (
                labels[known],
                scores[known],
                rates[known],
                lasts[known],
            )
        for place, column in enumerate((scores, rates, lasts)):
            _add_sums(labels, column, self._losses[place:], self._hits[place:])
        # AUC does not depend on order, so a ring need not be unrolled.
        places = np.arange(self.outcomes, self.outcomes + len(labels))[-AUC_OUTCOMES_MAX:]
        places %= AUC_OUTCOMES_MAX
        self._labels[places] = labels[-AUC_OUTCOMES_MAX:]
        self._scores[places] = scores[-AUC_OUTCOMES_MAX:]
        self._rates[places] = rates[-AUC_OUTCOMES_MAX:]
        self._lasts[places] = lasts[-AUC_OUTCOMES_MAX:]
        self.outcomes += len(labels)

    def report(self) -> dict[str, float | None]:
        """The metrics by name; None where one is not defined (no outcomes, or one class only).

        ``outcomes`` and ``auc_outcomes`` are numbers of rows; ``log_loss``, ``accuracy`` and
        ``auc`` are the model's; the same with ``baseline_rate_`` (share of True so far) or
        ``baseline_last_`` (last label) before are the baselines'.
        """
        size = min(self.outcomes, AUC_OUTCOMES_MAX)
        report: dict[str, float | None] = {"outcomes": self.outcomes, "auc_outcomes": size}
        labels = self._labels[:size]
        columns = (self._scores, self._rates, self._lasts.astype(np.float64))
        fresh = np.arange(max(self._reported, self.outcomes - size), self.outcomes)
        fresh %= AUC_OUTCOMES_MAX
        for place, (name, column) in enumerate(zip(_NAMES, columns, strict=True)):
            total = self.outcomes
            report[f"{name}log_loss"] = float(self._losses[place]) / total if total else None
            report[f"{name}accuracy"] = int(self._hits[place]) / total if total else None
            added = fresh[np.argsort(column[fresh])]
            order = self._orders[place] = _merged(column[:size], self._orders[place], added)
            report[f"{name}auc"] = auc_in_order(labels[order], column[order])
        self._reported = self.outcomes
        return report

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_orders": [_NO_ORDER] * 3, "_reported": 0}


@numba.njit(cache=True)
def _merged(
    scores: NDArray[np.float64], order: NDArray[np.int64], added: NDArray[np.int64]
) -> NDArray[np.int64]:
    """All places in the order of their scores.

    Args:
        scores: shape ``[n]``.
        order: places in the order of their scores, before those added were written.
        added: places whose scores are new, in the order of these.
    """
    is_added = np.zeros(len(scores), dtype=np.bool_)
    is_added[added] = True
    merged = np.empty(len(scores), dtype=np.int64)
    end = taken = 0
    for place in order:
        if is_added[place]:
            continue
        while taken < len(added) and scores[added[taken]] < scores[place]:
            merged[end] = added[taken]
            end += 1
            taken += 1
        merged[end] = place
        end += 1
    merged[end:] = added[taken:]
    return merged


@numba.njit(cache=True)
def _add_sums(
    labels: NDArray[np.bool_],
    scores: NDArray[np.float64],
    losses: NDArray[np.float64],
    hits: NDArray[np.int64],
) -> None:
    """Add to the first cell of both, one after the other."""
    for label, score in zip(labels, scores):  # noqa: B905 (numba knows no strict)
        hits[0] += (score > 0.5) == label
        bounded = min(max(score, PROBABILITY_MIN), PROBABILITY_MAX)
        losses[0] -= math.log(bounded if label else 1.0 - bounded)
