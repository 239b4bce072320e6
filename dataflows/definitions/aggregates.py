"""The features of a stream feature view: which function of which column, over which window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from feast import Field, StreamFeatureView
from feast.aggregation import Aggregation
from feast.types import Bool, Float32, Float64, Int32, Int64, String

from contracts.feature_schema import ValueType
from contracts.plan import Aggregate, AggregateFunction, ColumnType
from dataflows.definitions import tags
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.topics import LONGEST

Windows = Literal["hopping", "exact"]
Columns = Mapping[str, ColumnType]

TILES_MAX: Final = 2_000
FUNCTIONS: Final[Mapping[str, AggregateFunction]] = {
    "count": "count",
    "sum": "sum",
    "mean": "mean",
    "avg": "mean",
    "min": "min",
    "max": "max",
    "var": "var",
    "variance": "var",
    "std": "std",
    "stddev": "std",
    "first": "first",
    "last": "last",
    "count_distinct": "count_distinct",
    "nunique": "count_distinct",
}
_DTYPES: Final[Mapping[Any, ValueType]] = {
    Float64: "float64",
    Int64: "int64",
    Bool: "bool",
    String: "string",
}
_NAMES: Final[Mapping[str, str]] = {kind: str(dtype) for dtype, kind in _DTYPES.items()}
_COUNTS: Final = ("count", "count_distinct")
_MICROSECOND = timedelta(microseconds=1)


def compile_aggregates(
    view: StreamFeatureView, columns: Columns, windows: Windows, where: str
) -> tuple[Aggregate, ...]:
    """The features in the order of the definition; raise DefinitionError.

    Args:
        view: whose features these are.
        columns: the topic's, by the names that views have for them. A view with a transformation
            may use others too; what those hold follows from the features made of them.
        windows: whether windows move by their hop or by the microsecond.
        where: the view, for messages.
    """
    fields = {field.name: field for field in view.features}
    for field in view.features:
        _check_field(field, where)
    if view.aggregations:
        wanted = [_aggregate(one, fields, windows, where) for one in view.aggregations]
    else:
        wanted = [
            Aggregate(field.name, _dtype(field, where), field.name, "latest", 0, 0)
            for field in view.features
        ]
    known: dict[str, ColumnType] = {}
    for one in wanted:
        if one.column in columns:
            known[one.column] = columns[one.column]
        elif view.feature_transformation is None:
            raise DefinitionError(
                f"{_place(one, where)}: its topic has no column {one.column!r}; it has "
                f"{', '.join(columns)}"
            )
        else:
            known[one.column] = _derived_type(one.column, wanted, fields, where)
    for one in wanted:
        _check_types(one, known[one.column], where)
        _check_declared(one, fields[one.feature], known[one.column], where)
    return tuple(replace(one, column_type=known[one.column]) for one in wanted)


def _place(aggregate: Aggregate, where: str) -> str:
    what = "feature" if aggregate.function == "latest" else "aggregation"
    return f"{where}, {what} {aggregate.feature!r}"


def _check_field(field: Field, where: str) -> None:
    here = f"{where}, field {field.name!r}"
    tags.check_tags(field.tags, tags.OF_FIELDS, here)
    if field.vector_index or field.vector_length or field.vector_search_metric:
        raise DefinitionError(f"{here}: vectors cannot be executed; leave vector_... out")


def _aggregate(
    aggregation: Aggregation, fields: Mapping[str, Field], windows: Windows, where: str
) -> Aggregate:
    name = aggregation.resolved_name(aggregation.time_window)
    here = f"{where}, aggregation {name!r}"
    if aggregation.function not in FUNCTIONS:
        raise DefinitionError(
            f"{here}: function {aggregation.function!r} cannot be executed; known are "
            f"{', '.join(FUNCTIONS)}"
        )
    if not aggregation.column:
        raise DefinitionError(f"{here} names no column; add column=...")
    if name not in fields:
        named = "" if aggregation.name else ", or give the Aggregation the name of its Field"
        raise DefinitionError(
            f"{here} is not in the schema; add Field(name={name!r}, ...) to it{named}"
        )
    window_us, hop_us = _window(aggregation, windows, here)
    return Aggregate(
        name,
        _dtype(fields[name], here),
        aggregation.column,
        FUNCTIONS[aggregation.function],
        window_us,
        hop_us,
    )


def _window(aggregation: Aggregation, windows: Windows, where: str) -> tuple[int, int]:
    """(window, hop) in microseconds; Feast makes a hop that is left out as long as the window."""
    window, hop = aggregation.time_window, aggregation.slide_interval
    if window is None:
        if hop is not None:
            raise DefinitionError(f"{where}: a slide_interval needs a time_window")
        return 0, 0
    hop = window if hop is None else hop
    if window <= timedelta(0) or hop <= timedelta(0):
        raise DefinitionError(f"{where}: time_window and slide_interval must be positive")
    if window > LONGEST:
        raise DefinitionError(
            f"{where}: time_window {window} is longer than all of time; leave it out for the "
            "whole history"
        )
    if windows == "exact":
        if hop != window:
            raise DefinitionError(
                f"{where}: exact windows move with each event; leave slide_interval out, or the "
                f"tag {tags.WINDOWS}"
            )
        return window // _MICROSECOND, 1
    if window % hop:
        raise DefinitionError(
            f"{where}: time_window {window} is not a multiple of slide_interval {hop}; take one "
            f"that divides it, or the tag {tags.WINDOWS}: exact and no slide_interval"
        )
    if window // hop > TILES_MAX:
        raise DefinitionError(
            f"{where}: {window // hop} tiles; at most {TILES_MAX}, take a longer slide_interval "
            f"or the tag {tags.WINDOWS}: exact"
        )
    return window // _MICROSECOND, hop // _MICROSECOND


def _dtype(field: Field, where: str) -> ValueType:
    if field.dtype not in _DTYPES:
        hint = "Int64 or Float64" if field.dtype in (Int32, Float32) else ", ".join(_NAMES.values())
        raise DefinitionError(f"{where}: feature {field.name!r} has type {field.dtype}; use {hint}")
    return _DTYPES[field.dtype]


def _derived_type(
    column: str, aggregates: list[Aggregate], fields: Mapping[str, Field], where: str
) -> ColumnType:
    """What a column of a transformation holds, by what is made of it.

    Strings, booleans and whole numbers show in the features that keep them as they are. Counts tell
    nothing, so that where there are only counts, a tag must.
    """
    using = [one for one in aggregates if one.column == column]
    declared = {fields[one.feature].tags.get(tags.COLUMN_TYPE) for one in using} - {None}
    for kind in get_args(ColumnType):
        if declared == {kind}:
            found: ColumnType = kind
            return found
    if declared:
        raise DefinitionError(
            f"{where}: tag {tags.COLUMN_TYPE} of {column!r} is "
            f"{' and '.join(sorted(repr(one) for one in declared))}; use one of "
            f"{', '.join(get_args(ColumnType))}"
        )
    kept = {one.dtype for one in using if one.function not in _COUNTS}
    if not kept:
        raise DefinitionError(
            f"{where}: nothing says what column {column!r} of the transformation holds; add "
            f'tags={{"{tags.COLUMN_TYPE}": "string"}} (or {", ".join(get_args(ColumnType)[1:])}) '
            f"to Field {using[0].feature!r}"
        )
    if kept >= {"string"} and len(kept) > 1:
        raise DefinitionError(
            f"{where}: features of column {column!r} are String and numbers; declare them alike"
        )
    order: tuple[ColumnType, ...] = ("string", "bool", "int64", "float64")
    return next(kind for kind in order if kind in kept)


def _check_types(aggregate: Aggregate, kind: ColumnType, where: str) -> None:
    """Raise DefinitionError if the function does not take such a column, or gives another type."""
    here = _place(aggregate, where)
    function = aggregate.function
    possible = _results(function, kind)
    if not possible and function == "latest":
        raise DefinitionError(
            f"{here}: no feature holds a {kind}; leave it out of the schema, the store has the "
            "event time of each row"
        )
    if not possible:
        raise DefinitionError(
            f"{here}: {function} of column {aggregate.column!r}, which is a {kind}; of those there "
            f"are {', '.join((*_COUNTS, *(('first', 'last') if kind == 'string' else ())))}"
        )
    if aggregate.dtype not in possible:
        what = "" if function == "latest" else f"{function} of "
        raise DefinitionError(
            f"{here}: {what}column {aggregate.column!r} ({kind}) is declared as "
            f"{_NAMES[aggregate.dtype]}; use {' or '.join(_NAMES[one] for one in possible)}"
        )


def _results(function: AggregateFunction, kind: ColumnType) -> tuple[ValueType, ...]:
    """What a feature may be declared as, nothing if there is no such feature.

    Whole numbers are so by their nature: nothing is ever rounded to one.
    """
    if function in _COUNTS:
        return "int64", "float64"
    if kind == "string":
        return ("string",) if function in ("first", "last", "latest") else ()
    if kind == "timestamp":
        return ()
    if function in ("mean", "var", "std") or kind == "float64":
        return ("float64",)
    if kind == "bool" and function != "sum":
        return "bool", "int64", "float64"
    return "int64", "float64"


def _check_declared(aggregate: Aggregate, field: Field, kind: ColumnType, where: str) -> None:
    declared = field.tags.get(tags.COLUMN_TYPE, kind)
    if declared != kind:
        raise DefinitionError(
            f"{_place(aggregate, where)}: tag {tags.COLUMN_TYPE} says {declared!r}, but the topic "
            f"has {aggregate.column!r} as {kind}; leave it out, or give the transformation's "
            "column another name"
        )
