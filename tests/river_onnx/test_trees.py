"""Single trees: the exported model says what River says, while they learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift, linear_model, optim, tree
from river.tree.nodes.branch import (
    NominalBinaryBranch,
    NominalMultiwayBranch,
    NumericMultiwayBranch,
)

from dataflows.river_onnx import UnsupportedEstimatorError, to_onnx
from dataflows.river_onnx.parity import run_onnx
from tests.river_onnx.streams import (
    NAMES,
    Kind,
    Subject,
    check,
    learn,
    learning,
    questions,
    rows,
    truths,
)

EAGER: dict[str, Any] = {"grace_period": 40, "delta": 0.05, "tau": 0.3}
HOEFFDING = tree.HoeffdingTreeClassifier
ADAPTIVE = tree.HoeffdingAdaptiveTreeClassifier
FAST = tree.ExtremelyFastDecisionTreeClassifier
REGRESSOR = tree.HoeffdingTreeRegressor
ADAPTIVE_REGRESSOR = tree.HoeffdingAdaptiveTreeRegressor
SHOP: dict[str, Any] = {"nominal_attributes": ["shop"]}
ALERT: dict[str, Any] = {
    "seed": 1,
    "drift_window_threshold": 20,
    "drift_detector": drift.ADWIN(0.5, clock=4, grace_period=5, min_window_length=3),
}


def linear() -> Any:
    """A leaf model that the size of a shop's code does not blow up."""
    return linear_model.LinearRegression(optim.SGD(1e-34), intercept_lr=0.01)


def classifiers(kind: Kind) -> dict[str, Subject]:
    """All sorts of leaves and splits."""
    made: dict[str, Callable[[], Any]] = {
        "last": tree.LASTClassifier,
        "last_mc": lambda: tree.LASTClassifier(leaf_prediction="mc"),
    }
    for leaf in ("mc", "nb", "nba"):
        keep = {**EAGER, "leaf_prediction": leaf, "nb_threshold": 15}
        made |= {
            f"hoeffding_{leaf}": partial(HOEFFDING, **keep),
            f"hoeffding_nominal_{leaf}": partial(HOEFFDING, **keep, **SHOP),
            f"hoeffding_binary_{leaf}": partial(HOEFFDING, **keep, **SHOP, binary_split=True),
            f"adaptive_{leaf}": partial(ADAPTIVE, **keep, **ALERT),
            f"adaptive_nominal_{leaf}": partial(ADAPTIVE, **keep, **ALERT, **SHOP),
            f"fast_{leaf}": partial(FAST, **keep, min_samples_reevaluate=40),
            f"fast_nominal_{leaf}": partial(FAST, **keep, **SHOP, min_samples_reevaluate=40),
        }
    made["exhaustive"] = lambda: HOEFFDING(**EAGER, splitter=tree.splitter.ExhaustiveSplitter())
    made["histogram"] = lambda: HOEFFDING(
        **EAGER, splitter=tree.splitter.HistogramSplitter(), leaf_prediction="mc"
    )
    made["depth"] = lambda: HOEFFDING(**EAGER, max_depth=1)
    return {f"{kind}_{name}": Subject(kind, make) for name, make in made.items()}


def regressors() -> dict[str, Subject]:
    """All sorts of leaves and splits."""
    made: dict[str, Callable[[], Any]] = {}
    for leaf in ("mean", "model", "adaptive"):
        keep = {**EAGER, "leaf_prediction": leaf}
        made |= {
            f"hoeffding_{leaf}": partial(REGRESSOR, **keep, leaf_model=linear()),
            f"hoeffding_nominal_{leaf}": partial(REGRESSOR, **keep, **SHOP, leaf_model=linear()),
            f"adaptive_{leaf}": partial(ADAPTIVE_REGRESSOR, **keep, **ALERT, leaf_model=linear()),
            f"multiway_{leaf}": partial(
                REGRESSOR,
                **keep,
                leaf_model=linear(),
                splitter=tree.splitter.QOSplitter(radius=0.5, allow_multiway_splits=True),
            ),
        }
    made["gradient"] = lambda: tree.SGTRegressor(delta=0.05, grace_period=40)
    return {f"regression_{name}": Subject("regression", make) for name, make in made.items()}


SUBJECTS: dict[str, Subject] = {
    **classifiers("binary"),
    **classifiers("multiclass"),
    **regressors(),
    "binary_gradient": Subject("binary", lambda: tree.SGTClassifier(delta=0.05, grace_period=40)),
    "binary_gradient_nominal": Subject(
        "binary", lambda: tree.SGTClassifier(delta=0.05, grace_period=40, **SHOP)
    ),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_equals_river_while_it_learns(name: str) -> None:
    """Before it has seen anything and on: own thresholds, unseen and missing values, drift."""
    subject = SUBJECTS[name]
    for estimator, matrix in learning(subject, seed=len(name)):
        check(subject, estimator, matrix)


@settings(deadline=None, max_examples=8)
@given(
    name=st.sampled_from(sorted(SUBJECTS)), seed=st.integers(0, 10_000), rows=st.integers(2, 400)
)
def test_equals_river_on_any_stream(name: str, seed: int, rows: int) -> None:
    """The same for streams that nobody has chosen."""
    subject = replace(SUBJECTS[name], rows=rows)
    for estimator, matrix in learning(subject, seed, checks=2):
        check(subject, estimator, matrix)


def grown(name: str, rows: int = 600) -> Any:
    """The estimator at the end."""
    *_, (estimator, _) = learning(replace(SUBJECTS[name], rows=rows), 3)
    return estimator


def kinds(root: Any) -> set[type]:
    """Classes of branches that are in a tree."""
    return {kind for node in root.iter_dfs() for kind in type(node).__mro__}


def test_the_streams_make_trees_do_what_they_can() -> None:
    """What is compared has swapped subtrees, split anew, and all sorts of splits and leaves."""
    adaptive = grown("binary_adaptive_nba")
    assert adaptive.n_alternate_trees > 0
    assert NominalMultiwayBranch in kinds(grown("multiclass_hoeffding_nominal_nba")._root)
    assert NominalBinaryBranch in kinds(grown("binary_hoeffding_binary_mc")._root)
    assert NumericMultiwayBranch in kinds(grown("regression_multiway_mean")._root)
    assert grown("binary_gradient").n_splits > 0
    roots = {
        (estimator._root.feature, estimator._root.threshold)
        for estimator, _ in learning(SUBJECTS["binary_fast_mc"], 3, checks=12)
        if hasattr(estimator._root, "threshold")
    }
    assert len(roots) > 1


def alternates(root: Any) -> list[Any]:
    """Leaves that an adaptive tree tries out beside its own."""
    found = [getattr(node, "_alternate_tree", None) for node in root.iter_dfs()]
    return [node for node in found if node is not None]


@pytest.mark.parametrize("name", ["binary_adaptive_nba", "regression_adaptive_mean"])
def test_alternate_leaves_count_as_often_as_river_counts_them(name: str) -> None:
    """While alternates exist they have their say: twice below a split whose feature is missing."""
    subject = replace(SUBJECTS[name], rows=900)
    seen = 0
    for estimator, matrix in learning(subject, 4, checks=90):
        if estimator._root is not None and alternates(estimator._root):
            seen += 1
            check(subject, estimator, matrix)
    assert seen > 3


def test_naive_bayes_has_its_say_from_its_very_row_on() -> None:
    """A leaf of as many rows as ``nb_threshold`` says what naive Bayes says; of one less not."""
    subject = SUBJECTS["binary_hoeffding_nb"]
    estimator, matrix = subject.make(), rows(subject, 6, 17)
    for place, (row, truth) in enumerate(
        zip(matrix.tolist(), truths(subject, matrix, 6), strict=True), start=1
    ):
        learn(subject, estimator, row, truth)
        if place >= estimator.nb_threshold - 1:
            check(subject, estimator, questions(subject, estimator, place))


def test_names_that_a_tree_splits_by_need_not_be_there() -> None:
    """A tree that splits by a feature that is no column goes its most common path, as in River."""
    tree_ = grown("binary_hoeffding_nba")
    names = NAMES[2:]
    matrix = rows(SUBJECTS["binary_hoeffding_nba"], 8, 50)[:, 2:]
    expected = [
        tree_.predict_proba_one(
            {name: v for name, v in zip(names, row, strict=True) if not math.isnan(v)}
        )[True]
        for row in matrix.tolist()
    ]
    found = run_onnx(to_onnx(tree_, names), matrix)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_nominal_value_that_is_no_number_is_refused() -> None:
    """Texts cannot be columns of doubles: the message says to give codes."""
    estimator = HOEFFDING(**EAGER, leaf_prediction="mc")
    for place in range(400):
        shop = "ab"[place % 2]
        estimator.learn_one({"shop": shop}, shop == "a")
    with pytest.raises(UnsupportedEstimatorError, match="category codes"):
        to_onnx(estimator, ["shop"])
