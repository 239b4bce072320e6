"""Forests, ensembles and choices among models: the exported model says what River says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import (
    anomaly,
    bandit,
    drift,
    ensemble,
    forest,
    linear_model,
    metrics,
    model_selection,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    tree,
)

from dataflows.river_onnx import UnsupportedEstimatorError, check_exportable
from tests.river_onnx.streams import Kind, Subject, check, exported, learning

EAGER: dict[str, Any] = {"grace_period": 40, "delta": 0.05, "tau": 0.3}
SMALL: dict[str, Any] = {"n_models": 3, "seed": 2}
ADWIN = drift.ADWIN
EXTRA: dict[str, dict[str, Any]] = {
    "equal": {},
    "weighted": {"disable_weighted_vote": False},
}


def sapling() -> Any:
    """A tree that grows soon."""
    return tree.HoeffdingTreeClassifier(**EAGER)


def regressor() -> Any:
    """A tree that grows soon."""
    return tree.HoeffdingTreeRegressor(**EAGER, leaf_prediction="mean")


def logistic() -> Any:
    """A model that is no tree, in a pipeline."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def linear() -> Any:
    """A model that is no tree, in a pipeline."""
    return preprocessing.StandardScaler() | linear_model.LinearRegression()


def classifiers(kind: Kind) -> dict[str, Subject]:
    """Forests and ensembles of trees."""
    made: dict[str, Callable[[], Any]] = {
        "random": lambda: forest.ARFClassifier(**SMALL, drift_detector=ADWIN(0.05)),
        "random_equal": lambda: forest.ARFClassifier(
            **SMALL, leaf_prediction="mc", disable_weighted_vote=True
        ),
        "random_kappa": lambda: forest.ARFClassifier(
            **SMALL, metric=metrics.CohenKappa(), nominal_attributes=["shop"]
        ),
        "bagging": lambda: ensemble.BaggingClassifier(sapling(), **SMALL),
        "adwin_bagging": lambda: ensemble.ADWINBaggingClassifier(sapling(), **SMALL),
        "leveraging": lambda: ensemble.LeveragingBaggingClassifier(sapling(), **SMALL),
        "ada": lambda: ensemble.AdaBoostClassifier(sapling(), **SMALL),
        "adwin_boosting": lambda: ensemble.ADWINBoostingClassifier(sapling(), **SMALL),
        "bole": lambda: ensemble.BOLEClassifier(sapling(), **SMALL),
        "patches": lambda: ensemble.SRPClassifier(sapling(), **SMALL),
        "stacking": lambda: ensemble.StackingClassifier([sapling(), sapling()], sapling()),
        "retraining": lambda: drift.DriftRetrainingClassifier(sapling()),
        "halving": lambda: model_selection.SuccessiveHalvingClassifier(
            [sapling(), tree.HoeffdingTreeClassifier()], metrics.Accuracy(), budget=300
        ),
    }
    subjects = {f"{kind}_{name}": Subject(kind, make) for name, make in made.items()}
    for name, aggregated in (("mondrian", True), ("mondrian_leaves", False)):
        subjects[f"{kind}_{name}"] = Subject(
            kind,
            partial(forest.AMFClassifier, 3, use_aggregation=aggregated, max_nodes=150, seed=3),
            unit=True,
        )
    return subjects


def linear_ensembles() -> dict[str, Subject]:
    """Ensembles of models that are no trees, and a mixture."""
    made: dict[str, Callable[[], Any]] = {
        "bagging": lambda: ensemble.BaggingClassifier(logistic(), **SMALL),
        "ada": lambda: ensemble.AdaBoostClassifier(logistic(), **SMALL),
        "bole": lambda: ensemble.BOLEClassifier(logistic(), **SMALL),
        "stacking": lambda: ensemble.StackingClassifier(
            [logistic(), sapling(), tree.SGTClassifier()], logistic(), include_features=False
        ),
        "bandit": lambda: model_selection.BanditClassifier(
            [logistic(), sapling()], metrics.Accuracy(), bandit.EpsilonGreedy(0.1, seed=2)
        ),
    }
    return {f"linear_{name}": Subject("binary", make, gaps=False) for name, make in made.items()}


def regressors() -> dict[str, Subject]:
    """Forests, ensembles, choices; weighted or not, an even number of trees or an odd one."""
    subjects: dict[str, Subject] = {
        "mondrian": Subject("regression", lambda: forest.AMFRegressor(3, seed=3), unit=True),
        "greedy": Subject(
            "regression",
            lambda: model_selection.GreedyRegressor([linear(), regressor()]),
            gaps=False,
        ),
        "bandit": Subject(
            "regression",
            lambda: model_selection.BanditRegressor(
                [linear(), regressor()], metrics.MAE(), bandit.UCB(delta=1, seed=2)
            ),
            gaps=False,
        ),
        "average": Subject(
            "regression",
            lambda: ensemble.EWARegressor([linear(), regressor()], learning_rate=0.01),
            gaps=False,
        ),
        "bagging": Subject("regression", lambda: ensemble.BaggingRegressor(regressor(), **SMALL)),
    }
    for count in (3, 4):
        for how, equal in (("mean", False), ("mean", True), ("median", True)):
            options: dict[str, Any] = {"n_models": count, "seed": 2, "aggregation_method": how}
            options["disable_weighted_vote"] = equal
            name = f"{how}_{count}_{'equal' if equal else 'weighted'}"
            subjects[f"random_{name}"] = Subject(
                "regression",
                partial(forest.ARFRegressor, **options, leaf_prediction="mean"),
            )
            subjects[f"patches_{name}"] = Subject(
                "regression", partial(ensemble.SRPRegressor, regressor(), **options)
            )
    for name, extra in EXTRA.items():
        subjects[f"extra_{name}"] = Subject(
            "regression",
            partial(
                forest.OXTRegressor,
                **SMALL,
                **extra,
                max_depth=6,
                detection_mode="off",
                leaf_prediction="mean",
            ),
        )
    return {f"regression_{name}": subject for name, subject in subjects.items()}


SUBJECTS: dict[str, Subject] = {
    **classifiers("binary"),
    **classifiers("multiclass"),
    **linear_ensembles(),
    **regressors(),
    "anomaly_half_space": Subject(
        "anomaly", lambda: anomaly.HalfSpaceTrees(5, 6, window_size=80, seed=2), unit=True
    ),
    "anomaly_half_space_rough": Subject(
        "anomaly", lambda: anomaly.HalfSpaceTrees(5, 4, window_size=80, seed=2)
    ),
}
EVERY = pytest.mark.parametrize("name", SUBJECTS)


@EVERY
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


def last(name: str, count: int) -> Any:
    """The estimator after so many rows."""
    *_, (estimator, _) = learning(replace(SUBJECTS[name], rows=count), 5)
    return estimator


@EVERY
def test_exporting_changes_nothing_and_repeats(name: str) -> None:
    """The estimator is as before, equal states give equal bytes, and ONNX's checker is content."""
    subject = SUBJECTS[name]
    estimator = last(name, 150)
    before = pickle.dumps(estimator)
    model = exported(subject, estimator)
    assert pickle.dumps(estimator) == before
    assert exported(subject, pickle.loads(before)) == model
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


def test_the_streams_make_forests_do_what_they_can() -> None:
    """What is compared has replaced trees, and weighs them differently."""
    forest_ = last("binary_random", 600)
    assert forest_.n_drifts_detected() > 0
    assert len({metric.get() for metric in forest_._metrics}) > 1
    assert not last("anomaly_half_space", 150)._first_window


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (tree.ISOUPTreeRegressor(), "ISOUPTreeRegressor"),
        (ensemble.VotingClassifier([sapling(), sapling()]), "VotingClassifier"),
        (tree.LASTClassifier(leaf_prediction="nb"), "leaf_prediction='nb'"),
        (
            tree.HoeffdingTreeClassifier(splitter=tree.splitter.HistogramSplitter()),
            "splitter=HistogramSplitter",
        ),
        (
            forest.ARFClassifier(splitter=tree.splitter.HistogramSplitter()),
            "splitter=HistogramSplitter",
        ),
        (
            tree.HoeffdingTreeRegressor(leaf_model=linear_model.PARegressor()),
            "leaf_model=PARegressor",
        ),
        (
            forest.ARFRegressor(
                leaf_model=linear_model.LinearRegression(loss=optim.losses.Poisson())
            ),
            "loss=Poisson",
        ),
        (ensemble.BaggingClassifier(neighbors.KNNClassifier()), "KNNClassifier"),
        (ensemble.SRPClassifier(neighbors.KNNClassifier()), "KNNClassifier"),
        (drift.DriftRetrainingClassifier(neighbors.KNNClassifier()), "KNNClassifier"),
        (
            model_selection.GreedyRegressor([linear(), neighbors.KNNRegressor()]),
            "KNNRegressor",
        ),
        (
            ensemble.StackingClassifier([sapling(), naive_bayes.GaussianNB()], logistic()),
            "GaussianNB is not supported below it",
        ),
    ],
)
def test_refuses_by_name(estimator: Any, named: str) -> None:
    """What cannot be exported exactly is refused before it learns, also inside another."""
    with pytest.raises(UnsupportedEstimatorError, match=named):
        check_exportable(estimator)
