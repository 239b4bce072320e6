"""What one call of the learner gathers row by row, before it becomes columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

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


@dataclass
class Gathering:
    """Lists that grow; a row of ``outcomes`` is a row of ``Outcomes``."""

    versions: list[NewVersion] = field(default_factory=list)
    refused: list[RefusedVersion] = field(default_factory=list)
    counts: LearnerCounts = field(default_factory=LearnerCounts)
    # Key, time of prediction, of label, truth, score, base rate, last label.
    outcomes: list[tuple[str, int, int, bool, float, float, float]] = field(default_factory=list)
    _on_scoreboard: int = 0

    def put_on(self, scoreboard: Scoreboard) -> None:
        """Add the outcomes gathered since the last time to the scoreboard."""
        scoreboard.add([outcome[3:] for outcome in self.outcomes[self._on_scoreboard :]])
        self._on_scoreboard = len(self.outcomes)

    def learned(self, predictions: Predictions, scores: list[float]) -> Learned:
        """Everything as columns; ``scores`` has one number per row of ``predictions``."""
        columns = list(zip(*self.outcomes, strict=True)) or [()] * 7
        self.counts.learned = len(self.outcomes)
        return Learned(
            predictions=Scored(
                predictions.keys,
                predictions.times_us,
                predictions.features,
                np.array(scores, dtype=np.float64),
            ),
            outcomes=Outcomes(
                keys=list(columns[0]),
                prediction_times_us=np.array(columns[1], dtype=np.int64),
                label_times_us=np.array(columns[2], dtype=np.int64),
                labels=np.array(columns[3], dtype=np.bool_),
                scores=np.array(columns[4], dtype=np.float64),
                baseline_rates=np.array(columns[5], dtype=np.float64),
                baseline_lasts=np.array(columns[6], dtype=np.float64),
            ),
            versions=self.versions,
            refused=self.refused,
            counts=self.counts,
        )
