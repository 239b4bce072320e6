"""Naive Bayes in the leaves of a tree: River's very sums, in River's order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from river.tree.splitter import GaussianSplitter
from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif

from .graph import Graph
from .registry import Columns
from .tree_ensemble import append_trees
from .tree_layout import search_tree
from .tree_routes import number_of

_HALF_LOG_TAU = 0.5 * math.log(math.tau)
_NOTHING = np.nan  # of a term that does not count


def append_naive_bayes(
    leaves: Sequence[Any], places: str, graph: Graph, columns: Columns, classes: Sequence[Any]
) -> str:
    """Add the nodes that compute the probabilities that leaves give by naive Bayes.

    Args:
        leaves: River's, at least one.
        places: name of an int64 tensor ``[N, S]``: places in ``leaves``.
        graph: to which they are added.
        columns: the input.
        classes: all that a leaf has seen, at least.

    Returns:
        Name of a float64 tensor ``[N, S, len(classes)]``.
    """
    terms = _append_gaussians(leaves, places, graph, columns, classes)
    for column, name in enumerate(columns.names):
        if any(isinstance(leaf.splitters.get(name), NominalSplitterClassif) for leaf in leaves):
            frequencies = _append_frequencies(leaves, places, graph, columns, column, classes)
            here = np.zeros(len(columns.names))
            here[column] = 1.0
            spread = graph.node("Mul", [frequencies, graph.constant(here)])
            terms = graph.node("Add", [terms, spread])
    last = graph.constant([-1], np.int64)
    priors = graph.node("Gather", [graph.constant(_priors(leaves, classes)), places])
    terms = graph.node("Concat", [graph.node("Unsqueeze", [priors, last]), terms], axis=-1)
    # A running sum adds in River's order, whatever the number of rows.
    sums = graph.node("CumSum", [terms, graph.constant(-1, np.int64)])
    votes = graph.node("Gather", [sums, graph.constant(len(columns.names), np.int64)], axis=3)
    return _append_probabilities(votes, graph)


def _append_probabilities(votes: str, graph: Graph) -> str:
    """exp(vote - log sum exp(votes)), rounded where River rounds: votes may be huge."""
    last = graph.constant([-1], np.int64)
    largest = graph.node("ReduceMax", [votes, last])
    shares = graph.node("Exp", [graph.node("Sub", [votes, largest])])
    logarithm = graph.node("Log", [graph.node("ReduceSum", [shares, last])])
    total = graph.node("Add", [largest, logarithm])
    return graph.node("Exp", [graph.node("Sub", [votes, total])])


def _priors(leaves: Sequence[Any], classes: Sequence[Any]) -> list[list[float]]:
    """Logarithms of the classes' shares; River has 0 for one of weight 0."""
    rows = []
    for leaf in leaves:
        total = sum(leaf.stats.values())
        rows.append(
            [
                -math.inf
                if label not in leaf.stats
                else math.log(leaf.stats[label] / total)
                if leaf.stats[label] > 0
                else 0.0
                for label in classes
            ]
        )
    return rows


def _append_gaussians(
    leaves: Sequence[Any], places: str, graph: Graph, columns: Columns, classes: Sequence[Any]
) -> str:
    """Logarithms of densities ``[N, S, C, d]``; 0 for a feature that does not count."""
    shape = (len(leaves), len(classes), len(columns.names))
    means, divisors, halves = np.zeros(shape), np.ones(shape), np.full(shape, _NOTHING)
    positions = {name: column for column, name in enumerate(columns.names)}
    for place, leaf in enumerate(leaves):
        for name, splitter in leaf.splitters.items():
            column = positions.get(name)
            if column is None or type(splitter) is not GaussianSplitter:
                continue
            for number, label in enumerate(classes):
                gaussian = splitter._att_dist_per_class.get(label)
                if gaussian is None or not leaf.stats.get(label, 0) > 0:
                    continue
                variance = _variance(gaussian)
                if variance > 0.0:
                    means[place, number, column] = gaussian.mu
                    divisors[place, number, column] = -2.0 * variance
                    halves[place, number, column] = 0.5 * math.log(variance)
    axes = graph.constant([1, 2], np.int64)
    row = graph.node("Unsqueeze", [columns.value, axes])
    away = graph.node("Sub", [row, graph.node("Gather", [graph.constant(means), places])])
    square = graph.node("Mul", [away, away])
    term = graph.node("Div", [square, graph.node("Gather", [graph.constant(divisors), places])])
    term = graph.node("Sub", [term, graph.constant(_HALF_LOG_TAU)])
    term = graph.node("Sub", [term, graph.node("Gather", [graph.constant(halves), places])])
    # Neither a missing value nor a density of 0 counts.
    counts = graph.node("Less", [graph.node("Abs", [term]), graph.constant(math.inf)])
    return graph.node("Where", [counts, term, graph.constant(0.0)])


def _variance(gaussian: Any) -> float:
    """As ``Gaussian.log_pdf`` computes it; 0 if it has none yet."""
    var = gaussian._var
    count = var.mean.n
    return float(var._S / (count - var.ddof)) if count > var.ddof else 0.0


def _append_frequencies(
    leaves: Sequence[Any],
    places: str,
    graph: Graph,
    columns: Columns,
    column: int,
    classes: Sequence[Any],
) -> str:
    """Logarithms of how often a nominal value came ``[N, S, C, 1]``; 0 for one never seen."""
    name = columns.names[column]
    seen: dict[float, float] = {}
    keys: dict[tuple[int, float], list[float]] = {}
    for place, leaf in enumerate(leaves):
        splitter = leaf.splitters.get(name)
        if not isinstance(splitter, NominalSplitterClassif):
            continue
        for number, label in enumerate(classes):
            weights = splitter._att_dist_per_class.get(label, {})
            total = sum(weights.values())
            if not total > 0 or not leaf.stats.get(label, 0) > 0:
                continue
            for value, weight in weights.items():
                code = seen.setdefault(number_of(value), float(len(seen)))
                logarithms = keys.setdefault((place, code), [0.0] * len(classes))
                logarithms[number] = math.log(weight / total) if weight / total > 0 else 0.0
    value_count = len(seen) + 1
    value = append_trees(graph, columns.value, [search_tree(column, seen, float(len(seen)))])
    start = graph.node("Cast", [places], to=TensorProto.DOUBLE)
    start = graph.node("Mul", [start, graph.constant(float(value_count))])
    key = graph.node(
        "Reshape", [graph.node("Add", [start, value]), graph.constant([-1, 1], np.int64)]
    )
    found = {place * value_count + code: float(row) for row, (place, code) in enumerate(keys)}
    row = append_trees(graph, key, [search_tree(0, found, float(len(keys)))])
    shaped = graph.node(
        "Reshape", [graph.node("Cast", [row], to=TensorProto.INT64), graph.node("Shape", [places])]
    )
    table = np.array([*keys.values(), [0.0] * len(classes)])
    return graph.node("Gather", [graph.constant(table[:, :, None]), shaped])
