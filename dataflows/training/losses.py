"""How good predictions are: by which parameters are chosen, and what is told to people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.model_spec import Task
from contracts.probability_bounds import PROBABILITY_MAX, PROBABILITY_MIN
from dataflows.learning.auc import exact_auc
from dataflows.training.examples import Floats

BINS = 10


def loss(task: Task, labels: Floats, predicted: Floats) -> float:
    """Mean log loss, or mean squared error of numbers; less is better."""
    if task == "regression":
        return float(np.mean((predicted - labels) ** 2))
    return log_loss(truth_probabilities(task, labels, predicted))


def log_loss(probabilities: Floats) -> float:
    """Of the probabilities given to what came true."""
    return -float(np.mean(np.log(np.clip(probabilities, PROBABILITY_MIN, PROBABILITY_MAX))))


def truth_probabilities(task: Task, labels: Floats, predicted: Floats) -> Floats:
    """The probability given to what came true, ``[n]``; 0 for a class that the model lacks."""
    if task == "binary":
        return np.where(labels > 0.5, predicted, 1.0 - predicted)
    found = np.zeros(len(labels))
    known = labels < predicted.shape[1]
    found[known] = predicted[known, labels[known].astype(np.int64)]
    return found


def measure(task: Task, labels: Floats, predicted: Floats) -> dict[str, float]:
    """The task's metrics, by name; one that is not defined is left out."""
    if task == "regression":
        errors = predicted - labels
        spread = float(np.sum((labels - labels.mean()) ** 2))
        found = {
            "mae": float(np.mean(np.abs(errors))),
            "rmse": float(np.sqrt(np.mean(errors**2))),
            "bias": float(np.mean(errors)),
        }
        return found | ({"r2": 1.0 - float(np.sum(errors**2)) / spread} if spread else {})
    found = {"log_loss": loss(task, labels, predicted)}
    if task == "multiclass":
        hits = np.argmax(predicted, axis=1) == labels
        return found | {"accuracy": float(np.mean(hits))}
    truths = labels > 0.5
    found |= {
        "accuracy": float(np.mean((predicted > 0.5) == truths)),
        "brier": float(np.mean((predicted - labels) ** 2)),
        "calibration_error": calibration_error(calibration(labels, predicted)),
    }
    auc = exact_auc(truths, predicted)
    return found if auc is None else found | {"auc": auc}


def calibration(labels: Floats, predicted: Floats) -> list[tuple[float, float, int]]:
    """For ten bins of equal width: mean of P(True), share of True, rows; none for empty bins."""
    bins: NDArray[np.int64] = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    table = []
    for place in range(BINS):
        rows = bins == place
        if rows.any():
            means = float(predicted[rows].mean()), float(labels[rows].mean())
            table.append((*means, int(rows.sum())))
    return table


def calibration_error(table: list[tuple[float, float, int]]) -> float:
    """Expected calibration error: how far apart the two means are, weighted by rows."""
    total = sum(rows for *_, rows in table)
    return sum(abs(said - came) * rows for said, came, rows in table) / total
