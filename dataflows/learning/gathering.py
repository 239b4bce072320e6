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
from dataflows.learning.vectors import Vectors

NEWEST_MAX = 64

# Key, time of prediction, of label, truth, slot of the vector, both baselines, version, segments.
Answered = tuple[str, int, int, float, int, float, float, int, tuple[str | None, ...]]


@dataclass
class Gathering:
    """Lists that grow.

    Attributes:
        steps: what the estimator has yet to do, as ``Online`` has it.
        truths: one for each step that learns.
        answered: predictions whose label came.
        outcomes: what became of those already learned from.
        released: slots that nobody needs once the call is over.
        newest: slots of the newest predictions, at most ``NEWEST_MAX``.
    """

    versions: list[NewVersion] = field(default_factory=list)
    refused: list[RefusedVersion] = field(default_factory=list)
    counts: LearnerCounts = field(default_factory=LearnerCounts)
    steps: list[int] = field(default_factory=list)
    truths: list[float] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    newest: deque[int] = field(default_factory=lambda: deque(maxlen=NEWEST_MAX))

    def run(self, online: Online, vectors: Vectors, scoreboard: Board) -> None:
        """Let the estimator catch up, and count what it has learned from."""
        if self.steps:
            truths = np.array(self.truths, dtype=np.float64)
            steps = np.array(self.steps, dtype=np.int64)
            online.run(vectors.rows, vectors.scores, steps, truths)
            self.counts.learned += len(truths)
            self.steps.clear()
            self.truths.clear()
        if self.answered:
            outcomes = _outcomes(self.answered, vectors)
            self.answered.clear()
            scoreboard.take(outcomes)
            self.outcomes.append(outcomes)

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


def _outcomes(answered: list[Answered], vectors: Vectors) -> Outcomes:
    keys, predicted_us, labelled_us, truths, slots, rates, lasts, versions, segments = zip(
        *answered, strict=True
    )
    places = np.array(slots, dtype=np.int64)
    labels = np.array(truths, dtype=np.float64)
    predicted, truth_probabilities = _of_classes(vectors, places, labels)
    return Outcomes(
        keys=list(keys),
        prediction_times_us=np.array(predicted_us, dtype=np.int64),
        label_times_us=np.array(labelled_us, dtype=np.int64),
        labels=labels,
        scores=vectors.scores[places],
        baseline_rates=np.array(rates, dtype=np.float64),
        baseline_lasts=np.array(lasts, dtype=np.float64),
        versions=np.array(versions, dtype=np.int64),
        segments=tuple(list(values) for values in zip(*segments, strict=True)),
        predicted=predicted,
        truth_probabilities=truth_probabilities,
    )


def _of_classes(vectors: Vectors, slots: Slots, labels: Floats) -> tuple[Slots, Floats]:
    """(place of the most probable class, -1 for none, and the probability of the true one)."""
    if not vectors.probabilities.shape[1]:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
    probabilities = vectors.probabilities[slots]
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
