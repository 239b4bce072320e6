"""Models around models, and those that do not look at the row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from river import anomaly, dummy, imblearn, multiclass, preprocessing

from .arithmetic import by_constants, chosen
from .convert import append, checked, filled, of_true
from .graph import Graph
from .registry import (
    ByClass,
    Columns,
    Converter,
    Role,
    Stacked,
    UnsupportedEstimatorError,
    Wanted,
    never,
    register,
)

Refusal = Callable[[Any], str | None]
Append = Callable[[Any, Graph, Columns, Wanted], Any]


def teach() -> None:
    """Register what is in this module."""
    wrapping: list[tuple[type, str, Role, Append]] = [
        (preprocessing.TargetStandardScaler, "regressor", "regressor", _append_standard_target),
        (preprocessing.TargetMinMaxScaler, "regressor", "regressor", _append_min_max_target),
        (preprocessing.PredClipper, "regressor", "regressor", _append_clipper),
        (multiclass.OneVsRestClassifier, "classifier", "classifier", _append_one_vs_rest),
    ]
    passing: list[tuple[type, str, Role]] = [
        (anomaly.ThresholdFilter, "anomaly_detector", "anomaly"),
        (anomaly.QuantileFilter, "anomaly_detector", "anomaly"),
        (imblearn.RandomUnderSampler, "classifier", "classifier"),
        (imblearn.RandomOverSampler, "classifier", "classifier"),
        (imblearn.RandomSampler, "classifier", "classifier"),
        (imblearn.HardSamplingClassifier, "classifier", "classifier"),
        (imblearn.HardSamplingRegressor, "regressor", "regressor"),
        (imblearn.ChebyshevUnderSampler, "regressor", "regressor"),
        (imblearn.ChebyshevOverSampler, "regressor", "regressor"),
    ]
    wrapping += [(one, name, role, _append_inside(name)) for one, name, role in passing]
    for wrapper, name, role, append_it in wrapping:
        _register_wrapper(wrapper, name, role, append_it)
    register(dummy.PriorClassifier, Converter("classifier", never, _append_prior, takes_gaps=True))
    register(
        dummy.NoChangeClassifier, Converter("classifier", never, _append_last, takes_gaps=True)
    )
    register(
        dummy.StatisticRegressor,
        Converter("regressor", _refuse_statistic, _append_statistic, takes_gaps=True),
    )


def _register_wrapper(wrapper: type, attribute: str, role: Role, append_it: Append) -> None:
    """Register a model around the one in an attribute."""
    register(
        wrapper,
        Converter(
            role,
            _refuse_inside(attribute, role),
            append_it,
            unseen="passed",
            takes_gaps=True,
            inside=lambda model: [getattr(model, attribute)],
        ),
    )


def _refuse_inside(attribute: str, role: Role) -> Refusal:
    """A refusal if the model that stands in an attribute cannot be exported in that role."""

    def refusal(wrapper: Any) -> str | None:
        try:
            checked(getattr(wrapper, attribute), (role,), f"inside {type(wrapper).__name__}")
        except UnsupportedEstimatorError as error:
            return str(error)
        return None

    return refusal


def _append_inside(attribute: str) -> Append:
    """A converter of a wrapper that predicts as the model in an attribute does."""

    def append_it(wrapper: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Any:
        return append(getattr(wrapper, attribute), graph, columns, wanted)

    return append_it


def _append_standard_target(
    scaler: preprocessing.TargetStandardScaler, graph: Graph, columns: Columns, wanted: Wanted
) -> str:
    found = cast(str, append(scaler.regressor, graph, columns, wanted))
    found = graph.node("Mul", [found, graph.constant(float(scaler.var.get()) ** 0.5)])
    return graph.node("Add", [found, graph.constant(float(scaler.var.mean.get()))])


def _append_min_max_target(
    scaler: preprocessing.TargetMinMaxScaler, graph: Graph, columns: Columns, wanted: Wanted
) -> str:
    found = cast(str, append(scaler.regressor, graph, columns, wanted))
    low, high = float(scaler.min.get()), float(scaler.max.get())
    if low == math.inf:
        return found
    found = graph.node("Mul", [found, graph.constant(high - low)])
    return graph.node("Add", [found, graph.constant(low)])


def _append_clipper(
    clipper: preprocessing.PredClipper, graph: Graph, columns: Columns, wanted: Wanted
) -> str:
    found = cast(str, append(clipper.regressor, graph, columns, wanted))
    found = graph.node("Min", [found, graph.constant(float(clipper.y_max))])
    return graph.node("Max", [found, graph.constant(float(clipper.y_min))])


def _append_one_vs_rest(
    model: multiclass.OneVsRestClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass | Stacked:
    labels = list(model.classifiers)
    if not labels:
        return ByClass({})
    axis = graph.constant([1], np.int64)
    votes = [of_true(one, graph, columns) for one in model.classifiers.values()]
    sums = votes[0]
    for vote in votes[1:]:
        sums = graph.node("Add", [sums, vote])
    stacked = graph.node(
        "Concat", [graph.node("Unsqueeze", [vote, axis]) for vote in votes], axis=1
    )
    sums = graph.node("Unsqueeze", [sums, axis])
    nothing = graph.node("Equal", [sums, graph.constant(0.0)])
    equal = graph.constant(1 / len(labels))
    shares = graph.node("Where", [nothing, equal, graph.node("Div", [stacked, sums])])
    return chosen(graph, columns, shares, labels, wanted)


def _append_prior(
    model: dummy.PriorClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass:
    shares = {label: count / model.n for label, count in model.counts.items()}
    return by_constants(graph, columns, shares, wanted)


def _append_last(
    model: dummy.NoChangeClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> ByClass:
    return by_constants(graph, columns, {model.last_class: 1.0}, wanted)


def _refuse_statistic(model: dummy.StatisticRegressor) -> str | None:
    value = model.statistic.get()
    if value is None or isinstance(value, bool | int | float):
        return None
    return f"its statistic is {value!r}, which is not a number; use a statistic of numbers"


def _append_statistic(
    model: dummy.StatisticRegressor, graph: Graph, columns: Columns, _: Wanted
) -> str:
    value = model.statistic.get()
    return filled(graph, columns, math.nan if value is None else float(value))
