"""The learner against River's own progressive validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from river import evaluate, metrics, stream

from dataflows.learning.auc import exact_auc
from dataflows.learning.learner import Learner
from dataflows.river_onnx import to_onnx
from tests.learning.rows import (
    ACCURACY,
    END_US,
    LOG_LOSS,
    MAKERS,
    ROWS,
    SCHEMA,
    Row,
    advance,
    labels_of,
    predictions,
    river_clock,
    river_dataset,
    spec,
)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_predictions_and_order_are_rivers(rows: list[Row]) -> None:
    """Every score equals, bit for bit, that of a River estimator driven by ``simulate_qa``."""
    for maker in MAKERS:
        note(maker)
        check_against_river(maker, rows)


def check_against_river(maker: str, rows: list[Row]) -> None:
    """Scores, order and the last version of one estimator."""
    estimator = MAKERS[maker]()
    scores, answered = {}, []
    for number, x, truth in stream.simulate_qa(river_dataset(rows), **river_clock(rows)):
        if truth is None:
            scores[number] = estimator.predict_proba_one(x)[True]
        else:
            answered.append(str(number))
            estimator.learn_one(x, truth)
    learner = Learner(spec(maker))
    learned = advance(learner, predictions(rows), labels_of(rows))
    expected = [scores[number] for number in range(len(rows))]
    np.testing.assert_array_equal(learned.predictions.scores, expected)
    assert learned.outcomes.keys == answered
    learned_after = learner.finish(END_US)
    assert [version.onnx for version in learned.versions + learned_after.versions][-1:] == [
        to_onnx(estimator, SCHEMA.names)
    ]


@settings(deadline=None, max_examples=40)
@given(rows=ROWS)
def test_metrics_are_those_of_progressive_val_score(rows: list[Row]) -> None:
    """Recomputed from the outcome rows, River's metrics equal ``progressive_val_score``."""
    outcomes = advance(Learner(spec()), predictions(rows), labels_of(rows)).outcomes
    for metric in (LOG_LOSS, ACCURACY, metrics.F1, metrics.ROCAUC):
        expected = evaluate.progressive_val_score(
            river_dataset(rows), MAKERS["sgd"](), metric(), **river_clock(rows)
        )
        ours = metric()
        for truth, score in zip(outcomes.labels.tolist(), outcomes.scores.tolist(), strict=True):
            ours.update(truth, score > 0.5 if ours.requires_labels else {True: score})
        assert ours.get() == expected.get(), metric


def expected_report(outcomes: Any) -> dict[str, float]:
    """The version's metrics from outcome rows by River (and by the AUC tested elsewhere)."""
    report: dict[str, Any] = {"outcomes": len(outcomes.keys), "auc_outcomes": len(outcomes.keys)}
    columns = {
        "": outcomes.scores,
        "baseline_rate_": outcomes.baseline_rates,
        "baseline_last_": outcomes.baseline_lasts,
    }
    for name, column in columns.items():
        loss, accuracy = LOG_LOSS(), ACCURACY()
        for truth, score in zip(outcomes.labels.tolist(), column.tolist(), strict=True):
            loss.update(truth, score)
            accuracy.update(truth, score > 0.5)
        report[f"{name}log_loss"] = pytest.approx(loss.get(), rel=1e-12)
        report[f"{name}accuracy"] = pytest.approx(accuracy.get(), rel=1e-12)
        report[f"{name}auc"] = exact_auc(outcomes.labels, column)
    return report


@settings(deadline=None, max_examples=40)
@given(rows=ROWS)
def test_version_metrics_are_rivers(rows: list[Row]) -> None:
    """The last version carries River's metrics of all outcomes, for the model and baselines."""
    learner = Learner(spec(every_us=END_US))
    learned = advance(learner, predictions(rows), labels_of(rows), END_US - 1)
    (version,) = learner.finish(END_US - 1).versions
    assert version.metrics == expected_report(learned.outcomes)


def test_baselines_know_only_what_was_learned_before() -> None:
    """Base rate and last label are as of the prediction: 0.5 at first, then from the labels."""
    rows = [Row(time_us, 5, (1.0, 2.0, 3.0), time_us != 20) for time_us in (0, 10, 20, 30)]
    outcomes = advance(Learner(spec()), predictions(rows), labels_of(rows)).outcomes
    assert outcomes.baseline_rates.tolist() == [0.5, 1.0, 1.0, 2 / 3]
    assert outcomes.baseline_lasts.tolist() == [0.5, 1.0, 1.0, 0.0]
