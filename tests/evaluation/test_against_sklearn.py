"""Figures of each task against scikit-learn and numpy on the rows themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from contracts.model_spec import Task
from dataflows.evaluation.board import EvaluationBoard
from dataflows.evaluation.judged import Judged
from tests.evaluation.rows import CLASSES, TASKS, make

ROWS = 3_000
NEAR = 1e-12


def whole(task: Task, rows: Judged) -> dict[str, Any]:
    """The figures of all rows."""
    board = EvaluationBoard(task, (), 10**9)
    board.add(rows, np.ones(len(rows), dtype=np.int64))
    found: dict[str, Any] = board.report(CLASSES)["all"]["all"]
    return found


def near(value: float) -> Any:
    """As good as equal."""
    return pytest.approx(value, rel=NEAR, abs=NEAR)


def test_binary() -> None:
    """Losses, accuracy and calibration are those of the rows; AUC within its error."""
    rows = make("binary", ROWS, seed=1)
    found = whole("binary", rows)
    y, p = rows.labels, rows.scores
    assert (found["outcomes"], found["positives"]) == (ROWS, int(y.sum()))
    assert found["log_loss"] == near(metrics.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15)))
    assert found["brier"] == near(metrics.brier_score_loss(y, p))
    assert found["accuracy"] == near(metrics.accuracy_score(y, p > 0.5))
    assert abs(found["auc"] - metrics.roc_auc_score(y, p)) <= found["auc_error_max"] < 0.02
    for name, column in (("rate", rows.baseline_rates), ("last", rows.baseline_lasts)):
        bounded = np.clip(column, 1e-15, 1 - 1e-15)
        assert found[f"baseline_{name}_log_loss"] == near(metrics.log_loss(y, bounded))
        assert found[f"baseline_{name}_brier"] == near(metrics.brier_score_loss(y, column))
        accuracy = metrics.accuracy_score(y, column > 0.5)
        assert found[f"baseline_{name}_accuracy"] == near(accuracy)


def test_calibration() -> None:
    """Each tenth has its outcomes, positives and mean score; the error is their weighted gap."""
    rows = make("binary", ROWS, seed=2)
    found = whole("binary", rows)
    tenths = np.minimum((rows.scores * 10).astype(int), 9)
    gap = 0.0
    for each in found["calibration"]:
        inside = tenths == round(each["from"] * 10)
        assert each["outcomes"] == inside.sum()
        assert each["positives"] == rows.labels[inside].sum()
        assert each["score"] == near(rows.scores[inside].mean())
        gap += abs(rows.scores[inside].sum() - rows.labels[inside].sum())
    assert sum(each["outcomes"] for each in found["calibration"]) == ROWS
    assert found["calibration_error"] == near(gap / ROWS)


def test_regression() -> None:
    """MAE, RMSE, bias and R² are those of the rows, also of labels far from zero."""
    rows = make("regression", ROWS, seed=3)
    found = whole("regression", rows)
    y, p = rows.labels, rows.scores
    assert found["mae"] == near(metrics.mean_absolute_error(y, p))
    assert found["rmse"] == near(metrics.root_mean_squared_error(y, p))
    assert found["bias"] == near((p - y).mean())
    assert found["r2"] == pytest.approx(metrics.r2_score(y, p), abs=1e-9)
    for name, column in (("rate", rows.baseline_rates), ("last", rows.baseline_lasts)):
        assert found[f"baseline_{name}_mae"] == near(metrics.mean_absolute_error(y, column))
        assert found[f"baseline_{name}_rmse"] == near(metrics.root_mean_squared_error(y, column))


def test_variance_far_from_zero() -> None:
    """R² is right where the squares of the labels have no digits left for their differences."""
    labels = 1e15 + np.array([0.0, 1.0, 2.0, 3.0])
    times_us = np.arange(4, dtype=np.int64)
    found = whole("regression", Judged(labels, labels + 0.5, times_us))
    assert found["r2"] == near(1 - 4 * 0.25 / 5)
    assert whole("regression", Judged(labels[:1], labels[:1], times_us[:1]))["r2"] is None


def test_multiclass() -> None:
    """Accuracy, log loss, precision and recall of each class are those of the rows."""
    rows = make("multiclass", ROWS, seed=4)
    found = whole("multiclass", rows)
    y, p = rows.labels.astype(int), rows.predicted
    assert found["accuracy"] == near(metrics.accuracy_score(y, p))
    assert found["log_loss"] == near(-np.log(rows.truth_probabilities).mean())
    assert found["macro_f1"] == near(metrics.f1_score(y, p, average="macro", zero_division=0))
    assert found["baseline_last_accuracy"] == near(rows.baseline_lasts.mean())
    assert found["baseline_rate_log_loss"] == near(-np.log(rows.baseline_rates).mean())
    expected = metrics.precision_recall_fscore_support(
        y, p, labels=range(len(CLASSES)), zero_division=0
    )
    for name, precision, recall, f1, support in zip(CLASSES, *expected, strict=True):
        one = found["classes"].get(name)
        if one is None:
            assert support == 0
            continue
        assert one["outcomes"] == support
        assert (one["precision"] or 0) == near(precision)
        assert (one["recall"] or 0) == near(recall)
        assert one["f1"] == near(f1)


def test_more_classes_than_are_told_apart() -> None:
    """Classes beyond the bound share one line, without being taken for each other."""
    labels = np.arange(100, dtype=np.float64)
    guesses = np.roll(np.arange(100), 1)
    half = np.full(100, 0.5)
    rows = Judged(labels, half, np.arange(100), guesses, half)
    found = whole("multiclass", rows)
    assert found["accuracy"] == 0.0
    assert found["classes"]["(other)"]["outcomes"] == 36
    assert found["classes"]["(other)"]["recall"] == 0.0
    assert len(found["classes"]) == 65


def test_anomaly() -> None:
    """AUC and average precision are near those of the rows, whatever range the scores have."""
    rows = make("anomaly", ROWS, seed=5)
    found = whole("anomaly", rows)
    exact = metrics.roc_auc_score(rows.labels, rows.scores)
    assert abs(found["auc"] - exact) <= found["auc_error_max"]
    exact = metrics.average_precision_score(rows.labels, rows.scores)
    assert found["average_precision"] == pytest.approx(exact, abs=0.03)
    assert found["baseline_rate_average_precision"] == rows.labels.mean()


@pytest.mark.parametrize("task", TASKS)
def test_rows_without_a_score_are_counted_only(task: Task) -> None:
    """What has no score, or no label, changes no figure but the number of unusable rows."""
    rows = make(task, 400, seed=6, unusable=0.3)
    labels = np.where(np.arange(400) % 7 == 0, np.nan, rows.labels)
    rows = replace(rows, labels=labels)
    good = np.isfinite(rows.scores) & np.isfinite(labels)
    found, expected = whole(task, rows), whole(task, rows.take(good))
    assert found.pop("unusable") == (~good).sum() > 0
    assert expected.pop("unusable") == 0
    assert found == expected


@pytest.mark.parametrize("task", TASKS)
def test_rows_without_a_baseline(task: Task) -> None:
    """Where a baseline had nothing to say, it is judged by the other rows, and the model by all."""
    rows = make(task, 400, seed=7)
    lost = np.random.default_rng(7).random(400) < 0.3
    names = ("baseline_rates", "baseline_lasts")
    columns: dict[str, Any] = {
        n: np.where(lost, np.nan, c) for n in names if len(c := getattr(rows, n))
    }
    found = whole(task, replace(rows, **columns))
    all_of_them, others = whole(task, rows), whole(task, rows.take(~lost))
    for name, value in found.items():
        is_split = name.startswith("baseline") and task != "anomaly"
        assert value == (others if is_split else all_of_them)[name]
    columns = {n: np.empty(0) for n in names}
    plain = whole(task, replace(rows, **columns))
    assert plain.items() <= all_of_them.items()
    assert task == "anomaly" or not any(name.startswith("baseline") for name in plain)


def test_a_model_that_knows_no_class_yet() -> None:
    """It predicts nothing: no class counts as predicted, and the row as a miss."""
    half = np.full(2, 0.5)
    rows = Judged(np.zeros(2), half, np.arange(2), np.array([-1, 0]), half)
    found = whole("multiclass", rows)
    assert found["accuracy"] == 0.5
    assert (found["classes"]["on time"]["predicted"], found["classes"]["on time"]["recall"]) == (
        1, 0.5,
    )  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_no_figures(task: Task) -> None:
    """Without outcomes every figure is a zero or not defined, and there are no baselines."""
    found = whole(task, make(task, 0))
    assert found["outcomes"] == 0
    assert all(value in (0, None, [], {}) for value in found.values())


def test_a_diverged_model_looks_bad() -> None:
    """Scores of any size give finite figures."""
    labels = np.array([0.0, 1.0, 2.0])
    scores = np.array([1e308, -1e308, 2.0])
    found = whole("regression", Judged(labels, scores, np.arange(3)))
    assert found["rmse"] > 1e148
    assert all(math.isfinite(value) for value in found.values())
