"""Walking through a pipeline's steps against letting the pipeline do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import compose, feature_selection, linear_model, naive_bayes, optim, preprocessing, stats

from dataflows.learning.stepping import learning_step

Standard = preprocessing.StandardScaler
Logistic = linear_model.LogisticRegression

PIPELINES: dict[str, Callable[[], Any]] = {
    "standard": lambda: Standard() | Logistic(optim.AdaGrad(0.1)),
    "two_scalers": lambda: preprocessing.MinMaxScaler() | Standard() | Logistic(),
    "centred": lambda: Standard(with_std=False) | Logistic(optim.SGD(1e-9)),
    "window": lambda: Standard(window_size=7) | Logistic(),
    "union": lambda: (Standard() + compose.Select("a")) | Logistic(),
    "supervised": lambda: (
        feature_selection.SelectKBest(stats.PearsonCorr(), k=2) | Standard() | Logistic()
    ),
    "alone": naive_bayes.GaussianNB,
}


def rows(count: int) -> list[dict[str, float]]:
    """Rows with a constant column, a huge one, and a column that appears later."""
    matrix = np.random.default_rng(4).normal(size=(count, 3)) * [1.0, 1e9, 0.0]
    named = [dict(zip("abc", row, strict=True)) for row in matrix.tolist()]
    for row in named[: count // 2]:
        del row["a" if "b" not in row else "b"]
    return named


@pytest.mark.parametrize("name", PIPELINES)
def test_learns_to_the_last_bit_as_the_pipeline_does(name: str) -> None:
    """After every row both estimators say the same, whatever their steps."""
    theirs, ours = PIPELINES[name](), PIPELINES[name]()
    step = learning_step(ours)
    for place, row in enumerate(rows(60)):
        truth = place % 3 == 0
        theirs.learn_one(dict(row), truth)
        step(row, truth)
        assert ours.predict_proba_one(row) == theirs.predict_proba_one(row)


def test_the_scaler_keeps_rivers_state() -> None:
    """Counts, means and variances are those of River, number for number."""
    theirs, ours = Standard() | Logistic(), Standard() | Logistic()
    step = learning_step(ours)
    for row in rows(60):
        theirs.learn_one(row, True)
        step(row, True)
    for name in ("counts", "means", "vars"):
        assert getattr(ours["StandardScaler"], name) == getattr(theirs["StandardScaler"], name)
    assert ours["LogisticRegression"].weights == theirs["LogisticRegression"].weights


def test_input_is_left_as_it_was() -> None:
    """Learning does not change the vector it is given."""
    row = rows(1)[0]
    before = dict(row)
    learning_step(Standard() | Logistic())(row, True)
    assert row == before
