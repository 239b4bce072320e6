"""A River estimator, as it is at this moment, as an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from river import compose

from .graph import Graph
from .registry import (
    ByClass,
    Columns,
    Converter,
    Role,
    UnsupportedEstimatorError,
    Wanted,
    converter_of,
    supported,
)

INPUT = "features"
SCORE = "score"
PROBABILITIES = "probabilities"
_FINAL: tuple[Role, ...] = ("classifier", "regressor", "anomaly")


def check_exportable(estimator: Any) -> Role:
    """What the estimator is, if ``to_onnx`` can export it.

    Raises:
        UnsupportedEstimatorError: naming the class, or the parameter that could not be kept.
    """
    steps = steps_of(estimator)
    if not steps:
        raise UnsupportedEstimatorError("Pipeline is empty; end it with a model")
    *transformers, last = steps
    for step in transformers:
        checked(step, ("transformer",), "before the end of a pipeline")
    return checked(last, _FINAL, "at the end").role


def to_onnx(
    estimator: Any, feature_names: Sequence[str], classes: Sequence[Any] | None = None
) -> bytes:
    """Export the estimator as it is now.

    The model has one input ``features``, float64 ``[N, d]``, column i of which is
    ``feature_names[i]``, and an output ``score``, float64 ``[N]``: for a classifier P(True), for a
    regressor the prediction, for an anomaly detector the score. With ``classes`` a classifier has
    many of them: ``probabilities``, float64 ``[N, len(classes)]``, has theirs in that order, and
    ``score`` is the largest of them. The same state and names always give the same bytes.

    Args:
        estimator: River's; it is not changed.
        feature_names: of the columns.
        classes: labels of a classifier with many classes; None for one that tells True from False.

    Raises:
        UnsupportedEstimatorError: see ``check_exportable``.
    """
    role = check_exportable(estimator)
    graph = Graph()
    columns = Columns(INPUT, tuple(feature_names))
    *transformers, last = steps_of(estimator)
    for step in transformers:
        columns = cast(Columns, append(step, graph, columns))
    outputs: dict[str, Sequence[int | str]] = {SCORE: ["N"]}
    facts: dict[str, str] = {"role": role}
    if role != "classifier":
        graph.name(cast(str, append(last, graph, columns)), SCORE)
    elif classes is None:
        graph.name(_of_true(last, graph, columns), SCORE)
    else:
        stacked = probabilities(last, graph, columns, tuple(classes))
        axes = graph.constant([1], np.int64)
        graph.name(stacked, PROBABILITIES)
        graph.name(graph.node("ReduceMax", [stacked, axes], keepdims=0), SCORE)
        outputs[PROBABILITIES] = ["N", len(classes)]
        facts["classes"] = json.dumps([str(label) for label in classes])
    return graph.model({INPUT: ["N", len(feature_names)]}, outputs, facts)


def append(
    estimator: Any, graph: Graph, columns: Columns, wanted: Wanted | None = None
) -> Columns | ByClass | Any:
    """Add one estimator's nodes, as its converter does; also for estimators inside others."""
    converter = converter_of(estimator)
    if converter is None:
        raise UnsupportedEstimatorError(f"{type(estimator).__name__} cannot be exported to ONNX")
    return converter.append(estimator, graph, columns, wanted or Wanted())


def probabilities(classifier: Any, graph: Graph, columns: Columns, classes: tuple[Any, ...]) -> str:
    """A tensor ``[N, len(classes)]``: what a classifier says of these classes, 0 if nothing."""
    found = append(classifier, graph, columns, Wanted(classes))
    if not isinstance(found, ByClass):
        return cast(str, found.value)
    ones = graph.constant([1], np.int64)
    parts = [
        graph.node("Unsqueeze", [found.values.get(label) or zeros(graph, columns), ones])
        for label in classes
    ]
    return graph.node("Concat", parts, axis=1)


def zeros(graph: Graph, columns: Columns) -> str:
    """A tensor ``[N]`` of zeros."""
    length = graph.node("Shape", [columns.value], start=0, end=1)
    return graph.node("Expand", [graph.constant(0.0), length])


def steps_of(estimator: Any) -> list[Any]:
    """The steps of a pipeline, or the estimator alone."""
    return list(estimator.steps.values()) if type(estimator) is compose.Pipeline else [estimator]


def checked(step: Any, roles: Sequence[Role], place: str) -> Converter:
    """The converter of a step.

    Raises:
        UnsupportedEstimatorError: it has none, another role, or a parameter that cannot be kept.
    """
    name = type(step).__name__
    converter = converter_of(step)
    if converter is None or converter.role not in roles:
        known = ", ".join(name for role in roles for name in supported(role))
        raise UnsupportedEstimatorError(
            f"{name} cannot be exported to ONNX {place}; supported there: {known}"
        )
    refusal = converter.refusal(step)
    if refusal is not None:
        raise UnsupportedEstimatorError(f"{name} cannot be exported to ONNX: {refusal}")
    return converter


def _of_true(classifier: Any, graph: Graph, columns: Columns) -> str:
    """A tensor ``[N]``: P(True)."""
    found = append(classifier, graph, columns, Wanted((True,)))
    if isinstance(found, ByClass):
        return found.values.get(True) or zeros(graph, columns)
    return graph.node("Gather", [found.value, graph.constant(0, np.int64)], axis=1)
