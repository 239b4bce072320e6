"""What the learner does with boundaries, late labels and rows that fit nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model

from dataflows.learning.learner import Learner
from dataflows.learning.records import (
    LearnerCounts,
)
from tests.learning.rows import (
    MAKERS,
    ROWS,
    SCHEMA,
    Row,
    advance,
    labels,
    labels_of,
    late_row,
    predictions,
    spec,
)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, every_us=st.integers(1, 40))
def test_a_version_holds_what_lies_before_its_boundary(rows: list[Row], every_us: int) -> None:
    """Version n is the model of all labels before its boundary, a multiple of the interval."""
    learned = advance(Learner(spec(every_us=every_us)), predictions(rows), labels_of(rows))
    assert [version.version for version in learned.versions] == [
        number + 1 for number in range(len(learned.versions))
    ]
    examples = 0
    for version in learned.versions:
        assert version.boundary_us % every_us == 0
        before = learned.outcomes.label_times_us < version.boundary_us
        assert version.examples == before.sum() > examples
        examples = version.examples
        assert version.boundary_us - every_us <= version.trained_until_us < version.boundary_us
        assert version.trained_until_us == learned.outcomes.label_times_us[before].max()
        assert version.trained_from_us == learned.outcomes.prediction_times_us[before].min()
        assert version.parity.rows > 0
        assert version.parity.max_abs_diff <= 1e-15


def test_published_as_soon_as_the_watermark_passes_the_boundary() -> None:
    """A quiet stream does not hold a version back, and nothing new learned gives no version."""
    learner = Learner(spec())
    first = learner.advance(predictions([late_row(1)]), labels([("0", 5, 1.0)]), 9)
    assert first.versions == []
    (version,) = learner.advance(predictions([]), labels([]), 10).versions
    assert (version.version, version.boundary_us, version.examples) == (1, 10, 1)
    assert version.parity.rows == 1  # nothing waits: the last prediction stands in
    assert learner.advance(predictions([]), labels([]), 1000).versions == []
    assert learner.finish(1000).versions == []


def test_boundaries_without_new_examples_are_skipped() -> None:
    """The next version comes at the first boundary after something was learned."""
    rows = [late_row(1), late_row(2)]
    learned = advance(Learner(spec()), predictions(rows), labels([("0", 5, 1.0), ("1", 77, 0.0)]))
    assert [version.boundary_us for version in learned.versions] == [10, 80]


def test_held_out_rows_are_those_that_wait() -> None:
    """Parity is measured on at most 64 vectors, of predictions still without a label."""
    rows = [late_row(1) for _ in range(300)]
    for waiting, expected in ((300, 64), (21, 20)):
        learner = Learner(spec())
        learner.advance(predictions(rows[:waiting]), labels([("0", 5, 1.0)]), 6)
        (version,) = learner.finish(6).versions
        assert version.parity.rows == expected


def test_a_version_is_as_of_its_boundary_whatever_made_us_notice() -> None:
    """What expired before the boundary is not held out, though the next row comes much later."""
    rows = [late_row(1), late_row(2), late_row(3), late_row(50)]
    learned = advance(Learner(spec(timeout_us=5)), predictions(rows), labels([("0", 4, 1.0)]))
    (version,) = learned.versions
    # Nothing waits any more at 10, so the newest predictions before it stand in.
    assert (version.boundary_us, version.parity.rows) == (10, 3)
    assert learned.counts.expired_predictions == 3


def test_finish_publishes_the_rest() -> None:
    """What was learned since the last boundary becomes a version of the end of the input."""
    learner = Learner(spec())
    learner.advance(predictions([late_row(1)]), labels([("0", 12, 1.0)]), 14)
    (version,) = learner.finish(15).versions
    assert (version.boundary_us, version.trained_from_us, version.trained_until_us) == (15, 1, 12)


@pytest.mark.parametrize(("label_us", "learned"), [(14, 1), (15, 1), (16, 0)])
def test_a_label_counts_up_to_the_timeout(label_us: int, learned: int) -> None:
    """A label exactly at the timeout is learned; a microsecond later the prediction is given up."""
    result = advance(
        Learner(spec(timeout_us=5)), predictions([late_row(10)]), labels([("0", label_us, 1.0)])
    )
    assert result.counts == LearnerCounts(
        predictions=1,
        labels=1,
        learned=learned,
        late_labels=1 - learned,
        expired_predictions=1 - learned,
    )


def test_waiting_predictions_are_given_up_in_time() -> None:
    """Memory is bounded: without labels, what is older than the timeout is forgotten."""
    learner = Learner(spec(timeout_us=5))
    for time_us in range(0, 100, 2):
        learner.advance(predictions([late_row(time_us)], [str(time_us)]), labels([]), time_us + 1)
        assert learner.waiting <= 3
    assert learner.advance(predictions([]), labels([]), 1000).counts.expired_predictions == 3
    assert learner.waiting == 0


def test_vectors_are_given_up_with_their_predictions() -> None:
    """Learned, expired or repeated: the place of a vector is used again."""
    learner = Learner(spec(timeout_us=5))
    for time_us in range(0, 2000, 2):
        rows = [late_row(time_us)] * 3
        keys = [f"learned {time_us}", f"expired {time_us}", f"expired {time_us}"]
        truths = labels([(keys[0], time_us + 1, 1.0)])
        learner.advance(predictions(rows, keys), truths, time_us + 2)
    assert learner.waiting <= 3
    assert len(learner._pending.rows.keys) <= 30


def test_labels_that_fit_nothing_are_counted() -> None:
    """Unknown, repeated and NaN labels change nothing but the counts."""
    entries = [("0", 5, 1.0), ("0", 6, 0.0), ("stranger", 6, 1.0), ("1", 6, math.nan)]
    learner = Learner(spec())
    learned = advance(learner, predictions([late_row(1), late_row(2)]), labels(entries), 7)
    assert learned.outcomes.keys == ["0"]
    assert learned.counts == LearnerCounts(
        predictions=2, labels=4, learned=1, unmatched_labels=1, repeated_labels=1, ignored_labels=1
    )
    # The NaN label has left its prediction waiting.
    assert learner.advance(predictions([]), labels([("1", 8, 1.0)]), 9).outcomes.keys == ["1"]


def test_the_first_of_two_predictions_of_a_key_stands() -> None:
    """A repeated prediction is scored and counted, and the label judges the first one."""
    rows = [late_row(1), Row(3, 0, (-1.0, 0.0, 0.0), truth=True)]
    learned = advance(Learner(spec()), predictions(rows, ["x", "x"]), labels([("x", 5, 1.0)]))
    assert len(learned.predictions.scores) == 2
    assert learned.outcomes.prediction_times_us.tolist() == [1]
    assert learned.counts == LearnerCounts(
        predictions=2, repeated_predictions=1, labels=1, learned=1
    )


def test_a_label_before_its_prediction_is_not_kept() -> None:
    """Only a label of the very time of its prediction waits for it, and only that long."""
    rows = [late_row(10), late_row(10), late_row(11)]
    truths = labels([("0", 9, 1.0), ("1", 10, 1.0), ("1", 10, 0.0), ("2", 10, 1.0)])
    learned = advance(Learner(spec()), predictions(rows), truths)
    assert learned.outcomes.keys == ["1"]
    assert learned.outcomes.labels.tolist() == [True]
    assert learned.counts.unmatched_labels == 3


def test_missing_and_infinite_values_become_defaults() -> None:
    """The estimator sees the schema's default, the outgoing rows what really came."""
    estimator = MAKERS["sgd"]()
    features = [(1.0, math.nan, 2.0), (math.inf, 1.0, math.nan), (0.5, 0.5, 0.5)]
    rows = [Row(time_us, 0, row, truth=True) for time_us, row in enumerate(features)]
    clean = [(1.0, -1.0, 2.0), (0.0, 1.0, 3.5), (0.5, 0.5, 0.5)]
    expected = []
    for row in clean:
        x = dict(zip(SCHEMA.names, row, strict=True))
        expected.append(estimator.predict_proba_one(x)[True])
        estimator.learn_one(x, True)
    batch = predictions(rows)
    learned = advance(Learner(spec()), batch, labels_of(rows))
    assert learned.predictions.scores.tolist() == expected
    np.testing.assert_array_equal(learned.predictions.features, features)


def test_a_spoilt_model_is_refused() -> None:
    """No version without parity: the reason is told, the number stays free, the flow goes on."""
    # The intercept is infinite after one step, and what River says after two is NaN.
    spoiling = replace(
        spec(), make_learner=lambda: linear_model.LogisticRegression(intercept_lr=float("inf"))
    )
    rows = [
        Row(time_us, 1, (1.0, 1.0, 1.0), truth=time_us % 20 == 1) for time_us in (1, 11, 21, 31)
    ]
    learned = advance(Learner(spoiling), predictions(rows), labels_of(rows))
    assert len(learned.outcomes.keys) == 4
    assert np.isnan(learned.predictions.scores[-1])
    assert [version.version for version in learned.versions] == [1]
    assert [(refused.version, refused.boundary_us) for refused in learned.refused] == [
        (2, 20),
        (2, 30),
        (2, 40),
    ]
    assert "late version 2: ONNX differs from River by nan" in learned.refused[0].reason
