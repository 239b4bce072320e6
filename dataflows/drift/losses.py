"""The loss of each labelled prediction, by the model's task; drift of errors is drift of these."""

from __future__ import annotations

import numpy as np

from contracts.model_spec import Task
from contracts.probability_bounds import DECIDING_PROBABILITY_MIN
from dataflows.drift.cells import Floats
from dataflows.learning.records import Outcomes


def losses(task: Task, outcomes: Outcomes) -> Floats:
    """Float64 ``[k]``: log loss of classes, absolute error of numbers; NaN where there is no score.

    Probabilities below 0.001 lose as much as 0.001. The score of an anomaly detector counts as a
    probability.
    """
    if task == "regression":
        return np.abs(outcomes.labels - outcomes.scores)
    if task == "multiclass":
        truth = outcomes.truth_probabilities
    else:
        truth = np.where(outcomes.labels != 0.0, outcomes.scores, 1.0 - outcomes.scores)
    # Comparing keeps NaN, where clipping by ``fmax`` would not.
    kept: Floats = -np.log(np.clip(truth, DECIDING_PROBABILITY_MIN, 1.0))
    return kept
