"""The estimators whose export is measured: a table to which each converter adds its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from river import (
    anomaly,
    compose,
    ensemble,
    facto,
    feature_extraction,
    forest,
    linear_model,
    metrics,
    model_selection,
    multiclass,
    naive_bayes,
    preprocessing,
    tree,
)

Kind = Literal["binary", "multiclass", "regression", "anomaly"]

NUMBERS = tuple(f"n{place}" for place in range(18))
CATEGORIES = ("shop", "country")
FEATURES = (*NUMBERS, *CATEGORIES)
CLASSES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Exported:
    """An estimator to measure.

    Attributes:
        kind: of its labels.
        make: a new one.
        rows: that it learns from; fewer where River is slow.
    """

    kind: Kind
    make: Callable[[], Any]
    rows: int = 5_000


def _scaled() -> Any:
    return preprocessing.StandardScaler()


def _unit() -> Any:
    return preprocessing.MinMaxScaler()


def _tree(leaf_prediction: str = "nba") -> Any:
    return tree.HoeffdingTreeClassifier(
        50, delta=0.01, leaf_prediction=leaf_prediction, nominal_attributes=list(CATEGORIES)
    )


def _mixed() -> Any:
    """Numbers scaled, categories one-hot: 20 features become some 220."""
    numbers = compose.Discard(*CATEGORIES) | preprocessing.StandardScaler()
    return numbers + (compose.Discard(*NUMBERS) | preprocessing.OneHotEncoder())


EXPORTED: dict[str, Exported] = {
    "scaler | logistic": Exported("binary", lambda: _scaled() | linear_model.LogisticRegression()),
    "scaler + one-hot | logistic": Exported(
        "binary", lambda: _mixed() | linear_model.LogisticRegression()
    ),
    "scaler | passive-aggressive": Exported(
        "binary", lambda: _scaled() | linear_model.PAClassifier()
    ),
    "scaler | polynomial | logistic": Exported(
        "binary",
        lambda: (
            _scaled() | feature_extraction.PolynomialExtender() | linear_model.LogisticRegression()
        ),
    ),
    "scaler | linear": Exported("regression", lambda: _scaled() | linear_model.LinearRegression()),
    "scaler | Bayesian linear": Exported(
        "regression", lambda: _scaled() | linear_model.BayesianLinearRegression()
    ),
    "target scaler (linear)": Exported(
        "regression",
        lambda: _scaled() | preprocessing.TargetStandardScaler(linear_model.LinearRegression()),
    ),
    "scaler | softmax": Exported(
        "multiclass", lambda: _scaled() | linear_model.SoftmaxRegression()
    ),
    "scaler + one-hot | softmax": Exported(
        "multiclass", lambda: _mixed() | linear_model.SoftmaxRegression()
    ),
    "one-vs-rest (logistic)": Exported(
        "multiclass",
        lambda: _scaled() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    ),
    "Gaussian naive Bayes": Exported("multiclass", naive_bayes.GaussianNB),
    "one-hot | multinomial naive Bayes": Exported(
        "multiclass",
        lambda: (
            compose.Discard(*NUMBERS) | preprocessing.OneHotEncoder() | naive_bayes.MultinomialNB()
        ),
    ),
    "scaler | factorization machine": Exported(
        "binary", lambda: _scaled() | facto.FMClassifier(n_factors=5, seed=1), rows=500
    ),
    "scaler | one-class SVM": Exported("anomaly", lambda: _scaled() | anomaly.OneClassSVM()),
    "Hoeffding tree mc": Exported("binary", lambda: _tree("mc")),
    "Hoeffding tree nba": Exported("binary", _tree),
    "Hoeffding tree nba, many classes": Exported("multiclass", _tree),
    "Hoeffding adaptive tree": Exported(
        "binary", lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=1)
    ),
    "extremely fast tree": Exported("binary", tree.ExtremelyFastDecisionTreeClassifier, rows=2_000),
    "stochastic gradient tree": Exported("binary", lambda: _unit() | tree.SGTClassifier()),
    "Hoeffding tree regressor": Exported(
        "regression", lambda: _scaled() | tree.HoeffdingTreeRegressor()
    ),
    "bagging (10 Hoeffding trees)": Exported(
        "binary", lambda: ensemble.BaggingClassifier(_tree(), 10, seed=1), rows=2_000
    ),
    "bagging (10 scaler | logistic)": Exported(
        "binary",
        lambda: ensemble.BaggingClassifier(
            _scaled() | linear_model.LogisticRegression(), 10, seed=1
        ),
    ),
    "ADWIN boosting (10 Hoeffding trees)": Exported(
        "binary", lambda: ensemble.ADWINBoostingClassifier(_tree(), 10, seed=1), rows=2_000
    ),
    "random patches (10 Hoeffding trees)": Exported(
        "binary", lambda: ensemble.SRPClassifier(n_models=10, seed=1), rows=1_000
    ),
    "adaptive random forest (10)": Exported(
        "binary", lambda: forest.ARFClassifier(10, seed=1), rows=2_000
    ),
    "adaptive random forest regressor (10)": Exported(
        "regression", lambda: _scaled() | forest.ARFRegressor(10, seed=1), rows=1_000
    ),
    "extra trees (10)": Exported(
        "regression", lambda: _scaled() | forest.OXTRegressor(10, seed=1), rows=1_000
    ),
    "aggregated Mondrian forest (10)": Exported(
        "binary",
        lambda: _unit() | forest.AMFClassifier(10, max_nodes=1_000, seed=1),
        rows=2_000,
    ),
    "half-space trees (10)": Exported(
        "anomaly", lambda: _unit() | anomaly.HalfSpaceTrees(10, 8, 250, seed=1)
    ),
    "successive halving (4 models)": Exported(
        "binary",
        lambda: model_selection.SuccessiveHalvingClassifier(
            [_tree("mc"), _tree("nb"), _tree(), tree.HoeffdingTreeClassifier(max_depth=1)],
            metrics.Accuracy(),
            budget=2_000,
        ),
        rows=2_000,
    ),
}
