"""A Feast ``StreamFeatureView`` as a view: its entity key and its aggregates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, Field, FileSource, StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.types import Bool, Float32, Float64, Int32, Int64, String

from contracts import feature_schema
from contracts.plan import Aggregate, AggregateFunction, Topic, View
from dataflows.definitions.errors import DefinitionError

OFFLINE_TAG = "headwater.offline"
TILES_MAX = 2_000
_FUNCTIONS: dict[str, AggregateFunction] = {
    "count": "count",
    "sum": "sum",
    "mean": "mean",
    "avg": "mean",
    "min": "min",
    "max": "max",
    "last": "last",
}
_KEY_TYPES: dict[Any, feature_schema.ValueType] = {
    String: "string",
    Int64: "int64",
    ValueType.STRING: "string",
    ValueType.INT64: "int64",
}
_VALUE_TYPES: dict[Any, feature_schema.ValueType] = {Float64: "float64", Int64: "int64"}
_MICROSECOND = timedelta(microseconds=1)


def compile_view(
    view: StreamFeatureView, topic: Topic, entities: Mapping[str, Entity], directory: Path
) -> View:
    """The executable form of a stream feature view; raise DefinitionError naming the view."""
    where = f"stream feature view {view.name!r}"
    _refuse_unsupported(view, where)
    join_keys, types = _join_keys(view, topic, entities, where)
    aggregates = _aggregates(view, topic, where)
    names = [aggregate.feature for aggregate in aggregates]
    if not names:
        raise DefinitionError(f"{where} has no features; add aggregations, or fields to its schema")
    if len(set(names)) < len(names):
        raise DefinitionError(f"{where} has two features of one name; give Aggregation a name")
    declared = {field.name for field in view.features}
    if declared != set(names):
        odd = sorted(declared.symmetric_difference(names))
        raise DefinitionError(
            f"{where}: schema and aggregations differ in {', '.join(odd)}; the schema lists the "
            "entity's join key and one Field for every aggregation, by its name"
        )
    return View(
        name=view.name,
        topic=topic.name,
        join_keys=join_keys,
        join_key_types=types,
        aggregates=aggregates,
        ttl_us=(view.ttl or timedelta(0)) // _MICROSECOND,
        offline_path=_offline_path(view, directory, where),
    )


def _refuse_unsupported(view: StreamFeatureView, where: str) -> None:
    mode = getattr(view.mode, "value", view.mode)
    if mode != "python":
        raise DefinitionError(f"{where}: mode {mode!r} cannot be executed; use mode='python'")
    if view.udf is not None or view.feature_transformation is not None:
        raise DefinitionError(f"{where}: a udf cannot be executed yet; aggregate logged columns")
    if view.enable_tiling:
        raise DefinitionError(f"{where}: leave enable_tiling out; slide_interval sets the tiles")
    if not view.online:
        raise DefinitionError(f"{where}: online=False cannot be executed; leave it out")


def _join_keys(
    view: StreamFeatureView, topic: Topic, entities: Mapping[str, Entity], where: str
) -> tuple[tuple[str, ...], tuple[feature_schema.ValueType, ...]]:
    columns = {column.name: column for column in topic.columns}
    typed = {field.name: field.dtype for field in view.entity_columns}
    keys, types = [], []
    for name in view.entities:
        if name not in entities:
            raise DefinitionError(f"{where}: entity {name!r} is not defined at the top level")
        key = entities[name].join_key
        kind = typed.get(key, entities[name].value_type)
        if kind not in _KEY_TYPES:
            raise DefinitionError(
                f"{where}: join key {key!r} must be a String or Int64, not {kind}; say so in the "
                "schema or in the entity's value_type"
            )
        if key not in columns or columns[key].dtype != _KEY_TYPES[kind]:
            raise DefinitionError(
                f"{where}: topic {topic.name!r} has no {_KEY_TYPES[kind]} column {key!r}"
            )
        keys.append(key)
        types.append(_KEY_TYPES[kind])
    if not keys or keys == ["__dummy_id"]:
        raise DefinitionError(f"{where} has no entity; give it entities=[...]")
    return tuple(keys), tuple(types)


def _aggregates(view: StreamFeatureView, topic: Topic, where: str) -> tuple[Aggregate, ...]:
    fields = {field.name: field for field in view.features}
    if not view.aggregations:
        return tuple(_latest(field, topic, where) for field in view.features)
    return tuple(_aggregate(a, fields, topic, where) for a in view.aggregations)


def _latest(field: Field, topic: Topic, where: str) -> Aggregate:
    _check_column(field.name, topic, where)
    _check_whole(field, Aggregation(column=field.name, function="last"), topic, where)
    return Aggregate(
        field.name, _value_type(field, where), field.name, "latest", window_us=0, hop_us=0
    )


def _aggregate(
    aggregation: Aggregation, fields: Mapping[str, Field], topic: Topic, where: str
) -> Aggregate:
    window = aggregation.time_window
    name = aggregation.resolved_name(window)
    here = f"{where}, aggregation {name!r}"
    if aggregation.function not in _FUNCTIONS:
        known = ", ".join(_FUNCTIONS)
        raise DefinitionError(
            f"{here}: function {aggregation.function!r} cannot be executed; known are {known}"
        )
    _check_column(aggregation.column, topic, here)
    if name not in fields:
        raise DefinitionError(f"{here} is not in the schema; add Field(name={name!r}, ...)")
    window_us, hop_us = _window(window, aggregation.slide_interval, here)
    _check_whole(fields[name], aggregation, topic, here)
    return Aggregate(
        name,
        _value_type(fields[name], here),
        aggregation.column,
        _FUNCTIONS[aggregation.function],
        window_us,
        hop_us,
    )


def _window(window: timedelta | None, hop: timedelta | None, where: str) -> tuple[int, int]:
    if window is None:
        if hop is not None:
            raise DefinitionError(f"{where}: a slide_interval needs a time_window")
        return 0, 0
    window_us = window // _MICROSECOND
    hop_us = (hop or window) // _MICROSECOND
    if window_us <= 0 or hop_us <= 0:
        raise DefinitionError(f"{where}: time_window and slide_interval must be positive")
    if window_us % hop_us:
        raise DefinitionError(
            f"{where}: time_window {window} is not a multiple of slide_interval {hop}"
        )
    if window_us // hop_us > TILES_MAX:
        raise DefinitionError(
            f"{where}: {window_us // hop_us} tiles; at most {TILES_MAX}, take a longer "
            "slide_interval"
        )
    return window_us, hop_us


def _check_column(name: str, topic: Topic, where: str) -> None:
    kinds = {column.name: column.dtype for column in topic.columns}
    if name not in kinds:
        raise DefinitionError(f"{where}: topic {topic.name!r} has no column {name!r}")
    if kinds[name] not in ("float64", "int64", "bool"):
        raise DefinitionError(f"{where}: column {name!r} is a {kinds[name]}, not a number")


def _value_type(field: Field, where: str) -> feature_schema.ValueType:
    if field.dtype not in _VALUE_TYPES:
        hint = "Float64" if field.dtype in (Float32, Int32, Bool) else "Float64 or Int64"
        raise DefinitionError(
            f"{where}: feature {field.name!r} has type {field.dtype}; use {hint} (double precision)"
        )
    return _VALUE_TYPES[field.dtype]


def _check_whole(field: Field, aggregation: Aggregation, topic: Topic, where: str) -> None:
    """An Int64 feature must be a whole number by its nature, or serving would round it."""
    kinds = {column.name: column.dtype for column in topic.columns}
    is_whole = kinds[aggregation.column] in ("int64", "bool") and aggregation.function in (
        "sum",
        "min",
        "max",
        "last",
    )
    if field.dtype == Int64 and aggregation.function != "count" and not is_whole:
        raise DefinitionError(
            f"{where}: {aggregation.function} of a {kinds[aggregation.column]} column need not be "
            "whole; declare the feature as Float64"
        )


def _offline_path(view: StreamFeatureView, directory: Path, where: str) -> str:
    """The folder of the view's table; empty for a view that is served only."""
    wanted = (view.tags or {}).get(OFFLINE_TAG, "true")
    if wanted not in ("true", "false"):
        raise DefinitionError(f"{where}: tag {OFFLINE_TAG} is {wanted!r}; use 'true' or 'false'")
    if wanted == "false":
        return ""
    source = view.batch_source
    if not isinstance(source, FileSource) or "://" in source.path:
        raise DefinitionError(f"{where}: batch_source must be a FileSource with a local folder")
    if source.timestamp_field != "event_timestamp":
        raise DefinitionError(f"{where}: batch_source's timestamp_field must be 'event_timestamp'")
    return str((directory / source.path).absolute())
