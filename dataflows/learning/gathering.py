"""What one call of the learner gathers row by row, before it becomes columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataflows.learning.online import Floats, Online, Slots
from dataflows.learning.records import (
    Learned,
    LearnerCounts,
    NewVersion,
    Outcomes,
    Predictions,
    RefusedVersion,
    Scored,
)
from dataflows.learning.scoreboards import Board
from dataflows.learning.waiting_rows import WaitingRows

NEWEST_MAX = 64
# Squares of larger numbers, of which scalers make sums, are more than a double holds.
_LARGEST = 1e150


@dataclass(frozen=True)
class Judged:
    """Predictions whose truth came, in order; the names are those of ``Outcomes``."""

    keys: list[str]
    prediction_times_us: Slots
    label_times_us: Slots
    slots: Slots
    truths: Floats
    baseline_rates: list[float]
    baseline_lasts: list[float]


@dataclass
class Gathering:
    """Lists that grow.

    Attributes:
        steps: what the estimator has yet to do, as ``Online`` has it.
        truths: one for each step that learns.
        judged: predictions whose truth came.
        outcomes: what became of those already learned from.
        released: slots that nobody needs once the call is over.
        newest: slots of the newest predictions, at most ``NEWEST_MAX``.
    """

    versions: list[NewVersion] = field(default_factory=list)
    refused: list[RefusedVersion] = field(default_factory=list)
    counts: LearnerCounts = field(default_factory=LearnerCounts)
    steps: list[Slots] = field(default_factory=list)
    truths: list[Floats] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)
    released: list[Slots] = field(default_factory=list)
    newest: deque[int] = field(default_factory=lambda: deque(maxlen=NEWEST_MAX))

    def run(self, online: Online, waiting: WaitingRows, scoreboard: Board) -> int:
        """Let the estimator catch up, and count what it has learned from.

        Returns:
            How many examples were left out, as one would spoil the estimator for good.
        """
        left_out = 0
        if self.steps:
            steps, truths = np.concatenate(self.steps), np.concatenate(self.truths)
            places = np.flatnonzero(steps < 0)
            is_huge = (np.abs(waiting.rows[~steps[places]]) > _LARGEST).any(axis=1)
            left_out = int(is_huge.sum())
            if left_out:
                steps, truths = np.delete(steps, places[is_huge]), truths[~is_huge]
            online.run(waiting.rows, waiting.scores, steps, truths)
            self.counts.learned += len(truths)
            self.counts.huge += left_out
            self.steps.clear()
            self.truths.clear()
        for judged in self.judged:
            outcomes = _outcomes(judged, waiting)
            scoreboard.take(outcomes)
            self.outcomes.append(outcomes)
        self.judged.clear()
        return left_out

    def learned(self, predictions: Predictions, scores: Floats, classes: Sequence[str]) -> Learned:
        """Everything as columns; ``scores`` has one number per row of ``predictions``."""
        return Learned(
            predictions=Scored(
                predictions.keys, predictions.times_us, predictions.features, scores
            ),
            outcomes=_in_one(self.outcomes, len(predictions.segments)),
            versions=self.versions,
            refused=self.refused,
            counts=self.counts,
            classes=tuple(classes),
        )


def _outcomes(judged: Judged, waiting: WaitingRows) -> Outcomes:
    slots = judged.slots
    predicted, truth_probabilities = _of_classes(waiting, slots, judged.truths)
    return Outcomes(
        keys=judged.keys,
        prediction_times_us=judged.prediction_times_us,
        label_times_us=judged.label_times_us,
        labels=judged.truths,
        scores=waiting.scores[slots],
        baseline_rates=np.array(judged.baseline_rates, dtype=np.float64),
        baseline_lasts=np.array(judged.baseline_lasts, dtype=np.float64),
        versions=waiting.versions[slots],
        segments=tuple(column[slots].tolist() for column in waiting.segments),
        predicted=predicted,
        truth_probabilities=truth_probabilities,
    )


def _of_classes(waiting: WaitingRows, slots: Slots, labels: Floats) -> tuple[Slots, Floats]:
    """(place of the most probable class, -1 for none, and the probability of the true one)."""
    if not waiting.probabilities.shape[1]:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
    probabilities = waiting.probabilities[slots]
    predicted = probabilities.argmax(axis=1)
    predicted[~probabilities.any(axis=1)] = -1
    return predicted, probabilities[np.arange(len(slots)), labels.astype(np.int64)]


def _in_one(parts: list[Outcomes], segments: int) -> Outcomes:
    if len(parts) == 1:
        return parts[0]

    def column(name: str, dtype: type[np.generic]) -> Any:
        return np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in parts)])

    return Outcomes(
        keys=[key for part in parts for key in part.keys],
        prediction_times_us=column("prediction_times_us", np.int64),
        label_times_us=column("label_times_us", np.int64),
        labels=column("labels", np.float64),
        scores=column("scores", np.float64),
        baseline_rates=column("baseline_rates", np.float64),
        baseline_lasts=column("baseline_lasts", np.float64),
        versions=column("versions", np.int64),
        segments=tuple(
            [value for part in parts for value in part.segments[i]] for i in range(segments)
        ),
        predicted=column("predicted", np.int64),
        truth_probabilities=column("truth_probabilities", np.float64),
    )
