"""Why some classes have no converter, and what to use in their place."""

from __future__ import annotations

from river import (
    anomaly,
    compose,
    feature_extraction,
    feature_selection,
    linear_model,
    multiclass,
    neighbors,
)

from .registry import refuse

_NO_PROBABILITIES = "it gives no probabilities; use multiclass.OneVsRestClassifier"
_NEEDS_LABEL = "it scores the label, which nobody knows yet; use anomaly.HalfSpaceTrees"
_GROUPS = "it keeps a value for each group; make a feature of it"
_NEIGHBORS = "it compares with rows that it keeps; use a tree or a forest"


def teach() -> None:
    """Say it of each."""
    for estimator_class, why in (
        (compose.FuncTransformer, "its function may be anything; make a feature of it"),
        (compose.SelectType, "all features are doubles; use compose.Discard with their names"),
        (compose.Grouper, _GROUPS),
        (feature_extraction.Agg, _GROUPS),
        (feature_extraction.TargetAgg, _GROUPS),
        (feature_selection.PoissonInclusion, "it draws at random when it is asked; leave it out"),
        (linear_model.AdPredictor, "ONNX Runtime has no erf of doubles; use LogisticRegression"),
        (multiclass.OneVsOneClassifier, _NO_PROBABILITIES),
        (multiclass.OutputCodeClassifier, _NO_PROBABILITIES),
        (
            compose.TargetTransformRegressor,
            "func may be anything; use preprocessing.TargetStandardScaler or TargetMinMaxScaler",
        ),
        (anomaly.GaussianScorer, _NEEDS_LABEL),
        (anomaly.StandardAbsoluteDeviation, _NEEDS_LABEL),
        (anomaly.PredictiveAnomalyDetection, _NEEDS_LABEL),
        (anomaly.LocalOutlierFactor, _NEIGHBORS),
        (neighbors.KNNClassifier, _NEIGHBORS),
        (neighbors.KNNRegressor, _NEIGHBORS),
    ):
        refuse(estimator_class, why)
