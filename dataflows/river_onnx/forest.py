"""Adaptive random forests and extra trees: all trees in one node."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper
from river import forest

from .convert import zeros
from .graph import Graph
from .registry import ByClass, Columns, Converter, Probabilities, Stacked, Wanted, register
from .tree_classifiers import (
    append_distributions,
    first_classes,
    labels_of,
    normalized,
    refuse_tree,
)
from .tree_regressors import append_predictions, refuse_regression_tree


def teach() -> None:
    """Register what is in this module."""
    register(
        forest.ARFClassifier,
        Converter("classifier", refuse_tree, _append_random_classifier, takes_gaps=True),
    )
    for regressor, append in (
        (forest.ARFRegressor, _append_random_regressor),
        (forest.OXTRegressor, _append_extra_trees),
    ):
        register(regressor, Converter("regressor", refuse_regression_tree, append, takes_gaps=True))


def _append_random_classifier(
    model: forest.ARFClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> Probabilities:
    weights = [1.0] * len(model)
    if not model.disable_weighted_vote:
        weights = [weight_of(metric) for metric in model._metrics[: len(model)]]
    return append_votes(list(model), weights, graph, columns, wanted)


def append_votes(
    trees: Sequence[Any], weights: Sequence[float], graph: Graph, columns: Columns, wanted: Wanted
) -> Probabilities:
    """Add the nodes in which trees that are not adaptive vote, and the votes are shared out."""
    # A tree without a root says nothing, and takes nothing from the others.
    grown = [place for place, tree in enumerate(trees) if tree._root is not None]
    if not grown:
        return ByClass({})
    classes = wanted.classes
    for place in grown:
        classes = labels_of(trees[place], classes)
    said, _ = append_distributions([trees[place] for place in grown], graph, columns, classes)
    factors = np.array([[weights[place]] for place in grown])
    if (factors != 1.0).any():
        said = graph.node("Mul", [said, graph.constant(factors)])
    total = graph.node("ReduceSum", [said, graph.constant([1], np.int64)], keepdims=0)
    stacked = normalized(total, graph)
    return Stacked(first_classes(stacked, graph, len(wanted.classes), len(classes)))


def reading(metric: Any) -> float:
    """What a metric says; of a copy, as some metrics change when they are asked."""
    return float(copy.deepcopy(metric).get())


def weight_of(metric: Any) -> float:
    """A voter's weight in River's random forests and patches."""
    found = reading(metric)
    return found if found > 0.0 else 1.0


def _append_predictions_of_all(trees: Sequence[Any], graph: Graph, columns: Columns) -> str:
    """What each tree predicts ``[N, T]``; one without a root predicts 0."""
    grown = [place for place, tree in enumerate(trees) if tree._root is not None]
    if not grown:
        axes = graph.constant([1], np.int64)
        single = graph.node("Unsqueeze", [zeros(graph, columns), axes])
        return graph.node("Mul", [single, graph.constant(np.ones((1, len(trees))))])
    predicted, _ = append_predictions([trees[place] for place in grown], graph, columns)
    if len(grown) == len(trees):
        return predicted
    spread = np.zeros((len(grown), len(trees)))
    spread[range(len(grown)), grown] = 1.0
    return graph.node("MatMul", [predicted, graph.constant(spread)])


def median(values: str, graph: Graph, count: int) -> str:
    """The median ``[N]`` of a tensor ``[N, count]``."""
    # The larger half of them ends with the middle, or with the two that are the middle.
    half = count // 2 + 1
    name = f"v{len(graph.nodes)}"
    inputs = [values, graph.constant([half], np.int64)]
    graph.nodes.append(helper.make_node("TopK", inputs, [name, f"{name}_places"], name=name))
    middle = [half - 1] if count % 2 else [half - 1, half - 2]
    chosen = graph.node("Gather", [name, graph.constant(middle, np.int64)], axis=1)
    return graph.node("ReduceMean", [chosen, graph.constant([1], np.int64)], keepdims=0)


def _append_random_regressor(
    model: forest.ARFRegressor, graph: Graph, columns: Columns, _: Wanted
) -> str:
    if len(model) == 0:
        return zeros(graph, columns)
    predicted = _append_predictions_of_all(list(model), graph, columns)
    if model.aggregation_method == "median":
        return median(predicted, graph, len(model))
    if not model.disable_weighted_vote:
        metrics = np.array([reading(metric) for metric in model._metrics], dtype=np.float64)
        if metrics.sum() != 0:
            weights = metrics.sum() - metrics
            weights /= weights.sum()
            predicted = graph.node("Mul", [predicted, graph.constant(weights)])
    return graph.node("ReduceMean", [predicted, graph.constant([1], np.int64)], keepdims=0)


def _append_extra_trees(
    model: forest.OXTRegressor, graph: Graph, columns: Columns, _: Wanted
) -> str:
    if not model.models:
        return zeros(graph, columns)
    predicted = _append_predictions_of_all(model.models, graph, columns)
    axes = graph.constant([1], np.int64)
    metrics = [reading(metric) for metric in model._perfs]
    if model.disable_weighted_vote or sum(metrics) == 0:
        return graph.node("ReduceMean", [predicted, axes], keepdims=0)
    if not model.track_metric.bigger_is_better:
        metrics = [(1 + 1e-8) / (metric + 1e-8) for metric in metrics]
    weights = np.array([metric / sum(metrics) for metric in metrics])
    weighted = graph.node("Mul", [predicted, graph.constant(weights)])
    return graph.node("ReduceSum", [weighted, axes], keepdims=0)
