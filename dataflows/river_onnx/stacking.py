"""Stacking: a model that learns from what others say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from river import ensemble, linear_model, tree

from .convert import append, probabilities, steps_of
from .ensembles import all_classes, refuse_members
from .graph import Graph
from .registry import Columns, Converter, Wanted, register

_TREES = (
    tree.HoeffdingTreeClassifier,
    tree.HoeffdingAdaptiveTreeClassifier,
    tree.ExtremelyFastDecisionTreeClassifier,
    tree.LASTClassifier,
)
_TWO_CLASSES = (linear_model.LogisticRegression, tree.SGTClassifier)


def teach() -> None:
    """Register what is in this module."""
    register(
        ensemble.StackingClassifier,
        Converter("classifier", _refuse, _append_stacking, unseen="refused"),
    )


def _refuse(model: ensemble.StackingClassifier) -> str | None:
    for member in model:
        last = steps_of(member)[-1]
        if type(last) not in (*_TREES, *_TWO_CLASSES):
            known = ", ".join(kind.__name__ for kind in (*_TREES, *_TWO_CLASSES))
            return f"{type(last).__name__} is not supported below it; use one of {known}"
    return refuse_members([*model.models, model.meta_classifier], "classifier")


def _append_stacking(
    model: ensemble.StackingClassifier, graph: Graph, columns: Columns, wanted: Wanted
) -> Any:
    classes = all_classes(wanted)
    names: list[str] = []
    parts: list[str] = []
    for number, member in enumerate(model):
        # Only of these does River tell the model above.
        answered = _answered(steps_of(member)[-1], classes)
        if answered:
            kept = [classes[place] for place in answered]
            names.extend(f"oof_{number}_{label}" for label in kept)
            said = probabilities(member, graph, columns, classes)
            places = graph.constant(answered, np.int64)
            parts.append(graph.node("Gather", [said, places], axis=1))
    if model.include_features:
        names.extend(columns.names)
        parts.append(columns.value)
    if not parts:
        parts.append(graph.node("Slice", [columns.value, *_nothing(graph)]))
    value = graph.node("Concat", parts, axis=1)
    return append(model.meta_classifier, graph, Columns(value, tuple(names)), wanted)


def _answered(member: Any, classes: Sequence[Any]) -> list[int]:
    """Places of the classes that a member says something of."""
    if type(member) in _TWO_CLASSES:
        return [place for place, label in enumerate(classes) if label in (True, False)]
    return [place for place, label in enumerate(classes) if label in member.classes]


def _nothing(graph: Graph) -> list[str]:
    """Inputs of a ``Slice`` that leaves no column."""
    return [graph.constant([value], np.int64) for value in (0, 0, 1)]
