"""Factorization machines, of numeric features."""

from __future__ import annotations

import copy
from typing import Any

from river import facto

from .arithmetic import sigmoid, total, true_and_false, weighted
from .graph import Graph
from .registry import ByClass, Columns, Converter, Wanted, never, register


def teach() -> None:
    """Register what is in this module."""
    for classifier in (
        facto.FMClassifier,
        facto.FwFMClassifier,
        facto.FFMClassifier,
        facto.HOFMClassifier,
    ):
        # River draws factors at random, when it is asked, for a feature that it has not seen.
        register(classifier, Converter("classifier", never, _append_classifier, "refused"))
    for regressor in (
        facto.FMRegressor,
        facto.FwFMRegressor,
        facto.FFMRegressor,
        facto.HOFMRegressor,
    ):
        register(regressor, Converter("regressor", never, _append_raw, "refused"))


def _append_classifier(model: Any, graph: Graph, columns: Columns, wanted: Wanted) -> ByClass:
    raw = _append_raw(model, graph, columns, wanted)
    return true_and_false(graph, sigmoid(graph, raw), wanted)


def _append_raw(model: Any, graph: Graph, columns: Columns, _: Wanted) -> str:
    linear = weighted(graph, columns, model.weights, 0.0)
    raw = graph.node("Add", [graph.constant(float(model.intercept)), linear])
    # A copy: it draws the factors of features never seen as the model would, and keeps them.
    twin = copy.deepcopy(model)
    combinations = list(twin._interaction_combination_keys(dict.fromkeys(columns.names)))
    if not combinations:
        return raw
    factors = [float(twin._interaction_coefficient(one)) for one in combinations]
    places = {name: place for place, name in enumerate(columns.names)}
    parts = []
    for degree in sorted({len(one) for one in combinations}):
        group = [one for one in combinations if len(one) == degree]
        product = columns.value
        for factor in range(degree):
            names = [one[factor] for one in group]
            value = columns.take(graph, [places[name] for name in names], names).value
            product = value if factor == 0 else graph.node("Mul", [product, value])
        parts.append(product)
    joined = parts[0] if len(parts) == 1 else graph.node("Concat", parts, axis=1)
    terms = graph.node("Mul", [graph.constant(factors), joined])
    return graph.node("Add", [raw, total(graph, terms, len(combinations))])
