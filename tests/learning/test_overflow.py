"""Numbers that cannot be squared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from river import facto, linear_model, optim, preprocessing, tree

from contracts.model_spec import Task
from dataflows.learning.learner import Learner
from dataflows.learning.records import Labels, Learned
from tests.learning.rows import Row, predictions, spec

HUGE_AT = (20, 40)
MAKERS: list[tuple[Task, Callable[[], Any]]] = [
    ("binary", lambda: tree.HoeffdingTreeClassifier(grace_period=20)),
    ("multiclass", lambda: tree.HoeffdingTreeClassifier(grace_period=20)),
    ("regression", lambda: tree.HoeffdingTreeRegressor(grace_period=20)),
    ("regression", lambda: facto.FMRegressor(seed=1)),
]


@pytest.mark.parametrize(("task", "make"), MAKERS)
def test_a_huge_number_does_not_end_the_flow(task: Task, make: Callable[[], Any]) -> None:
    """Such a row has no score or a wild one, teaches nothing or little, and all others go on."""
    rows = [
        Row(at, 0, (float(at % 3), 1e200 if at in HUGE_AT else 1.0, 2.0), at % 3 == 0)
        for at in range(60)
    ]
    keys, times_us = [str(at) for at in range(60)], np.arange(60, dtype=np.int64)
    truths = np.array([float(row.truth) for row in rows])
    texts: list[str | None] = ["yes" if row.truth else "no" for row in rows]
    learner = Learner(replace(spec(every_us=15), make_learner=make, task=task))
    labels = Labels(keys, times_us, truths, texts if task == "multiclass" else None)
    learned = learner.advance(predictions(rows), labels, 1_000)
    assert len(learned.outcomes.keys) == 60
    assert np.isfinite(learned.predictions.scores[: HUGE_AT[0]]).all()
    assert [version.version for version in learned.versions][:1] == [1]


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam], ids=["compiled", "river"])
def test_a_huge_number_is_not_learned(optimizer: Callable[[float], Any]) -> None:
    """It would make the scaler NaN for good: all else is as if such an example had no label."""
    rows = [
        Row(at, 0, (float(at % 3), -1e200 if at in HUGE_AT else 1.0, 2.0), at % 3 == 0)
        for at in range(60)
    ]

    def learned(labelled: list[int]) -> tuple[Learned, Learned]:
        made = replace(
            spec(every_us=15),
            make_learner=lambda: (
                preprocessing.StandardScaler()
                | linear_model.LogisticRegression(optimizer=optimizer(0.01))
            ),
        )
        times_us = np.array(labelled, dtype=np.int64)
        truths = np.array([float(rows[at].truth) for at in labelled])
        learner = Learner(made)
        labels = Labels([str(at) for at in labelled], times_us, truths)
        return learner.advance(predictions(rows), labels, 1_000), learner.finish(1_001)

    (ours, last), (theirs, _) = (
        learned([at for at in range(60) if at not in without]) for without in ((), HUGE_AT)
    )
    assert (ours.counts.huge, ours.counts.learned) == (2, 58)
    assert ours.predictions.scores.tobytes() == theirs.predictions.scores.tobytes()
    assert [version.onnx for version in ours.versions] == [v.onnx for v in theirs.versions]
    assert not ours.refused
    assert [version.examples for version in last.versions or ours.versions][-1] == 58


@pytest.mark.parametrize("huge", [1e160, -1e308])
def test_a_huge_label_leaves_out_what_no_double_holds(huge: float) -> None:
    """The version comes, with those figures that are numbers: a manifest takes no others."""
    rows = [Row(at, 0, (float(at % 3), 1.0, 2.0), False) for at in range(60)]
    truths = np.arange(60.0)
    truths[10], truths[20] = huge, -huge
    made = replace(spec(every_us=15), make_learner=linear_model.LinearRegression, task="regression")
    labels = Labels([str(at) for at in range(60)], np.arange(60, dtype=np.int64), truths)
    learned = Learner(made).advance(predictions(rows), labels, 1_000)
    metrics = learned.versions[-1].metrics
    assert metrics["outcomes"] == 60
    assert metrics["rmse"] is None
    assert all(value is None or np.isfinite(value) for value in metrics.values())
