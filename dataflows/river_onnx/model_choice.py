"""Models that choose among others, or start another one anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from river import drift, model_selection

from .convert import append
from .ensembles import refuse_members
from .graph import Graph
from .registry import Columns, Converter, Role, Wanted, register


def teach() -> None:
    """Register what is in this module."""
    for role, estimator_classes in _CHOOSING.items():
        for estimator_class in estimator_classes:
            _teach(estimator_class, role, _candidates, _best)
    _teach(drift.DriftRetrainingClassifier, "classifier", lambda model: [model.model], _inside)


_CHOOSING: dict[Role, tuple[type, ...]] = {
    "classifier": (
        model_selection.BanditClassifier,
        model_selection.SuccessiveHalvingClassifier,
    ),
    "regressor": (
        model_selection.BanditRegressor,
        model_selection.GreedyRegressor,
        model_selection.SuccessiveHalvingRegressor,
    ),
}


def _candidates(model: Any) -> list[Any]:
    return list(model.models)


def _best(model: Any) -> Any:
    best = model.best_model
    return model.models[0] if best is None else best


def _inside(model: Any) -> Any:
    return model.model


def _teach(
    estimator_class: type,
    role: Role,
    candidates: Callable[[Any], list[Any]],
    current: Callable[[Any], Any],
) -> None:
    """Export the current one; refuse as soon as there is one that could not be exported."""

    def refuse(model: Any) -> str | None:
        return refuse_members(candidates(model), role)

    def append_current(model: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Any:
        return append(current(model), graph, columns, wanted)

    register(
        estimator_class, Converter(role, refuse, append_current, unseen="passed", inside=candidates)
    )
