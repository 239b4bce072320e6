"""Which rows may be learned from, and that nothing of the future gets in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.learning.auc import exact_auc
from dataflows.training.categories import Encoding
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Examples
from dataflows.training.learners import Job, Rows, learner
from dataflows.training.search import Budget
from dataflows.training.split import Shares, split
from dataflows.training.train import Wishes, train
from tests.training.worlds import DAY_US, HOUR_US, START_US, examples_of, plan_of


def rows_of(delays_hours: list[int]) -> Examples:
    """A row an hour with these delays of labels."""
    times_us = START_US + np.arange(len(delays_hours), dtype=np.int64) * HOUR_US
    return replace(
        examples_of(rows=len(delays_hours)),
        times_us=times_us,
        label_times_us=times_us + np.array(delays_hours) * HOUR_US,
    )


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    slow_hours=st.integers(1, 60),
    test=st.floats(0.1, 0.4),
    validation=st.floats(0.1, 0.4),
)
def test_nothing_that_was_not_known(
    seed: int, slow_hours: int, test: float, validation: float
) -> None:
    """What is learned was known at the boundary, what is measured came after it."""
    delays = np.random.default_rng(seed).integers(0, slow_hours + 1, 1_000)
    delays[::150] = 300  # so few that the gap does not hold them back
    examples = rows_of(delays.tolist())
    found = split(examples, Shares(test, validation))
    times_us, known_us = examples.times_us, examples.label_times_us
    assert found.validation_from_us < found.test_from_us
    assert (known_us[found.train] < found.validation_from_us).all()
    assert (known_us[found.fit] < found.test_from_us).all()
    assert (known_us[found.validation] < found.test_from_us).all()
    assert (times_us[found.validation] >= found.validation_from_us).all()
    assert (times_us[found.test] >= found.test_from_us).all()
    assert set(found.train) | set(found.validation) <= set(found.fit)
    assert not set(found.train) & set(found.validation)


def test_fast_labels_are_not_preferred() -> None:
    """Before a boundary all rows of the last while are left out, not only those without a label."""
    # Every other label takes two days: those of the last two days would all be fast ones.
    found = split(rows_of([1, 48] * 400), Shares())
    assert found.gap_us == 48 * HOUR_US
    delays = np.array([1, 48] * 400)
    for part in (found.train, found.fit, found.test):
        assert abs(int(np.sum(delays[part] == 1)) - int(np.sum(delays[part] == 48))) <= 1


def test_a_given_beginning_of_the_test() -> None:
    """The test begins at the moment that was asked for."""
    at_us = START_US + 600 * HOUR_US
    found = split(rows_of([1] * 800), Shares(test_from_us=at_us))
    assert found.test_from_us == at_us
    assert found.test[0] == 600


@pytest.mark.parametrize("at_us", [START_US, START_US + 10_000 * HOUR_US])
def test_an_empty_part_is_refused(at_us: int) -> None:
    """A test that leaves nothing to learn from, or nothing to measure on, is refused."""
    with pytest.raises(TrainingError, match="labelled examples are left to"):
        split(rows_of([1] * 800), Shares(test_from_us=at_us))


def test_shares_must_leave_something() -> None:
    """Shares of nothing and of everything are refused."""
    for share in (0.0, 1.0):
        with pytest.raises(TrainingError, match=r"above 0 and at most 0\.9"):
            Shares(test=share)


def test_a_label_of_the_future_does_not_help() -> None:
    """A model cannot use what labels say that come only after the boundary.

    What the first field means turns round every 40 days, and labels come 30 days late: on the first
    days after a turn nobody can know of it. Whoever learns from all rows before the test does.
    """
    generator = np.random.default_rng(3)
    rows = 110 * 24
    examples = examples_of(rows=rows)
    day = np.arange(rows) // 24
    turned = day // 40 % 2
    labels = ((examples.features[:, 0] > 0) ^ (turned == 1)).astype(np.float64)
    features = np.column_stack([examples.features[:, 0], day // 40, generator.normal(size=rows)])
    examples = replace(
        examples,
        features=features,
        labels=labels,
        label_times_us=examples.times_us + 30 * DAY_US,
        said={},
        segments={},
    )
    plan = plan_of(types=("float64",) * 3)
    from_us = START_US + 100 * DAY_US
    wishes = Wishes(Shares(test_from_us=from_us, validation=0.1), Budget(1, 60))
    learning = learner("lightgbm")
    trained = train(plan, examples, learning, wishes, lambda: 0.0)
    everything = np.flatnonzero(examples.times_us < from_us)
    job = Job(
        "binary",
        0,
        Rows(features[everything], labels[everything]),
        learning.defaults("binary"),
        0,
        1,
    )
    leaking = learning.fit(job)
    test = examples.times_us >= from_us
    cheated = exact_auc(labels[test] > 0.5, leaking.predict(features[test]))
    assert cheated is not None
    assert cheated > 0.95
    assert trained.metrics["auc"] < 0.6


def test_categories_know_nothing_of_the_test() -> None:
    """What rare categories happen to say in the test's rows is not known to the model.

    Labels are random. Means of labels over all rows would tell half of the test's.
    """
    generator = np.random.default_rng(0)
    rows = 3_000
    examples = examples_of(rows=rows)
    codes = generator.integers(0, 400, rows) + 2.0**52
    labels = (generator.random(rows) < 0.5).astype(np.float64)
    features = np.column_stack([generator.normal(size=rows), codes])
    examples = replace(examples, features=features, labels=labels, said={}, segments={})
    plan = plan_of(types=("float64", "string"))
    wishes = Wishes(budget=Budget(1, 60), shares=Shares(test=0.5))
    trained = train(plan, examples, learner("sklearn-linear"), wishes, lambda: 0.0)
    test = examples.at(split(examples, wishes.shares).test)
    everything = Encoding.learn(features, labels, [1], 0).apply(test.features)[:, 1]
    cheated = exact_auc(test.labels > 0.5, everything)
    assert cheated is not None
    assert cheated > 0.6
    assert abs(trained.metrics["auc"] - 0.5) < 0.05
