"""What one call of the learner gathers row by row, before it becomes columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dataflows.learning.online import Floats, Online
from dataflows.learning.records import (
    Learned,
    LearnerCounts,
    NewVersion,
    Outcomes,
    Predictions,
    RefusedVersion,
    Scored,
)
from dataflows.learning.scoreboard import Scoreboard
from dataflows.learning.vectors import Vectors

# Key, time of prediction, of label, truth, slot of the vector, base rate, last label.
Answered = tuple[str, int, int, bool, int, float, float]


@dataclass
class Gathering:
    """Lists that grow.

    Attributes:
        steps: what the estimator has yet to do, as ``Online`` has it.
        answered: predictions whose label came, one for each step that learns.
        outcomes: what became of those already learned from.
        released: slots that nobody needs once the call is over.
        newest: slot of the newest prediction, -1 for none.
    """

    versions: list[NewVersion] = field(default_factory=list)
    refused: list[RefusedVersion] = field(default_factory=list)
    counts: LearnerCounts = field(default_factory=LearnerCounts)
    steps: list[int] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    newest: int = -1

    def run(self, online: Online, vectors: Vectors, scoreboard: Scoreboard) -> None:
        """Let the estimator catch up, and count what it has learned from."""
        if not self.steps:
            return
        keys, predicted_us, labelled_us, labels, slots, rates, lasts = (
            zip(*self.answered, strict=True) if self.answered else [()] * 7
        )
        truths = np.array(labels, dtype=np.bool_)
        steps = np.array(self.steps, dtype=np.int64)
        online.run(vectors.rows, vectors.scores, steps, truths)
        self.steps.clear()
        self.answered.clear()
        if not slots:
            return
        outcomes = Outcomes(
            keys=list(keys),
            prediction_times_us=np.array(predicted_us, dtype=np.int64),
            label_times_us=np.array(labelled_us, dtype=np.int64),
            labels=truths,
            scores=vectors.scores[np.array(slots, dtype=np.int64)],
            baseline_rates=np.array(rates, dtype=np.float64),
            baseline_lasts=np.array(lasts, dtype=np.float64),
        )
        scoreboard.add(truths, outcomes.scores, outcomes.baseline_rates, outcomes.baseline_lasts)
        self.outcomes.append(outcomes)
        self.counts.learned += len(slots)
        self.released.extend(slots)

    def learned(self, predictions: Predictions, scores: Floats) -> Learned:
        """Everything as columns; ``scores`` has one number per row of ``predictions``."""
        return Learned(
            predictions=Scored(
                predictions.keys, predictions.times_us, predictions.features, scores
            ),
            outcomes=_in_one(self.outcomes),
            versions=self.versions,
            refused=self.refused,
            counts=self.counts,
        )


def _in_one(parts: list[Outcomes]) -> Outcomes:
    if len(parts) == 1:
        return parts[0]
    no_times = np.empty(0, dtype=np.int64)
    no_numbers = np.empty(0, dtype=np.float64)
    return Outcomes(
        keys=[key for part in parts for key in part.keys],
        prediction_times_us=np.concatenate([no_times, *(p.prediction_times_us for p in parts)]),
        label_times_us=np.concatenate([no_times, *(p.label_times_us for p in parts)]),
        labels=np.concatenate([np.empty(0, dtype=np.bool_), *(p.labels for p in parts)]),
        scores=np.concatenate([no_numbers, *(p.scores for p in parts)]),
        baseline_rates=np.concatenate([no_numbers, *(p.baseline_rates for p in parts)]),
        baseline_lasts=np.concatenate([no_numbers, *(p.baseline_lasts for p in parts)]),
    )
