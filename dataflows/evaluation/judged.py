"""Predictions whose truth is known, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from dataflows.evaluation.exact_sums import Floats, Ints

if TYPE_CHECKING:
    from dataflows.learning.records import Outcomes


def _no_ints() -> Ints:
    return np.empty(0, dtype=np.int64)


def _no_floats() -> Floats:
    return np.empty(0, dtype=np.float64)


@dataclass(frozen=True)
class Judged:
    """Predictions with their labels; columns of shape ``[k]``, those that do not apply of ``[0]``.

    Attributes:
        labels: 1.0 or 0.0; a number; the place of the class.
        scores: P(True); the prediction; the largest probability; the anomaly score. A row whose
            score or label is not finite is counted as unusable, and in nothing else.
        label_times_us: when the label came, microseconds since 1970 UTC.
        predicted: multiclass: place of the predicted class.
        truth_probabilities: multiclass: probability given to the class that came true.
        baseline_rates: what the share or the mean of the labels before would have predicted (see
            ``Outcomes``); NaN where there was none.
        baseline_lasts: the same of the label before.
    """

    labels: Floats
    scores: Floats
    label_times_us: Ints
    predicted: Ints = field(default_factory=_no_ints)
    truth_probabilities: Floats = field(default_factory=_no_floats)
    baseline_rates: Floats = field(default_factory=_no_floats)
    baseline_lasts: Floats = field(default_factory=_no_floats)

    def __post_init__(self) -> None:
        """Refuse columns of different lengths (ValueError)."""
        rows = len(self.labels)
        for each in fields(self):
            column = getattr(self, each.name)
            if column.shape != (rows,) and column.shape != (0,):
                raise ValueError(f"column {each.name} has shape {column.shape}, not ({rows},)")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> Judged:
        """Some of the rows: a slice, places or a mask."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        return Judged(**{n: c[rows] if len(c) else c for n, c in columns.items()})

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        """All rows of some parts, at least one, in order."""
        if len(parts) == 1:
            return parts[0]
        names = [each.name for each in fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def judged(outcomes: Outcomes) -> Judged:
    """What became of the dataflow's own predictions."""
    return Judged(
        labels=outcomes.labels.astype(np.float64),
        scores=outcomes.scores,
        label_times_us=outcomes.label_times_us,
        predicted=outcomes.predicted,
        truth_probabilities=outcomes.truth_probabilities,
        baseline_rates=outcomes.baseline_rates,
        baseline_lasts=outcomes.baseline_lasts,
    )
