"""Running metrics of each task, beside the binary ones of ``scoreboard``; see there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.model_spec import Task
from contracts.probability_bounds import PROBABILITY_MAX, PROBABILITY_MIN
from dataflows.learning.auc import exact_auc
from dataflows.learning.records import Outcomes
from dataflows.learning.scoreboard import AUC_OUTCOMES_MAX, Scoreboard

_NAMES = ("", "baseline_rate_", "baseline_last_")


class Board(Protocol):
    """Takes outcomes, reports metrics. How the rows are split into calls changes no bit."""

    def take(self, outcomes: Outcomes) -> None:
        """Add outcomes."""

    def report(self) -> dict[str, float | None]:
        """The metrics by name; None where one is not defined."""


class RegressionBoard:
    """MAE, RMSE and R² since the beginning; a score that is not finite counts for nobody."""

    def __init__(self) -> None:
        self.outcomes = 0
        self._absolute = [0.0] * 3
        self._squared = [0.0] * 3
        self._mean = self._spread = 0.0

    def take(self, outcomes: Outcomes) -> None:
        """See ``Board``."""
        known = np.isfinite(outcomes.scores)
        labels = outcomes.labels[known]
        columns = (outcomes.scores, outcomes.baseline_rates, outcomes.baseline_lasts)
        for place, column in enumerate(columns):
            # What no double holds is infinite, and not reported.
            with np.errstate(over="ignore"):
                errors = column[known] - labels
                squares = errors * errors
            self._absolute[place] = _sum(self._absolute[place], np.abs(errors))
            self._squared[place] = _sum(self._squared[place], squares)
        for label in labels.tolist():
            self.outcomes += 1
            before = label - self._mean
            self._mean += before / self.outcomes
            self._spread += before * (label - self._mean)

    def report(self) -> dict[str, float | None]:
        """``outcomes``, and ``mae``, ``rmse`` and ``r2`` of the model and the baselines.

        The baselines, with ``baseline_rate_`` (mean so far) or ``baseline_last_`` (last label)
        before the name, have no ``r2``. None for what is beyond all doubles: squares of errors
        above 1e154 are.
        """
        total = self.outcomes
        report: dict[str, float | None] = {"outcomes": total}
        for name, absolute, squared in zip(_NAMES, self._absolute, self._squared, strict=True):
            report[f"{name}mae"] = absolute / total if total else None
            report[f"{name}rmse"] = math.sqrt(squared / total) if total else None
        report["r2"] = 1.0 - self._squared[0] / self._spread if self._spread > 0.0 else None
        return {
            name: value if value is None or math.isfinite(value) else None
            for name, value in report.items()
        }


class MulticlassBoard:
    """Log loss and accuracy since the beginning; a score that is not finite counts for nobody."""

    def __init__(self) -> None:
        self.outcomes = 0
        self._losses = [0.0] * 2
        self._hits = [0] * 2

    def take(self, outcomes: Outcomes) -> None:
        """See ``Board``."""
        known = np.isfinite(outcomes.scores) & np.isfinite(outcomes.truth_probabilities)
        self.outcomes += int(known.sum())
        for place, column in enumerate((outcomes.truth_probabilities, outcomes.baseline_rates)):
            bounded = np.clip(column[known], PROBABILITY_MIN, PROBABILITY_MAX)
            self._losses[place] = _sum(self._losses[place], -np.log(bounded))
        self._hits[0] += int((outcomes.predicted == outcomes.labels)[known].sum())
        self._hits[1] += int((outcomes.baseline_lasts == 1.0)[known].sum())

    def report(self) -> dict[str, float | None]:
        """``outcomes``, ``log_loss`` and ``accuracy``.

        ``baseline_rate_log_loss`` is that of the shares of the classes, ``baseline_last_accuracy``
        that of the last class.
        """
        total = self.outcomes
        return {
            "outcomes": total,
            "log_loss": self._losses[0] / total if total else None,
            "accuracy": self._hits[0] / total if total else None,
            "baseline_rate_log_loss": self._losses[1] / total if total else None,
            "baseline_last_accuracy": self._hits[1] / total if total else None,
        }


class AnomalyBoard:
    """AUC of the latest 20,000 outcomes; there are none without labels."""

    def __init__(self) -> None:
        self.outcomes = 0
        self._labels: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._scores: NDArray[np.float64] = np.zeros(0, dtype=np.float64)

    def take(self, outcomes: Outcomes) -> None:
        """See ``Board``."""
        known = np.isfinite(outcomes.scores)
        self.outcomes += int(known.sum())
        labels = np.concatenate([self._labels, outcomes.labels[known] != 0.0])
        scores = np.concatenate([self._scores, outcomes.scores[known]])
        self._labels, self._scores = labels[-AUC_OUTCOMES_MAX:], scores[-AUC_OUTCOMES_MAX:]

    def report(self) -> dict[str, float | None]:
        """``outcomes``, ``auc_outcomes`` (how many count for the AUC) and ``auc``."""
        size = len(self._labels)
        auc = exact_auc(self._labels, self._scores) if size else None
        return {"outcomes": self.outcomes, "auc_outcomes": size, "auc": auc}


def board_for(task: Task) -> Board:
    """An empty board for a task."""
    if task == "binary":
        return Scoreboard()
    if task == "regression":
        return RegressionBoard()
    return MulticlassBoard() if task == "multiclass" else AnomalyBoard()


def _sum(before: float, added: Sequence[float] | NDArray[np.float64]) -> float:
    """The sum, one after the other, so that cuts change nothing."""
    total = before
    for each in np.asarray(added).tolist():
        total += each
    return total
