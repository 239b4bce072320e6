"""Imputers: what stands in for a missing value at the moment of the export."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from river import preprocessing

from .graph import Graph
from .registry import Columns, Converter, UnsupportedEstimatorError, Wanted, register


def teach() -> None:
    """Register what is in this module."""
    register(
        preprocessing.StatImputer,
        Converter("transformer", _refuse_statistic, _append_statistic, unseen="passed"),
    )
    register(
        preprocessing.PreviousImputer,
        Converter(
            "transformer", _refuse_previous, _append_previous, unseen="passed", takes_gaps=True
        ),
    )


def _refuse_values(values: Mapping[Any, Any]) -> str | None:
    for feature, value in values.items():
        if value is not None and not isinstance(value, bool | int | float):
            return f"it puts {value!r} for {feature}, which is not a number; give a number"
    return None


def _refuse_statistic(imputer: preprocessing.StatImputer) -> str | None:
    return _refuse_values({name: statistic.get() for name, statistic in imputer.stats.items()})


def _refuse_previous(imputer: preprocessing.PreviousImputer) -> str | None:
    return _refuse_values(imputer._latest)


def _append_statistic(
    imputer: preprocessing.StatImputer, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    missing = [name for name in imputer.stats if name not in columns.names]
    if missing:
        raise UnsupportedEstimatorError(
            f"StatImputer cannot be exported to ONNX: there is no feature {missing[0]}"
        )
    values = {name: statistic.get() for name, statistic in imputer.stats.items()}
    return _fill(graph, columns, values)


def _append_previous(
    imputer: preprocessing.PreviousImputer, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    return _fill(graph, columns, imputer._latest)


def _fill(graph: Graph, columns: Columns, values: Mapping[str, Any]) -> Columns:
    """The columns with these values for NaN; a value that is None leaves it."""
    known = {name: value for name, value in values.items() if value is not None}
    if known.keys().isdisjoint(columns.names):
        return columns
    fillings = graph.constant([float(known.get(name, math.nan)) for name in columns.names])
    missing = graph.node("IsNaN", [columns.value])
    filled = graph.node("Where", [missing, fillings, columns.value])
    return Columns(filled, columns.names, columns.present)
