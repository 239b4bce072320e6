"""Linear models."""

from __future__ import annotations

from typing import Any

import numpy as np
from river import anomaly, linear_model, optim

from .arithmetic import class_sums, sigmoid, softmax, true_and_false, weighted
from .graph import Graph
from .registry import ByClass, Columns, Converter, Stacked, Wanted, never, register

# Of these River takes the logistic function, of those nothing, of Poisson the exponential.
_LOGISTIC = (optim.losses.Log, optim.losses.Hinge, optim.losses.BinaryFocalLoss)
_AS_IT_IS = (
    optim.losses.Squared,
    optim.losses.Absolute,
    optim.losses.Cauchy,
    optim.losses.EpsilonInsensitiveHinge,
    optim.losses.Huber,
    optim.losses.Quantile,
)


def teach() -> None:
    """Register what is in this module."""
    taught: list[tuple[type, Converter]] = [
        (
            linear_model.LogisticRegression,
            Converter("classifier", _refuse_logistic_loss, _append_logistic, takes_gaps=True),
        ),
        (
            linear_model.Perceptron,
            Converter("classifier", _refuse_logistic_loss, _append_logistic, takes_gaps=True),
        ),
        (
            linear_model.LinearRegression,
            Converter("regressor", _refuse_loss, _append_linear, takes_gaps=True),
        ),
        (
            linear_model.SoftmaxRegression,
            Converter("classifier", _refuse_class_loss, _append_softmax, takes_gaps=True),
        ),
        (
            linear_model.PAClassifier,
            Converter("classifier", never, _append_passive_classifier, takes_gaps=True),
        ),
        (
            linear_model.PARegressor,
            Converter("regressor", never, _append_passive_regressor, takes_gaps=True),
        ),
        (
            linear_model.ALMAClassifier,
            Converter("classifier", never, _append_alma, takes_gaps=True),
        ),
        (
            linear_model.BayesianLinearRegression,
            Converter("regressor", never, _append_bayesian, takes_gaps=True),
        ),
        (
            anomaly.OneClassSVM,
            Converter("anomaly", never, _append_one_class, takes_gaps=True),
        ),
    ]
    for estimator_class, converter in taught:
        register(estimator_class, converter)


def _refuse_logistic_loss(regression: Any) -> str | None:
    if type(regression.loss) in _LOGISTIC:
        return None
    return f"loss={type(regression.loss).__name__} is not supported; use optim.losses.Log"


def _refuse_loss(regression: linear_model.LinearRegression) -> str | None:
    if type(regression.loss) in (*_AS_IT_IS, optim.losses.Poisson):
        return None
    return f"loss={type(regression.loss).__name__} is not supported; use optim.losses.Squared"


def _refuse_class_loss(regression: linear_model.SoftmaxRegression) -> str | None:
    if type(regression.loss) is optim.losses.CrossEntropy:
        return None
    return f"loss={type(regression.loss).__name__} is not supported; use optim.losses.CrossEntropy"


def _raw(regression: Any, graph: Graph, columns: Columns) -> str:
    learned = regression.weights
    # River's own vectors multiply by 0 what has no weight: a NaN there is a NaN in the sum.
    weights = {name: learned.get(name, 0.0) for name in columns.names}
    return weighted(graph, columns, weights, float(regression.intercept))


def _passive(model: Any, graph: Graph, columns: Columns) -> str:
    return weighted(graph, columns, model.weights, float(model.intercept))


def _append_logistic(regression: Any, graph: Graph, columns: Columns, wanted: Wanted) -> ByClass:
    return true_and_false(graph, sigmoid(graph, _raw(regression, graph, columns)), wanted)


def _append_linear(
    regression: linear_model.LinearRegression, graph: Graph, columns: Columns, _: Wanted
) -> str:
    raw = _raw(regression, graph, columns)
    return graph.node("Exp", [raw]) if type(regression.loss) is optim.losses.Poisson else raw


def _append_softmax(
    regression: linear_model.SoftmaxRegression, graph: Graph, columns: Columns, wanted: Wanted
) -> Stacked | ByClass:
    labels = list(regression.weights)
    if not labels:
        return ByClass({})
    weights = [
        [[float(learned.get(name, 0.0)) for name in columns.names]]
        for learned in regression.weights.values()
    ]
    logits = class_sums(
        graph,
        columns,
        lambda features: graph.node("Mul", [features, graph.constant(np.swapaxes(weights, 0, 1))]),
        [0.0] * len(labels),
    )
    return softmax(graph, columns, logits, labels, wanted)


def _append_passive_classifier(
    classifier: linear_model.PAClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass:
    return true_and_false(graph, sigmoid(graph, _passive(classifier, graph, columns)), wanted)


def _append_passive_regressor(
    regressor: linear_model.PARegressor, graph: Graph, columns: Columns, _: Wanted
) -> str:
    return _passive(regressor, graph, columns)


def _append_alma(
    classifier: linear_model.ALMAClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass:
    return true_and_false(
        graph, sigmoid(graph, weighted(graph, columns, classifier.w, 0.0)), wanted
    )


def _append_bayesian(
    regression: linear_model.BayesianLinearRegression, graph: Graph, columns: Columns, _: Wanted
) -> str:
    means = regression._m_arr
    if regression._m_dirty and regression._idx:
        # What River does before it predicts, without keeping the result in the estimator.
        means = regression._ss_inv_arr @ regression._eta_arr
    weights = {str(name): float(means[place]) for name, place in regression._idx.items()}
    return weighted(graph, columns, weights, 0.0)


def _append_one_class(
    detector: anomaly.OneClassSVM, graph: Graph, columns: Columns, _: Wanted
) -> str:
    # River adds the intercept and takes it off again: so here, for the last bit.
    raw = _raw(detector, graph, columns)
    return graph.node("Sub", [raw, graph.constant(float(detector.intercept))])
