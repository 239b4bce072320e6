"""Running metrics of a model and of two trivial baselines, over the same outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataflows.learning.auc import exact_auc

AUC_OUTCOMES_MAX = 20_000
_NAMES = ("", "baseline_rate_", "baseline_last_")
_PROBABILITY_MIN = 1e-15  # River's LogLoss clamps to this, so that one sure error is not infinite
_PROBABILITY_MAX = 1 - 1e-15


class Scoreboard:
    """Log loss and accuracy since the beginning, AUC over the latest 20,000 outcomes.

    Sums are taken row by row, so how the rows are split into calls changes no bit. Takes 440 KB
    when full.
    """

    def __init__(self) -> None:
        self.outcomes = 0
        self._losses = [0.0, 0.0, 0.0]
        self._hits = [0, 0, 0]
        self._labels = np.zeros(AUC_OUTCOMES_MAX, dtype=np.bool_)
        self._scores = np.zeros(AUC_OUTCOMES_MAX, dtype=np.float64)
        self._rates = np.zeros(AUC_OUTCOMES_MAX, dtype=np.float64)
        self._lasts = np.zeros(AUC_OUTCOMES_MAX, dtype=np.float32)  # 0, 0.5 and 1 fit exactly

    def add(self, rows: Sequence[tuple[bool, float, float, float]]) -> None:
        """Add outcomes: the truth, then P(True) of the model, the rate and the last label.

        Rows whose score is NaN count for nobody.
        """
        if any(row[1] != row[1] for row in rows):
            rows = [row for row in rows if row[1] == row[1]]
        if not rows:
            return
        labels, *columns = zip(*rows, strict=True)
        for place, column in enumerate(columns):
            self._add_sums(place, labels, column)
        scores, rates, lasts = columns
        # AUC does not depend on order, so a ring need not be unrolled.
        places = np.arange(self.outcomes, self.outcomes + len(rows))[-AUC_OUTCOMES_MAX:]
        places %= AUC_OUTCOMES_MAX
        self._labels[places] = labels[-AUC_OUTCOMES_MAX:]
        self._scores[places] = scores[-AUC_OUTCOMES_MAX:]
        self._rates[places] = rates[-AUC_OUTCOMES_MAX:]
        self._lasts[places] = lasts[-AUC_OUTCOMES_MAX:]
        self.outcomes += len(rows)

    def report(self) -> dict[str, float | None]:
        """The metrics by name; None where one is not defined (no outcomes, or one class only).

        ``outcomes`` and ``auc_outcomes`` are numbers of rows; ``log_loss``, ``accuracy`` and
        ``auc`` are the model's; the same with ``baseline_rate_`` (share of True so far) or
        ``baseline_last_`` (last label) before are the baselines'.
        """
        size = min(self.outcomes, AUC_OUTCOMES_MAX)
        report: dict[str, float | None] = {"outcomes": self.outcomes, "auc_outcomes": size}
        labels = self._labels[:size]
        columns: tuple[NDArray[np.floating], ...] = (self._scores, self._rates, self._lasts)
        for place, (name, column) in enumerate(zip(_NAMES, columns, strict=True)):
            total = self.outcomes
            report[f"{name}log_loss"] = self._losses[place] / total if total else None
            report[f"{name}accuracy"] = self._hits[place] / total if total else None
            report[f"{name}auc"] = exact_auc(labels, column[:size].astype(np.float64))
        return report

    def _add_sums(self, place: int, labels: Sequence[bool], scores: Sequence[float]) -> None:
        loss, hits, log = self._losses[place], self._hits[place], math.log
        for label, score in zip(labels, scores, strict=True):
            hits += (score > 0.5) == label
            # Comparing is three times cheaper than calling min and max.
            if score < _PROBABILITY_MIN:
                score = _PROBABILITY_MIN
            elif score > _PROBABILITY_MAX:
                score = _PROBABILITY_MAX
            loss -= log(score if label else 1 - score)
        self._losses[place], self._hits[place] = loss, hits
