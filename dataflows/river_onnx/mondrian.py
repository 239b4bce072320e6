"""Aggregated Mondrian forests: what a path says is a constant of its leaf."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from river import forest

from .convert import filled
from .graph import Graph
from .registry import ByClass, Columns, Converter, Probabilities, Stacked, Wanted, never, register
from .tree_ensemble import Tree, append_trees
from .tree_layout import Split, lay_out
from .tree_routes import with_gaps

_Values = NDArray[np.float64]
_Say = Callable[[Any], list[float]]


def teach() -> None:
    """Register what is in this module."""
    register(
        forest.AMFClassifier, Converter("classifier", never, _append_classifier, takes_gaps=True)
    )
    register(forest.AMFRegressor, Converter("regressor", never, _append_regressor, takes_gaps=True))


def _append_classifier(
    model: forest.AMFClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> Probabilities:
    if len(model) == 0:
        return ByClass({})
    # All trees have seen the same classes, in the same order.
    numbers = model[0]._class_to_idx

    def say(node: Any) -> list[float]:
        found: list[float] = node.predict(model.dirichlet, len(numbers))
        return found

    table, ids = _append_trees(list(model), say, graph, columns)
    rows = np.zeros((len(table), len(wanted.classes)))
    for place, label in enumerate(wanted.classes):
        if label in numbers:
            rows[:, place] = table[:, numbers[label]] / model.n_estimators
    said = graph.node("Gather", [graph.constant(rows), ids])
    return Stacked(graph.node("ReduceSum", [said, graph.constant([1], np.int64)], keepdims=0))


def _append_regressor(model: forest.AMFRegressor, graph: Graph, columns: Columns, _: Wanted) -> str:
    if len(model) == 0:
        return filled(graph, columns, math.nan)  # where River says None

    def say(node: Any) -> list[float]:
        return [node.predict()]

    table, ids = _append_trees(list(model), say, graph, columns)
    said = graph.node("Gather", [graph.constant(table[:, 0]), ids])
    total = graph.node("ReduceSum", [said, graph.constant([1], np.int64)], keepdims=0)
    return graph.node("Div", [total, graph.constant(float(model.n_estimators))])


def _append_trees(
    trees: Sequence[Any], say: _Say, graph: Graph, columns: Columns
) -> tuple[_Values, str]:
    """What the leaves of all trees say ``[L, k]``, and which a row reaches, int64 ``[N, T]``."""
    places = {name: place for place, name in enumerate(columns.names)}
    table: list[list[float]] = []
    laid_out = [_laid_out(tree, say, places, table) for tree in trees]
    value = with_gaps(graph, columns).value
    found = append_trees(graph, value, laid_out, range(len(trees)), len(trees))
    return np.array(table), graph.node("Cast", [found], to=TensorProto.INT64)


def _laid_out(tree: Any, say: _Say, places: Mapping[Any, int], table: list[list[float]]) -> Tree:
    """One tree, its leaves numbered on in ``table``, which gets what their paths say."""

    def expand(found: tuple[Any, float, list[float]]) -> Split | float:
        # River mixes from the leaf up. Down from the root the same sum needs no second visit.
        node, rest, gathered = found
        while not node.is_leaf:
            if tree.use_aggregation:
                share = 0.5 * math.exp(node.weight - node.log_weight_tree)
                part = rest * share
                gathered = [
                    one + part * more for one, more in zip(gathered, say(node), strict=True)
                ]
                rest *= 1.0 - share
            left, right = node.children
            missing_left = not left.weight < right.weight
            place = places.get(node.feature)
            if place is not None:
                ways = (left, rest, gathered), (right, rest, gathered)
                return Split(place, "<=", float(node.threshold), *ways, missing_left)
            node = left if missing_left else right
        table.append([one + rest * more for one, more in zip(gathered, say(node), strict=True)])
        return float(len(table) - 1)

    return lay_out((tree._root, 1.0, [0.0] * len(say(tree._root))), expand)
