"""Losses of labelled predictions, by task."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contracts.model_spec import Task
from dataflows.drift.losses import losses
from dataflows.learning.records import Outcomes

NAN = float("nan")


def _outcomes(labels: list[float], scores: list[float], truth: list[float]) -> Outcomes:
    n = len(labels)
    zeros, floats = np.zeros(n, np.int64), np.zeros(n)
    return Outcomes(
        keys=[""] * n, prediction_times_us=zeros, label_times_us=zeros, labels=np.array(labels),
        scores=np.array(scores), baseline_rates=floats, baseline_lasts=floats, versions=zeros,
        truth_probabilities=np.array(truth),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "labels", "scores", "truth", "expected"),
    [
        ("binary", [1.0, 0.0], [0.8, 0.8], [], [-math.log(0.8), -math.log(0.2)]),
        ("binary", [1.0, 0.0], [0.0, 1.0], [], [math.log(1_000)] * 2),
        ("binary", [1.0], [NAN], [], [NAN]),
        ("anomaly", [1.0, 0.0], [0.9, 1.7], [], [-math.log(0.9), math.log(1_000)]),
        ("regression", [3.0, -1.0], [1.0, NAN], [], [2.0, NAN]),
        ("multiclass", [2.0, 0.0], [0.6, 0.9], [0.6, 0.05], [-math.log(0.6), -math.log(0.05)]),
        ("multiclass", [1.0], [0.9], [0.0], [math.log(1_000)]),
        ("binary", [], [], [], []),
    ],
)
def test_losses(
    task: Task, labels: list[float], scores: list[float], truth: list[float], expected: list[float]
) -> None:
    """Log loss of the truth, at most ln(1000), or the absolute error; NaN without a score."""
    found = losses(task, _outcomes(labels, scores, truth))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
