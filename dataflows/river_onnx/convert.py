"""A River estimator, as it is at this moment, as an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from river import base, compose

from .graph import Graph
from .registry import (
    ByClass,
    Columns,
    Converter,
    Role,
    Rows,
    UnsupportedEstimatorError,
    Wanted,
    converter_of,
    is_unseen,
    refused,
    supported,
)

INPUT = "features"
SCORE = "score"
PROBABILITIES = "probabilities"
_FINAL: tuple[Role, ...] = ("classifier", "regressor", "anomaly")
_ANY: tuple[Role, ...] = ("transformer", *_FINAL)


def check_exportable(estimator: Any) -> Role:
    """What the estimator is, if ``to_onnx`` can export it.

    Raises:
        UnsupportedEstimatorError: naming the class, or the parameter that could not be kept.
    """
    return checked(estimator, _FINAL, "at the end").role


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
        feature_names: of the columns, each once.
        classes: labels of a classifier with many classes, all that it has learned and maybe more;
            None for one that tells True from False.

    Raises:
        UnsupportedEstimatorError: see ``check_exportable``; also if the estimator needs a feature
            that is not among the names, or has not these classes.
        ValueError: a name is there twice, or has a NUL character.
    """
    role = check_exportable(estimator)
    names = tuple(feature_names)
    if len(set(names)) < len(names):
        raise ValueError("feature_names has a name twice; give each column its own")
    if any(map(is_unseen, names)):
        raise ValueError("feature_names has a name with a NUL character; leave it out")
    graph = Graph()
    columns = Columns(INPUT, names)
    outputs: dict[str, Sequence[int | str]] = {SCORE: ["N"]}
    facts: dict[str, str] = {"role": role}
    if role != "classifier":
        graph.name(cast(str, append(estimator, graph, columns)), SCORE)
    elif classes is None:
        graph.name(of_true(estimator, graph, columns), SCORE)
    else:
        _check_classes(estimator, classes)
        stacked = probabilities(estimator, graph, columns, tuple(classes))
        axes = graph.constant([1], np.int64)
        graph.name(stacked, PROBABILITIES)
        graph.name(graph.node("ReduceMax", [stacked, axes], keepdims=0), SCORE)
        outputs[PROBABILITIES] = ["N", len(classes)]
        facts["classes"] = json.dumps([str(label) for label in classes])
    return graph.model({INPUT: ["N", len(names)]}, outputs, facts)


def append(
    estimator: Any, graph: Graph, columns: Columns, wanted: Wanted | None = None
) -> Columns | ByClass | Any:
    """Add one estimator's nodes, as its converter does; also for estimators inside others.

    A pipeline is its steps one after the other, without those that only filter what is learned.
    """
    wanted = wanted or Wanted()
    if type(estimator) is compose.Pipeline:
        *steps, last = steps_of(estimator)
        for place, step in enumerate(steps):
            if not isinstance(step, base.AnomalyFilter):
                minded = wanted.unseen or any(map(_minds_unseen, (*steps[place + 1 :], last)))
                columns = cast(Columns, append(step, graph, columns, Wanted(unseen=minded)))
        return append(last, graph, columns, wanted)
    converter = converter_of(estimator)
    if converter is None:
        raise UnsupportedEstimatorError(f"{type(estimator).__name__} cannot be exported to ONNX")
    if columns.present is not None and converter.unseen in ("ignored", "refused"):
        columns = _known(converter, graph, columns)
    return converter.append(estimator, graph, columns, wanted)


def _minds_unseen(step: Any) -> bool:
    """Whether a step, or one inside it, minds the columns of categories never seen."""
    if type(step) is compose.Pipeline:
        return any(map(_minds_unseen, steps_of(step)))
    converter = converter_of(step)
    if converter is None:
        return False
    return converter.unseen == "minded" or any(map(_minds_unseen, converter.inside(step)))


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


def of_true(classifier: Any, graph: Graph, columns: Columns) -> str:
    """A tensor ``[N]``: what a classifier says of True, 0 if nothing."""
    found = append(classifier, graph, columns, Wanted((True,)))
    if isinstance(found, ByClass):
        return found.values.get(True) or zeros(graph, columns)
    return graph.node("Gather", [found.value, graph.constant(0, np.int64)], axis=1)


def zeros(graph: Graph, columns: Columns) -> str:
    """A tensor ``[N]`` of zeros."""
    return filled(graph, columns, 0.0)


def filled(graph: Graph, columns: Columns, value: float) -> str:
    """A tensor ``[N]`` of one number."""
    length = graph.node("Shape", [columns.value], start=0, end=1)
    return graph.node("Expand", [graph.constant(value), length])


def steps_of(estimator: Any) -> list[Any]:
    """The steps of a pipeline, or the estimator alone."""
    return list(estimator.steps.values()) if type(estimator) is compose.Pipeline else [estimator]


def checked(step: Any, roles: Sequence[Role], place: str) -> Converter:
    """The converter of a step; of a pipeline, that of its last step.

    Raises:
        UnsupportedEstimatorError: it has none, another role, or a parameter that cannot be kept.
    """
    return walk(step, roles, place, Rows())[0]


def walk(step: Any, roles: Sequence[Role], place: str, rows: Rows) -> tuple[Converter, Rows]:
    """Like ``checked``, with what the rows in front of the step and behind it may have."""
    if type(step) is compose.Pipeline:
        if not step.steps:
            raise UnsupportedEstimatorError("Pipeline is empty; end it with a model")
        *before, last = steps_of(step)
        for one in before:
            if type(one) is compose.Pipeline:
                raise UnsupportedEstimatorError(
                    "Pipeline cannot be exported before the end of a pipeline: River transforms "
                    "nothing there while it learns; write out its steps"
                )
            if not isinstance(one, base.AnomalyFilter):
                rows = walk(one, ("transformer",), "before the end of a pipeline", rows)[1]
        return walk(last, roles, place, rows)
    name = type(step).__name__
    converter, why = converter_of(step), refused(step)
    if why is not None:
        raise UnsupportedEstimatorError(f"{name} cannot be exported to ONNX: {why}")
    if converter is None or converter.role not in roles:
        known = ", ".join(name for role in roles for name in supported(role))
        raise UnsupportedEstimatorError(
            f"{name} cannot be exported to ONNX {place}; supported there: {known}"
        )
    refusal = converter.refusal(step)
    if refusal is not None:
        raise UnsupportedEstimatorError(f"{name} cannot be exported to ONNX: {refusal}")
    if (rows.unseen and converter.unseen == "refused") or (rows.gaps and not converter.takes_gaps):
        raise UnsupportedEstimatorError(
            f"{name} cannot be exported to ONNX behind an encoder that leaves out or adds "
            "features; give OneHotEncoder its categories, without drop_zeros"
        )
    for one in converter.inside(step):
        walk(one, _ANY, place, rows)
    return converter, converter.leaves(step, rows)


def _known(converter: Converter, graph: Graph, columns: Columns) -> Columns:
    """The columns without those of categories never seen."""
    places = [place for place, name in enumerate(columns.names) if not is_unseen(name)]
    known = columns.take(graph, places, [columns.names[place] for place in places])
    return known if converter.takes_gaps else Columns(known.value, known.names)


def _check_classes(classifier: Any, classes: Sequence[Any]) -> None:
    last = steps_of(classifier)[-1]
    if not getattr(last, "_multiclass", True) and not {True, False}.issuperset(classes):
        raise UnsupportedEstimatorError(
            f"{type(last).__name__} only tells True from False; "
            "wrap it in multiclass.OneVsRestClassifier"
        )
