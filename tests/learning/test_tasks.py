"""Regression, many classes, anomalies, and labels that stand for silence, against River."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import anomaly, linear_model, metrics, naive_bayes, preprocessing, stream

from contracts.model_spec import Task
from dataflows.learning.label_codes import CLASSES_MAX
from dataflows.learning.learner import Learner
from dataflows.learning.records import Labels, Learned, LearnerSpec, Outcomes, Predictions
from dataflows.learning.scoreboards import board_for
from tests.learning.rows import END_US, SCHEMA, predictions, river_clock, spec, vector

CLASSES = ("a", "b", "c")
MAE: Any = metrics.MAE  # without types, as all of River's metrics
RMSE: Any = metrics.RMSE
R2: Any = metrics.R2
CROSS_ENTROPY: Any = metrics.CrossEntropy
ACCURACY: Any = metrics.Accuracy


def regression() -> Any:
    """A regressor."""
    return preprocessing.StandardScaler() | linear_model.LinearRegression()


def classifier() -> Any:
    """A classifier of many classes."""
    return naive_bayes.GaussianNB()


def detector() -> Any:
    """An anomaly detector whose windows are full after a few rows."""
    return preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(
        n_trees=3, height=3, window_size=7, seed=1
    )


def spec_of(task: Task, **changes: Any) -> LearnerSpec:
    """A spec over three features."""
    makers = {"regression": regression, "multiclass": classifier, "anomaly": detector}
    changed = {"make_learner": makers[task], "task": task, "publish_every_us": 40, **changes}
    return replace(spec(), **changed)


class Row:
    """A prediction and, ``delay_us`` later, its label."""

    def __init__(self, time_us: int, delay_us: int, features: Any, truth: Any) -> None:
        self.time_us, self.delay_us = time_us, delay_us
        self.features, self.truth = features, truth

    def __repr__(self) -> str:
        """For what hypothesis found."""
        return f"Row({self.time_us}, {self.delay_us}, {self.features}, {self.truth!r})"


def rows_with(truths: Any) -> Any:
    """Rows in order of time."""
    features = st.tuples(*[st.one_of(st.just(math.nan), st.integers(-50, 50).map(float))] * 3)
    row = st.builds(Row, st.integers(0, 60), st.integers(0, 25), features, truths)
    return st.lists(row, min_size=1, max_size=50).map(
        lambda rows: sorted(rows, key=lambda row: row.time_us)
    )


def labels_of(rows: list[Row]) -> Labels:
    """The label of every row, numbers or classes."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].time_us + rows[i].delay_us)
    truths = [rows[i].truth for i in order]
    texts = truths if isinstance(truths[0], str) else None
    return Labels(
        [str(i) for i in order],
        np.array([rows[i].time_us + rows[i].delay_us for i in order], dtype=np.int64),
        np.array([math.nan if texts else truth for truth in truths], dtype=np.float64),
        texts,
    )


def simulated(rows: list[Row]) -> Iterator[tuple[int, dict[str, float], Any]]:
    """River's order of questions and answers."""
    dataset = ((vector(row.features), row.truth) for row in rows)
    yield from stream.simulate_qa(dataset, **river_clock(rows))  # type: ignore[arg-type]


def in_pieces(learner: Learner, rows: list[Row], size: int) -> list[Learned]:
    """The rows in calls over ``size`` microseconds each, saved and loaded in between."""
    batch, truths = predictions(rows), labels_of(rows)  # type: ignore[arg-type]
    learned = []
    for begin in range(0, 100, size):
        first, last = np.searchsorted(batch.times_us, [begin, begin + size])
        one, end = np.searchsorted(truths.times_us, [begin, begin + size])
        part = Predictions(
            batch.keys[first:last], batch.times_us[first:last], batch.features[first:last]
        )
        texts = None if truths.texts is None else truths.texts[one:end]
        some = Labels(truths.keys[one:end], truths.times_us[one:end], truths.values[one:end], texts)
        learned.append(learner.advance(part, some, begin + size))
        learner = Learner.loads(learner.spec, learner.dumps())
    return [*learned, learner.finish(END_US)]


@settings(deadline=None, max_examples=40)
@given(rows=rows_with(st.integers(-90, 90).map(float)), size=st.sampled_from([1, 7, 100]))
def test_regression_is_rivers_whatever_the_cuts(rows: list[Row], size: int) -> None:
    """Every score equals a River regressor's, bit for bit, and metrics are those of River."""
    estimator, scores, answered = regression(), {}, []
    ours = {"mae": MAE(), "rmse": RMSE(), "r2": R2()}
    for number, x, truth in simulated(rows):
        if truth is None:
            scores[number] = estimator.predict_one(x)
            continue
        answered.append((str(number), truth))
        estimator.learn_one(x, truth)
        for metric in ours.values():
            metric.update(truth, scores[number])
    learned = in_pieces(Learner(spec_of("regression")), rows, size)
    found = np.concatenate([one.predictions.scores for one in learned])
    np.testing.assert_array_equal(found, [scores[i] for i in range(len(rows))])
    outcomes = [
        pair
        for one in learned
        for pair in zip(one.outcomes.keys, one.outcomes.labels.tolist(), strict=True)
    ]
    assert outcomes == answered
    version = [version for one in learned for version in one.versions][-1]
    assert version.parity.max_abs_diff <= 1e-9
    for name, metric in ours.items():
        wanted = metric.get()
        if version.metrics[name] is not None:
            assert version.metrics[name] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(rows=rows_with(st.sampled_from(CLASSES)), size=st.sampled_from([1, 7, 100]))
def test_classes_are_rivers_whatever_the_cuts(rows: list[Row], size: int) -> None:
    """Largest probability, predicted class and that of the truth equal River's, bit for bit."""
    estimator, said, wanted = classifier(), {}, []
    loss = 0.0
    for number, x, truth in simulated(rows):
        if truth is None:
            said[number] = dict(estimator.predict_proba_one(x))
            continue
        estimator.learn_one(x, truth)
        found = said[number]
        wanted.append((str(number), truth, max(found.values(), default=0.0), found.get(truth, 0.0)))
        loss -= math.log(min(max(found.get(truth, 0.0), 1e-15), 1 - 1e-15))
    learned = in_pieces(Learner(spec_of("multiclass")), rows, size)
    got = [
        (key, one.classes[int(label)], score, of_truth)
        for one in learned
        for key, label, score, of_truth in zip(
            one.outcomes.keys,
            one.outcomes.labels,
            one.outcomes.scores,
            one.outcomes.truth_probabilities,
            strict=True,
        )
    ]
    assert got == wanted
    for one in learned:
        columns = zip(one.outcomes.keys, one.outcomes.predicted.tolist(), strict=True)
        for key, place in columns:
            found = said[int(key)]
            assert place == -1 or found[one.classes[place]] == max(found.values())
    version = [version for one in learned for version in one.versions][-1]
    assert version.classes == tuple(dict.fromkeys(truth for _, truth, _, _ in wanted))
    assert version.metrics["log_loss"] == pytest.approx(loss / len(wanted), rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(rows=rows_with(st.booleans().map(float)), size=st.sampled_from([1, 7, 100]))
def test_a_detector_learns_without_labels(rows: list[Row], size: int) -> None:
    """Scores are those of a detector that sees each row once, labels only tell how good it was."""
    estimator, scores = detector(), []
    for row in rows:
        x = vector(row.features)
        scores.append(estimator.score_one(x))
        estimator.learn_one(x)
    learned = in_pieces(Learner(spec_of("anomaly")), rows, size)
    found = np.concatenate([one.predictions.scores for one in learned])
    np.testing.assert_array_equal(found, scores)
    assert sum(one.counts.learned for one in learned) == len(rows)
    judged = {key for one in learned for key in one.outcomes.keys}
    assert judged == {str(i) for i in range(len(rows))}
    silent = in_pieces(Learner(spec_of("anomaly", has_labels=False)), rows, size)
    np.testing.assert_array_equal(np.concatenate([o.predictions.scores for o in silent]), scores)
    versions = [[v.onnx for one in some for v in one.versions] for some in (learned, silent)]
    assert versions[0] == versions[1]


@settings(deadline=None, max_examples=40)
@given(
    rows=rows_with(st.integers(1, 90).map(float)),
    size=st.sampled_from([1, 7, 100]),
    timeout_us=st.integers(1, 20),
)
def test_silence_is_learned_at_the_deadline(rows: list[Row], size: int, timeout_us: int) -> None:
    """A prediction without a label in time learns the given one when its last moment has passed."""
    wanted = []
    for number, row in enumerate(rows):
        is_late = row.delay_us > timeout_us
        # At one time labels come first, then what was given up; River knows no deadlines.
        at_us = row.time_us + (timeout_us if is_late else row.delay_us)
        wanted.append((at_us, str(number), -1.0 if is_late else row.truth))
    limits = {"label_timeout_us": timeout_us, "on_timeout": "-1.0"}
    learned = in_pieces(Learner(spec_of("regression", **limits)), rows, size)
    got = [
        (at_us, key, label)
        for one in learned
        for at_us, key, label in zip(
            one.outcomes.label_times_us.tolist(),
            one.outcomes.keys,
            one.outcomes.labels.tolist(),
            strict=True,
        )
    ]
    assert sorted(got) == sorted(wanted)
    assert [at_us for at_us, _, _ in got] == sorted(at_us for at_us, _, _ in got)
    late = sum(row.delay_us > timeout_us for row in rows)
    assert sum(one.counts.given_labels for one in learned) == late


@settings(deadline=None, max_examples=25)
@given(rows=rows_with(st.integers(1, 90).map(float)), timeout_us=st.integers(1, 20))
def test_cuts_do_not_move_what_silence_teaches(rows: list[Row], timeout_us: int) -> None:
    """The same versions, byte for byte, in calls of one, seven or a hundred microseconds."""
    limits = {"label_timeout_us": timeout_us, "on_timeout": "0.5", "publish_every_us": 9}
    every: list[list[Any]] = []
    for size in (1, 7, 100):
        learned = in_pieces(Learner(spec_of("regression", **limits)), rows, size)
        every.append([replace(v, parity=None) for one in learned for v in one.versions])  # type: ignore[arg-type]
    assert every[0] == every[1] == every[2]


def test_segments_go_along_to_the_outcome() -> None:
    """A labelled prediction has the segments and the newest version it was made with."""
    learner = Learner(spec_of("regression", segments=("shop", "kind"), publish_every_us=5))
    nothing = np.zeros((2, len(SCHEMA.fields)))
    learner.advance(
        Predictions(["a", "b"], np.array([1, 2]), nothing, (["x", None], ["k", "l"])),
        Labels(["a"], np.array([3]), np.array([1.0])),
        9,
    )
    late = Predictions(["c"], np.array([9]), nothing[:1], (["y"], ["m"]))
    learned = learner.advance(late, Labels(["c", "b"], np.array([9, 10]), np.ones(2)), 12)
    assert learned.outcomes.keys == ["c", "b"]
    assert learned.outcomes.segments == (["y", None], ["m", "l"])
    assert learned.outcomes.versions.tolist() == [1, 0]


def test_classes_are_bounded() -> None:
    """One class too many is ignored and counted, and the model lives on."""
    learner = Learner(spec_of("multiclass"))
    count = CLASSES_MAX + 2
    keys, times = [str(i) for i in range(count)], np.arange(count, dtype=np.int64)
    vectors = np.zeros((count, len(SCHEMA.fields)))
    texts: list[str | None] = [*keys[:-1], None]
    given_labels = Labels(keys, times, np.full(count, np.nan), texts)
    learned = learner.advance(Predictions(keys, times, vectors), given_labels, count)
    assert len(learned.classes) == CLASSES_MAX
    assert learned.counts.ignored_labels == 2


def test_a_number_that_is_none_is_ignored() -> None:
    """Infinite and missing numbers are no labels: they would spoil a regression for ever."""
    learner = Learner(spec_of("regression"))
    times, vectors = np.arange(3, dtype=np.int64), np.zeros((3, len(SCHEMA.fields)))
    values = np.array([np.inf, np.nan, 2.0])
    keys = ["a", "b", "c"]
    learned = learner.advance(Predictions(keys, times, vectors), Labels(keys, times, values), 3)
    assert learned.counts.ignored_labels == 2
    assert learned.outcomes.labels.tolist() == [2.0]


def test_probabilities_that_are_no_numbers_count_for_nobody() -> None:
    """One such row does not spoil a multi-class model's figures for ever."""
    board = board_for("multiclass")
    numbers = np.zeros(3, np.int64)
    outcomes = Outcomes(
        keys=["a", "b", "c"],
        prediction_times_us=numbers,
        label_times_us=numbers,
        labels=np.array([0.0, 1.0, 1.0]),
        scores=np.array([0.5, math.nan, 0.5]),
        baseline_rates=np.array([0.5, 0.5, 0.25]),
        baseline_lasts=np.array([1.0, 1.0, 0.0]),
        versions=numbers,
        predicted=np.array([0, 1, 0]),
        truth_probabilities=np.array([0.5, math.nan, 0.25]),
    )
    board.take(outcomes)
    assert board.report() == pytest.approx(
        {
            "outcomes": 2,
            "log_loss": math.log(8) / 2,
            "accuracy": 0.5,
            "baseline_rate_log_loss": math.log(8) / 2,
            "baseline_last_accuracy": 0.5,
        }
    )


@pytest.mark.parametrize(
    ("task", "changes", "until_us"),
    [
        ("anomaly", {"has_labels": False}, 3),
        ("anomaly", {}, 3),
        ("regression", {"on_timeout": "0.5"}, 8),
        ("multiclass", {"on_timeout": "none"}, 8),
    ],
)
def test_what_is_learned_without_a_label_is_published(
    task: Task, changes: dict[str, Any], until_us: int
) -> None:
    """A row, or a deadline that has passed, makes a version at the next boundary, and says when."""
    limits = {"label_timeout_us": 5, "publish_every_us": 10, **changes}
    learner = Learner(spec_of(task, **limits))
    rows = Predictions(["a"], np.array([3]), np.ones((1, len(SCHEMA.fields))))
    nothing = Labels([], np.empty(0, np.int64), np.empty(0), [] if task == "multiclass" else None)
    (version,) = learner.advance(rows, nothing, 50).versions
    assert (version.boundary_us, version.examples) == (10, 1)
    assert (version.trained_from_us, version.trained_until_us) == (3, until_us)
