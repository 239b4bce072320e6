"""What a wrong score costs: the loss by which versions are compared. Always from 0 to a bound."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from contracts.model_spec import Task
from contracts.probability_bounds import DECIDING_PROBABILITY_MIN

Floats = NDArray[np.float64]

_LOG_LOSS_MAX = -math.log(DECIDING_PROBABILITY_MIN)
# Of squared errors, in units of the champion's mean.
_ERRORS_MAX = 8.0
# By how much two losses of one row are told apart.
PAIRED_BOUND = 2.0


def has_loss(task: Task) -> bool:
    """Whether versions of such a model can be compared: an anomaly score is of no scale."""
    return task != "anomaly"


def loss_max(task: Task) -> float:
    """The largest loss: nats, or the champion's mean squared error as the unit."""
    return _ERRORS_MAX if task == "regression" else _LOG_LOSS_MAX


def losses(task: Task, labels: Floats, scores: Floats, truth_probabilities: Floats) -> Floats:
    """Log losses cut at ``loss_max``, or of a regression squared errors, not in units yet.

    A score that is no number costs the most. All have shape ``[n]``; ``truth_probabilities`` is for
    many classes, empty else.
    """
    if task == "regression":
        with np.errstate(over="ignore", invalid="ignore"):
            errors = (scores - labels) ** 2
        return np.where(np.isnan(errors), np.inf, errors)
    if task == "multiclass":
        given = truth_probabilities
    else:
        given = np.where(labels != 0.0, scores, 1.0 - scores)
    given = np.where(np.isnan(given), 0.0, given)
    return np.asarray(-np.log(np.clip(given, DECIDING_PROBABILITY_MIN, 1.0)), np.float64)
