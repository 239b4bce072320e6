"""The estimators whose export is measured: a table to which each converter adds its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from river import (
    anomaly,
    compose,
    facto,
    feature_extraction,
    linear_model,
    multiclass,
    naive_bayes,
    preprocessing,
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
}
