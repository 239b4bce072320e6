"""The views of the conformance tests, as the engine knows them and as Feast does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureView, Field, FileSource
from feast.types import (
    Array,
    Bool,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)
from feast.value_type import ValueType

from contracts import feature_schema
from contracts.plan import Aggregate, View

HOUR_US = 3_600_000_000
FEAST_TYPES: dict[str, Any] = {"float64": Float64, "int64": Int64, "bool": Bool, "string": String}
ENTITIES = {
    name: Entity(name=name, join_keys=[name], value_type=kind)
    for name, kind in {
        "user": ValueType.STRING,
        "device": ValueType.INT64,
        "origin": ValueType.STRING,
        "carrier": ValueType.INT64,
    }.items()
}


def make_view(
    view: str,
    keys: dict[str, feature_schema.ValueType],
    features: dict[str, feature_schema.ValueType],
    ttl_us: int = 0,
) -> View:
    """A view as the engine compiles it."""
    return View(
        name=view,
        topic="events",
        join_keys=tuple(keys),
        join_key_types=tuple(keys.values()),
        aggregates=tuple(
            Aggregate(feature, dtype, feature, "latest", 0, 0)
            for feature, dtype in features.items()
        ),
        ttl_us=ttl_us,
        offline_path="",
    )


# Two views of one entity share a hash in Redis; join keys do not stand in the order of their names.
SPEND = make_view(
    "spend_1h", {"user": "string"}, {"total": "float64", "visits": "int64"}, ttl_us=HOUR_US
)
CLICKS = make_view("clicks_1h", {"user": "string"}, {"rate": "float64", "mobile": "bool"})
ROUTES = make_view(
    "routes_1h",
    {"origin": "string", "carrier": "int64"},
    {"delay": "float64", "flights": "int64", "diverted": "bool"},
)
DEVICES = make_view("devices_1h", {"device": "int64"}, {"heat": "float64"})
PROFILES = make_view(
    "profiles",
    {"origin": "string", "carrier": "int64"},
    {
        "town": "string",
        "open": "bool",
        "nick": "string",
        "visits": "int64",
        "score": "float64",
    },
)
VIEWS = (SPEND, CLICKS, ROUTES, DEVICES, PROFILES)

MANY_TYPES = "many_types"
TYPES = {
    "double": Float64,
    "single": Float32,
    "long": Int64,
    "short": Int32,
    "flag": Bool,
    "moment": UnixTimestamp,
    "word": String,
    "series": Array(Float64),
}


def offline_file(folder: Path, name: str) -> Path:
    """The Parquet file from which Feast materializes a view."""
    return folder / f"{name}.parquet"


def feast_views(folder: Path) -> list[FeatureView]:
    """The same views for Feast, and one that has every type."""
    many = make_view(MANY_TYPES, {"user": "string"}, {})
    return [
        *(_feast_view(view, folder, _types_of(view)) for view in VIEWS),
        _feast_view(many, folder, TYPES),
    ]


def _types_of(view: View) -> dict[str, Any]:
    return {one.feature: FEAST_TYPES[one.dtype] for one in view.aggregates}


def _feast_view(view: View, folder: Path, types: dict[str, Any]) -> FeatureView:
    keys = zip(view.join_keys, view.join_key_types, strict=True)
    return FeatureView(
        name=view.name,
        entities=[ENTITIES[name] for name in view.join_keys],
        schema=[
            *(Field(name=name, dtype=FEAST_TYPES[kind]) for name, kind in keys),
            *(Field(name=name, dtype=kind) for name, kind in types.items()),
        ],
        source=FileSource(
            path=str(offline_file(folder, view.name)), timestamp_field="event_timestamp"
        ),
        ttl=timedelta(microseconds=view.ttl_us),
    )
