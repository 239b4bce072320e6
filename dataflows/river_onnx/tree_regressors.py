"""Hoeffding trees that regress, and stochastic gradient trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from river import linear_model, optim, tree

from .convert import zeros
from .graph import Graph
from .registry import ByClass, Columns, Converter, Wanted, never, register
from .tree_classifiers import refuse_alternates
from .tree_routes import Routes, append_routes, with_gaps

_MEAN, _MODEL = "mean", "model"


def teach() -> None:
    """Register what is in this module."""
    for regressor in (tree.HoeffdingTreeRegressor, tree.HoeffdingAdaptiveTreeRegressor):
        register(
            regressor,
            Converter("regressor", refuse_regression_tree, _append_regressor, takes_gaps=True),
        )
    register(
        tree.SGTClassifier,
        Converter("classifier", never, _append_gradient_classifier, takes_gaps=True),
    )
    register(
        tree.SGTRegressor,
        Converter("regressor", never, _append_gradient, takes_gaps=True),
    )


def refuse_regression_tree(model: Any) -> str | None:
    """Why a tree's leaves cannot be kept, None if they can; also for a forest of such trees."""
    leaf_model = model.leaf_model
    if model.leaf_prediction != _MEAN and leaf_model is not None:
        name = type(leaf_model).__name__
        if type(leaf_model) is not linear_model.LinearRegression:
            return f"leaf_model={name} is not supported; use LinearRegression"
        if type(leaf_model.loss).mean_func is not optim.losses.RegressionLoss.mean_func:
            return f"leaf_model with loss={type(leaf_model.loss).__name__} is not supported"
    root = getattr(model, "_root", None)
    return None if root is None else refuse_alternates(root)


def append_predictions(trees: Sequence[Any], graph: Graph, columns: Columns) -> tuple[str, Routes]:
    """Add the nodes that compute what the leaves predict that a row reaches.

    Args:
        trees: all with a root.
        graph: to which they are added.
        columns: the input.

    Returns:
        Name of a float64 tensor ``[N, S]``, and what its S leaves are. No leaf predicts 0.
    """
    columns = with_gaps(graph, columns)
    routes = append_routes(trees, graph, columns)
    means = np.zeros(len(routes.leaves) + 1)
    places = np.zeros(len(routes.leaves) + 1, dtype=np.int64)
    models: list[Any] = []
    for number, (leaf, model) in enumerate(routes.leaves, start=1):
        if _by_mean(leaf, model):
            means[number] = leaf.stats.mean.get()
        else:
            models.append(leaf._leaf_model)
            places[number] = len(models)
    predicted = graph.node("Gather", [graph.constant(means), routes.ids])
    if models:
        found = graph.node("Gather", [graph.constant(places, np.int64), routes.ids])
        linear = _append_linear(models, found, graph, columns)
        is_mean = graph.node("Equal", [found, graph.constant(0, np.int64)])
        predicted = graph.node("Where", [is_mean, predicted, linear])
    return predicted, routes


def _by_mean(leaf: Any, model: Any) -> bool:
    if model.leaf_prediction == _MEAN:
        return True
    if model.leaf_prediction == _MODEL:
        return False
    return bool(leaf._fmse_mean < leaf._fmse_model)


def _append_linear(models: Sequence[Any], places: str, graph: Graph, columns: Columns) -> str:
    """Predictions ``[N, S]`` of linear models; place 0 is none of them and predicts 0."""
    weights = np.zeros((len(models) + 1, len(columns.names)))
    intercepts = np.zeros(len(models) + 1)
    for place, model in enumerate(models, start=1):
        learned = model.weights
        weights[place] = [float(learned.get(name, 0.0)) for name in columns.names]
        intercepts[place] = model.intercept
    row = graph.node("Unsqueeze", [columns.value, graph.constant([1], np.int64)])
    chosen = graph.node("Gather", [graph.constant(weights), places])
    terms = graph.node("Mul", [row, chosen])
    missing = graph.node("IsNaN", [row])
    terms = graph.node("Where", [missing, graph.constant(0.0), terms])
    # A running sum adds in River's order, whatever the number of rows.
    sums = graph.node("CumSum", [terms, graph.constant(-1, np.int64)])
    last = graph.constant(len(columns.names) - 1, np.int64)
    total = graph.node("Gather", [sums, last], axis=2)
    return graph.node("Add", [total, graph.node("Gather", [graph.constant(intercepts), places])])


def _append_regressor(model: Any, graph: Graph, columns: Columns, _: Wanted) -> str:
    if model._root is None:
        return zeros(graph, columns)
    predicted, routes = append_predictions([model], graph, columns)
    axes = graph.constant([1], np.int64)
    if routes.widths == [1]:
        return graph.node("Squeeze", [predicted, axes])
    # An adaptive tree takes the mean of all leaves that it reaches.
    total = graph.node("ReduceSum", [predicted, axes], keepdims=0)
    none = graph.node("Equal", [routes.ids, graph.constant(0, np.int64)])
    ones = graph.node("Where", [none, graph.constant(0.0), graph.constant(1.0)])
    return graph.node("Div", [total, graph.node("ReduceSum", [ones, axes], keepdims=0)])


def _append_gradient(model: Any, graph: Graph, columns: Columns, _: Wanted) -> str:
    routes = append_routes([model], graph, with_gaps(graph, columns))
    values = [0.0, *(float(leaf.prediction()) for leaf, _ in routes.leaves)]
    found = graph.node("Gather", [graph.constant(values), routes.ids])
    return graph.node("Squeeze", [found, graph.constant([1], np.int64)])


def _append_gradient_classifier(
    model: Any, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass:
    positive = graph.node("Sigmoid", [_append_gradient(model, graph, columns, wanted)])
    values = {True: positive}
    if False in wanted.classes:
        values[False] = graph.node("Sub", [graph.constant(1.0), positive])
    return ByClass(values)
