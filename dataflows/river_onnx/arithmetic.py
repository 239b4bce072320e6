"""Sums, links and choices that several models share, computed in River's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .convert import filled
from .graph import Graph
from .registry import ByClass, Columns, Stacked, Wanted


def total(graph: Graph, terms: str, count: int, axis: int = 1) -> str:
    """The sum of ``count`` > 0 terms along the last axis, which it removes.

    A running sum adds in River's order whatever the number of rows; MatMul and ReduceSum do not.
    """
    sums = graph.node("CumSum", [terms, graph.constant(axis, np.int64)])
    return graph.node("Gather", [sums, graph.constant(count - 1, np.int64)], axis=axis)


def weighted(graph: Graph, columns: Columns, weights: Mapping[str, Any], start: float) -> str:
    """A tensor ``[N]``: ``start`` plus the features that have a weight, times it."""
    places = [place for place, name in enumerate(columns.names) if name in weights]
    names = [columns.names[place] for place in places]
    if not names:
        return filled(graph, columns, start)
    columns = columns.take(graph, places, names)
    factors = graph.constant([float(weights[name]) for name in names])
    terms = where_present(graph, columns, graph.node("Mul", [columns.value, factors]))
    return graph.node("Add", [total(graph, terms, len(names)), graph.constant(start)])


def where_present(graph: Graph, columns: Columns, terms: str) -> str:
    """Terms ``[N, k]`` of the columns, 0 for those that a row lacks."""
    if columns.present is None:
        return terms
    return graph.node("Where", [columns.present, terms, graph.constant(0.0)])


def sigmoid(graph: Graph, logit: str) -> str:
    """River's logistic function: exactly 0 below -30 and exactly 1 above 30."""
    # Shrink is 0 in between and moves the rest so far out that Sigmoid saturates.
    push = graph.node("Shrink", [logit], lambd=30.0, bias=-1000.0)
    return graph.node("Sigmoid", [graph.node("Add", [logit, push])])


def true_and_false(graph: Graph, positive: str, wanted: Wanted) -> ByClass:
    """Probabilities of a classifier that tells True from False."""
    values = {True: positive}
    if False in wanted.classes:
        values[False] = graph.node("Sub", [graph.constant(1.0), positive])
    return ByClass(values)


def class_sums(
    graph: Graph,
    columns: Columns,
    terms: Callable[[str], str],
    starts: Sequence[float],
) -> str:
    """A tensor ``[N, C]``: for each class a number plus the sum of its terms, one of each column.

    Args:
        graph: to add to.
        columns: of the features.
        terms: gives the tensor ``[N, C, k]`` of terms from the features as ``[N, 1, k]``.
        starts: one number for each class.
    """
    beginning = graph.constant([list(starts)])
    if not columns.names:
        length = graph.node("Shape", [columns.value], start=0, end=1)
        shape = graph.node("Concat", [length, graph.constant([1], np.int64)], axis=0)
        return graph.node("Expand", [beginning, shape])
    axis = graph.constant([1], np.int64)
    found = terms(graph.node("Unsqueeze", [columns.value, axis]))
    if columns.present is not None:
        present = graph.node("Unsqueeze", [columns.present, axis])
        found = graph.node("Where", [present, found, graph.constant(0.0)])
    return graph.node("Add", [beginning, total(graph, found, len(columns.names), axis=2)])


def softmax(
    graph: Graph, columns: Columns, logits: str, labels: Sequence[Any], wanted: Wanted
) -> Stacked:
    """Probabilities of the classes asked for, from logits ``[N, len(labels)]``."""
    return chosen(graph, columns, graph.node("Softmax", [logits], axis=1), labels, wanted)


def chosen(
    graph: Graph, columns: Columns, stacked: str, labels: Iterable[Any], wanted: Wanted
) -> Stacked:
    """Of a tensor ``[N, len(labels)]`` the columns of the classes asked for, 0 for others."""
    places = {label: place for place, label in enumerate(labels)}
    if any(label not in places for label in wanted.classes):
        nothing = graph.node(
            "Unsqueeze", [filled(graph, columns, 0.0), graph.constant([1], np.int64)]
        )
        stacked = graph.node("Concat", [stacked, nothing], axis=1)
    order = [places.get(label, len(places)) for label in wanted.classes]
    if order == list(range(len(places))):
        return Stacked(stacked)
    return Stacked(graph.node("Gather", [stacked, graph.constant(order, np.int64)], axis=1))


def by_constants(
    graph: Graph, columns: Columns, shares: Mapping[Any, float], wanted: Wanted
) -> ByClass:
    """Probabilities that do not depend on the row."""
    return ByClass(
        {
            label: filled(graph, columns, float(shares[label]))
            for label in wanted.classes
            if label in shares
        }
    )
