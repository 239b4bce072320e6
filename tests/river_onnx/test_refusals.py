"""What cannot be exported exactly is refused by name before anything was learned."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from river import (
    anomaly,
    compose,
    dummy,
    ensemble,
    facto,
    feature_extraction,
    feature_selection,
    imblearn,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    stats,
    utils,
)

from dataflows.river_onnx import UnsupportedEstimatorError, check_exportable, to_onnx
from tests.river_onnx.estimators import CATEGORIES, SIGNED, Linear, Logistic, OneHot, Standard

NAMES = ("a", "b")


class OurScaler(preprocessing.StandardScaler):
    """A subclass may compute something else."""


def _doubled(x: dict[str, float]) -> dict[str, float]:
    """Any function."""
    return {name: 2.0 * value for name, value in x.items()}


doubled: Any = _doubled


def identity(value: float) -> float:
    """A function of a target."""
    return value


def commonest(value: str) -> Any:
    """A statistic that is a text."""
    mode = stats.Mode()
    mode.update(value)
    return mode


# Of the wrong kind, which River takes all the same.
LOG: Any = optim.losses.Log()
TEXTS: Any = {"a": {1.0: "x"}}
REFUSED: list[tuple[Any, str]] = [
    # Transformers: of these classes none, then of others not with this parameter.
    (OurScaler() | Logistic(), "OurScaler cannot be exported"),
    (compose.FuncTransformer(doubled) | Logistic(), "FuncTransformer"),
    (doubled | Logistic(), "FuncTransformer"),
    (compose.SelectType(float) | Logistic(), "SelectType"),
    (compose.Grouper(Standard(), by="a") | Logistic(), "Grouper"),
    (feature_extraction.TargetAgg("a", stats.Mean()) | Logistic(), "TargetAgg"),
    (feature_extraction.Agg("a", "b", stats.Mean()) | Logistic(), "Agg"),
    (feature_extraction.RBFSampler(seed=1) | Logistic(), "RBFSampler"),
    (feature_selection.PoissonInclusion(0.1, seed=1) | Logistic(), "PoissonInclusion"),
    (preprocessing.FeatureHasher(8, seed=1) | Logistic(), "FeatureHasher"),
    (preprocessing.LDA(2, seed=1) | Logistic(), "LDA"),
    (Standard(window_size=5) | Logistic(), "StandardScaler .* window_size=5"),
    (preprocessing.MinMaxScaler(window_size=5) | Logistic(), "MinMaxScaler .* window_size=5"),
    (preprocessing.MaxAbsScaler(window_size=5) | Logistic(), "MaxAbsScaler .* window_size=5"),
    (preprocessing.Normalizer(order=3) | Logistic(), "Normalizer .* order=3"),
    (preprocessing.Binarizer(dtype=str) | Logistic(), "Binarizer .* dtype=str"),
    (OneHot(drop_zeros=True) | Logistic(), "OneHotEncoder .* drop_zeros=True"),
    (OneHot(drop_first=True) | Logistic(), "OneHotEncoder .* drop_first=True"),
    (OneHot(CATEGORIES, True, True) | Logistic(), "OneHotEncoder .* drop_first=True"),
    (OneHot({"a": {"x", "y"}}) | Logistic(), "OneHotEncoder .* categories of a"),
    (preprocessing.OrdinalEncoder({"a": {"x": 1}}) | Logistic(), "OrdinalEncoder .* of a"),
    (preprocessing.OrdinalEncoder(TEXTS) | Logistic(), "OrdinalEncoder .* code"),
    (preprocessing.StatImputer(("a", "none")) | Logistic(), "StatImputer .* 'none'"),
    (
        preprocessing.StatImputer(("a", utils.TimeRolling(stats.Mean, datetime.timedelta(days=1))))
        | Logistic(),
        "StatImputer",
    ),
    # What stands where it cannot.
    (Standard() | (Standard() + doubled) | Logistic(), "TransformerUnion .* FuncTransformer"),
    (Standard() + compose.Renamer({"a": "c"}) | Logistic(), "TransformerUnion .* Renamer"),
    (compose.TransformerUnion() | Logistic(), "TransformerUnion .* empty"),
    (compose.Pipeline(Standard() | Standard(), Logistic()), "Pipeline .* write out"),
    (compose.Pipeline(Logistic(), Logistic()), "LogisticRegression .* before the end"),
    (Standard() | preprocessing.MinMaxScaler(), "MinMaxScaler .* at the end"),
    (compose.Pipeline(), "empty"),
    (None, "NoneType"),
    # Behind an encoder of categories.
    (OneHot() | preprocessing.MinMaxScaler() | Logistic(), "MinMaxScaler .* behind"),
    (OneHot() | OneHot() | Logistic(), "OneHotEncoder .* behind"),
    (OneHot(CATEGORIES, drop_zeros=True) | facto.FMClassifier(), "FMClassifier .* behind"),
    (OneHot() | facto.FMClassifier(), "FMClassifier .* behind"),
    (OneHot(SIGNED) | facto.FMRegressor(), "FMRegressor .* behind"),
    ((Standard() + OneHot()) | facto.HOFMClassifier(), "HOFMClassifier .* behind"),
    ((Standard() * OneHot()) | facto.FFMClassifier(), "FFMClassifier .* behind"),
    (OneHot() | multiclass.OneVsRestClassifier(facto.FMClassifier()), "FMClassifier .* behind"),
    (OneHot() | preprocessing.TargetMinMaxScaler(facto.FMRegressor()), "FMRegressor .* behind"),
    (OneHot() | ensemble.BaggingClassifier(facto.FMClassifier()), "FMClassifier .* behind"),
    # Models.
    (neighbors.KNNClassifier(), "KNNClassifier"),
    (linear_model.AdPredictor(), "AdPredictor"),
    (Logistic(loss=optim.losses.Squared()), "LogisticRegression .* loss=Squared"),
    (Linear(loss=optim.losses.Hinge()), "LinearRegression .* loss=Hinge"),
    (
        linear_model.SoftmaxRegression(loss=LOG),
        "SoftmaxRegression .* loss=Log",
    ),
    (anomaly.GaussianScorer(), "GaussianScorer"),
    (anomaly.LODA(), "LODA"),
    (multiclass.OneVsOneClassifier(Logistic()), "OneVsOneClassifier .* no probabilities"),
    (multiclass.OutputCodeClassifier(Logistic(), 3), "OutputCodeClassifier .* no probabilities"),
    (
        compose.TargetTransformRegressor(Linear(), identity, identity),
        "TargetTransformRegressor .* func",
    ),
    # Models inside others.
    (multiclass.OneVsRestClassifier(neighbors.KNNClassifier()), "OneVsRest.* KNNClassifier"),
    (preprocessing.TargetStandardScaler(neighbors.KNNRegressor()), "TargetSt.* KNNRegressor"),
    (preprocessing.TargetMinMaxScaler(neighbors.KNNRegressor()), "TargetMin.* KNNRegressor"),
    (preprocessing.PredClipper(neighbors.KNNRegressor(), 0, 1), "PredClipper .* KNNRegressor"),
    (anomaly.ThresholdFilter(anomaly.GaussianScorer(), 0.9), "ThresholdFilter .* GaussianScorer"),
    (anomaly.QuantileFilter(anomaly.LODA(), 0.9), "QuantileFilter .* LODA"),
    (
        imblearn.RandomUnderSampler(neighbors.KNNClassifier(), {True: 0.5, False: 0.5}),
        "RandomUnderSampler .* KNNClassifier",
    ),
    (dummy.StatisticRegressor(commonest("x")), "StatisticRegressor .* 'x'"),
]


@pytest.mark.parametrize(("estimator", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_refused_by_name(estimator: Any, named: str) -> None:
    """The message names the class, and the parameter if that is why; it is one line."""
    with pytest.raises(UnsupportedEstimatorError, match=named) as caught:
        check_exportable(estimator)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedEstimatorError, match=named):
        to_onnx(estimator, NAMES)


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (compose.Select("a", "zip") | Logistic(), "Select .* zip"),
        (preprocessing.StatImputer(("zip", stats.Mean())) | Logistic(), "StatImputer .* zip"),
        (OneHot({"a": {1.0}}) | Logistic(), "OneHotEncoder .* b"),
        (preprocessing.OrdinalEncoder({"a": {1.0: 1}}) | Logistic(), "OrdinalEncoder .* b"),
    ],
)
def test_refused_for_its_features(estimator: Any, named: str) -> None:
    """What needs other features than there are is refused as soon as these are known."""
    check_exportable(estimator)
    with pytest.raises(UnsupportedEstimatorError, match=named):
        to_onnx(estimator, NAMES)


def test_a_binary_classifier_has_no_other_classes() -> None:
    """Asking a classifier of True and False for texts is refused, and says what to do."""
    with pytest.raises(UnsupportedEstimatorError, match="OneVsRestClassifier"):
        to_onnx(Standard() | Logistic(), NAMES, ("x", "y"))
    to_onnx(Standard() | Logistic(), NAMES, (True, False))
    to_onnx(naive_bayes.GaussianNB(), NAMES, ("x", "y"))


def test_names_that_cannot_be() -> None:
    """Two columns of one name cannot both be River's feature; NUL marks names of our own."""
    with pytest.raises(ValueError, match="NUL"):
        to_onnx(Logistic(), ("a", "b\0"))
    with pytest.raises(ValueError, match="twice"):
        to_onnx(Logistic(), ("a", "a"))


@pytest.mark.parametrize(
    ("estimator", "role"),
    [
        (Standard() | Logistic(), "classifier"),
        (Standard() | Linear(), "regressor"),
        (anomaly.QuantileFilter(Standard() | anomaly.OneClassSVM(), 0.9), "anomaly"),
        (OneHot(CATEGORIES) | facto.FMClassifier(), "classifier"),
    ],
)
def test_says_what_it_is(estimator: Any, role: str) -> None:
    """Not refused, the estimator's role is given."""
    assert check_exportable(estimator) == role
