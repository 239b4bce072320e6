"""Linear models."""

from __future__ import annotations

import numpy as np
from river import linear_model, optim

from .graph import Graph
from .registry import ByClass, Columns, Converter, Wanted, register


def teach() -> None:
    """Register what is in this module."""
    register(
        linear_model.LogisticRegression,
        Converter("classifier", _refuse_loss, _append_logistic_regression),
    )


def _refuse_loss(regression: linear_model.LogisticRegression) -> str | None:
    if type(regression.loss) is optim.losses.Log:
        return None
    return f"loss={type(regression.loss).__name__} is not supported; use optim.losses.Log"


def _append_logistic_regression(
    regression: linear_model.LogisticRegression, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass:
    learned = regression.weights
    weights = [float(learned.get(name, 0.0)) for name in columns.names]
    # A running sum adds in River's order whatever the number of rows; MatMul does not.
    terms = graph.node("Mul", [columns.value, graph.constant(weights)])
    sums = graph.node("CumSum", [terms, graph.constant(1, np.int64)])
    total = graph.node("Gather", [sums, graph.constant(len(weights) - 1, np.int64)], axis=1)
    logit = graph.node("Add", [total, graph.constant(float(regression.intercept))])
    # River's sigmoid is exactly 0 below -30 and exactly 1 above 30. Shrink is 0 in between and
    # moves the rest so far out that Sigmoid saturates.
    push = graph.node("Shrink", [logit], lambd=30.0, bias=-1000.0)
    positive = graph.node("Sigmoid", [graph.node("Add", [logit, push])])
    values = {True: positive}
    if False in wanted.classes:
        values[False] = graph.node("Sub", [graph.constant(1.0), positive])
    return ByClass(values)
