"""Ensembles of any models: bagging, boosting, random patches, exponentially weighted averages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from river import ensemble
from river.ensemble.streaming_random_patches import BaseSRPEstimator

from .convert import append, check_exportable, probabilities, zeros
from .forest import append_votes, median, reading, weight_of
from .graph import Graph
from .registry import (
    ByClass,
    Columns,
    Converter,
    Probabilities,
    Role,
    Stacked,
    UnsupportedEstimatorError,
    Wanted,
    register,
)
from .tree_classifiers import PLAIN_TREES, first_classes, normalized

_ALMOST_NOTHING = 1e-16  # River's, against a division by 0


def teach() -> None:
    """Register what is in this module."""
    for bagging in (
        ensemble.BaggingClassifier,
        ensemble.ADWINBaggingClassifier,
        ensemble.LeveragingBaggingClassifier,
    ):
        _teach(bagging, "classifier", _append_bagging)
    for boosting in (ensemble.AdaBoostClassifier, ensemble.ADWINBoostingClassifier):
        _teach(boosting, "classifier", _append_boosting)
    _teach(ensemble.BOLEClassifier, "classifier", _append_bole)
    _teach(ensemble.SRPClassifier, "classifier", _append_patches_classifier)
    _teach(ensemble.BaggingRegressor, "regressor", _append_bagging_regressor)
    _teach(ensemble.SRPRegressor, "regressor", _append_patches_regressor)
    _teach(ensemble.EWARegressor, "regressor", _append_average)


def _teach(estimator_class: type, role: Role, appends: Any) -> None:
    def inside(model: Any) -> list[Any]:
        members = [member.model if _is_patch(member) else member for member in model]
        # Those of tomorrow are made from it.
        template = [model.model] if hasattr(model, "model") else []
        return [*template, *members]

    def refuse(model: Any) -> str | None:
        return refuse_members(inside(model), role)

    register(estimator_class, Converter(role, refuse, appends, unseen="passed", inside=inside))


def _is_patch(member: Any) -> bool:
    return isinstance(member, BaseSRPEstimator)


def refuse_members(members: Sequence[Any], role: Role) -> str | None:
    """Why one of the models inside cannot be kept, None if all can."""
    for member in members:
        try:
            found = check_exportable(member)
        except UnsupportedEstimatorError as error:
            return str(error)
        if found != role:
            return f"{type(member).__name__} is no {role}"
    return None


def all_classes(wanted: Wanted) -> tuple[Any, ...]:
    """The classes that votes are shared out among: not just True if it is True or False."""
    return (True, False) if wanted.classes == (True,) else wanted.classes


def _append_votes(
    members: Sequence[Any],
    weights: Sequence[float],
    graph: Graph,
    inputs: Sequence[Columns],
    wanted: Wanted,
) -> Probabilities:
    """What classifiers say, each multiplied by its weight, added up and shared out."""
    if all(type(member) in PLAIN_TREES for member in members) and len(set(inputs)) == 1:
        return append_votes(members, weights, graph, inputs[0], wanted)
    classes = all_classes(wanted)
    votes = []
    for member, weight, columns in zip(members, weights, inputs, strict=True):
        said = probabilities(member, graph, columns, classes)
        votes.append(said if weight == 1.0 else graph.node("Mul", [said, graph.constant(weight)]))
    stacked = normalized(graph.node("Sum", votes), graph)
    return Stacked(first_classes(stacked, graph, len(wanted.classes), len(classes)))


def _append_bagging(model: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Probabilities:
    return _append_votes(model.models, [1.0] * len(model), graph, [columns] * len(model), wanted)


def _append_boosting(model: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Probabilities:
    weights = []
    for place in range(len(model)):
        # Its dictionaries grow when they are read.
        wrong = model.wrong_weight.get(place, 0)
        error = wrong + _ALMOST_NOTHING
        error /= model.correct_weight.get(place, 0) + wrong + _ALMOST_NOTHING
        odds = (1 - error) / error
        usable = 0 < error <= 0.5
        weights.append((math.log(odds) if odds != 0 else 0.0) if usable else 1.0)
    return _append_votes(model.models, weights, graph, [columns] * len(model), wanted)


def _append_bole(
    model: ensemble.BOLEClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> Probabilities:
    weights = []
    for place in range(len(model)):
        correct = model.correct_weight.get(place, 0)
        wrong = model.wrong_weight.get(place, 0)
        weight = 0.0
        if correct > 0.0 and wrong > 0.0:
            error = wrong / (correct + wrong) + _ALMOST_NOTHING
            if error <= model.error_bound:
                weight = math.log((1 - error) / error)
        weights.append(weight)
    # Those without a weight only count if none has one.
    chosen = [place for place, weight in enumerate(weights) if weight] or range(len(model))
    members = [model[place] for place in chosen]
    kept = [weights[place] or 1.0 for place in chosen]
    return _append_votes(members, kept, graph, [columns] * len(members), wanted)


def _patch(member: Any, graph: Graph, columns: Columns) -> Columns:
    """The columns that a member of a random patches ensemble sees."""
    # A tree has only ever learned of these; then all can be run at once.
    if member.features is None or type(member.model) in PLAIN_TREES:
        return columns
    names = [name for name in member.features if name in columns.names]
    return columns.take(graph, [columns.names.index(name) for name in names], names)


def _append_patches_classifier(
    model: ensemble.SRPClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> Probabilities:
    if not len(model):
        return ByClass({})
    weights = [1.0 if model.disable_weighted_vote else weight_of(member.metric) for member in model]
    inputs = [_patch(member, graph, columns) for member in model]
    return _append_votes([member.model for member in model], weights, graph, inputs, wanted)


def _append_predictions(members: Sequence[Any], graph: Graph, inputs: Sequence[Columns]) -> str:
    """What regressors predict ``[N, T]``."""
    axes = graph.constant([1], np.int64)
    parts = [
        graph.node("Unsqueeze", [cast(str, append(member, graph, columns)), axes])
        for member, columns in zip(members, inputs, strict=True)
    ]
    return graph.node("Concat", parts, axis=1)


def _append_bagging_regressor(
    model: ensemble.BaggingRegressor, graph: Graph, columns: Columns, _: Wanted
) -> str:
    predicted = _append_predictions(model.models, graph, [columns] * len(model))
    return graph.node("ReduceMean", [predicted, graph.constant([1], np.int64)], keepdims=0)


def _weighted(predicted: str, weights: Sequence[float], graph: Graph) -> str:
    products = graph.node("Mul", [predicted, graph.constant(weights)])
    return graph.node("ReduceSum", [products, graph.constant([1], np.int64)], keepdims=0)


def _append_average(model: ensemble.EWARegressor, graph: Graph, columns: Columns, _: Wanted) -> str:
    predicted = _append_predictions(model.models, graph, [columns] * len(model))
    return _weighted(predicted, model.weights, graph)


def _append_patches_regressor(model: Any, graph: Graph, columns: Columns, _: Wanted) -> str:
    if not len(model):
        return zeros(graph, columns)
    inputs = [_patch(member, graph, columns) for member in model]
    predicted = _append_predictions([member.model for member in model], graph, inputs)
    if model.aggregation_method == "median":
        return median(predicted, graph, len(model))
    weights = np.ones(len(model))
    if not model.disable_weighted_vote:
        metrics = np.array([reading(member.metric) for member in model], dtype=np.float64)
        weights = np.where(metrics >= 0, metrics, 0.0)
        if not model.metric.bigger_is_better:
            weights = weights.max() - weights
        if weights.sum() == 0:
            return zeros(graph, columns)
    total = _weighted(predicted, weights.tolist(), graph)
    return graph.node("Div", [total, graph.constant(float(weights.sum()))])
