"""A Feast ``StreamFeatureView`` as a view: its entity key, its aggregates, its transformation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from feast import Entity, FileSource, StreamFeatureView, ValueType
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.types import Int64, String

from contracts import feature_schema
from contracts.plan import Topic, View
from dataflows.definitions import tags
from dataflows.definitions.aggregates import Columns, Windows, compile_aggregates
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.topics import LONGEST, columns_of
from dataflows.definitions.transforms import (
    TransformFunction,
    check_portable,
    transform_of,
    try_without_rows,
)

_EXACT_TILES: Final = 1024
_EXACT_TILES_BOUNDS: Final = (2, 65_536)
_DISTINCT_BITS: Final = 8
# With fewer than 64 registers the error is larger than the formula says.
_DISTINCT_BITS_BOUNDS: Final = (6, 14)
_WINDOWS: Final[tuple[Windows, ...]] = ("hopping", "exact")
_KEY_TYPES: dict[Any, feature_schema.ValueType] = {
    String: "string",
    Int64: "int64",
    ValueType.STRING: "string",
    ValueType.INT64: "int64",
}
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class CompiledView:
    """A view, and the function that is run on its rows before all else (None for none).

    ``note`` is what people should know of the function; empty for nothing.
    """

    view: View
    transform: TransformFunction | None
    note: str = ""


def compile_view(
    feast_view: StreamFeatureView, topic: Topic, entities: Mapping[str, Entity], directory: Path
) -> CompiledView:
    """The executable form of a stream feature view; raise DefinitionError naming the view."""
    where = f"stream feature view {feast_view.name!r}"
    _refuse_unsupported(feast_view, topic, where)
    transform = transform_of(feast_view, where)
    columns: Columns = {name: column.dtype for name, column in columns_of(topic).items()}
    join_keys, types = _join_keys(feast_view, topic, entities, where)
    windows = _windows(feast_view, where)
    aggregates = compile_aggregates(feast_view, columns, windows, where)
    _check_names(feast_view, [aggregate.feature for aggregate in aggregates], where)
    is_exact = windows == "exact" and any(aggregate.window_us for aggregate in aggregates)
    exact_tiles_max = tags.whole_number(
        feast_view.tags, tags.EXACT_TILES, _EXACT_TILES, _EXACT_TILES_BOUNDS, where
    )
    view = View(
        name=feast_view.name,
        topic=topic.name,
        join_keys=join_keys,
        join_key_types=types,
        aggregates=aggregates,
        ttl_us=_ttl_us(feast_view.ttl, where),
        offline_path=_offline_path(feast_view, directory, where),
        exact_tiles_max=exact_tiles_max if is_exact else 0,
        distinct_bits=tags.whole_number(
            feast_view.tags, tags.DISTINCT_BITS, _DISTINCT_BITS, _DISTINCT_BITS_BOUNDS, where
        ),
        transform="none" if transform is None else transform.mode,
    )
    if transform is None:
        return CompiledView(view, None)
    check_portable(feast_view, directory, where)
    note = try_without_rows(transform, view, topic, where)
    return CompiledView(view, transform.function, note)


def _refuse_unsupported(view: StreamFeatureView, topic: Topic, where: str) -> None:
    if view.name in (".", "..") or any(c in "/," or not c.isprintable() for c in view.name):
        # It names a folder of the state, and stands between commas in `headwater replay --views`.
        raise DefinitionError(
            f"{where}: choose a name without commas, slashes and control characters, and not of "
            "dots alone"
        )
    tags.check_tags(view.tags, tags.OF_VIEWS, where)
    if view.enable_tiling or view.tiling_hop_size is not None:
        raise DefinitionError(
            f"{where}: leave enable_tiling and tiling_hop_size out; slide_interval sets the tiles"
        )
    if not view.online:
        raise DefinitionError(f"{where}: online=False cannot be executed; leave it out")
    if not view.enabled:
        raise DefinitionError(
            f"{where}: a disabled view cannot be executed; take it out of definitions.py"
        )
    if view.stream_engine is not None:
        raise DefinitionError(
            f"{where}: stream_engine cannot be executed; leave it out, Headwater is the engine"
        )
    if view.version.lower() != "latest":
        raise DefinitionError(
            f"{where}: version {view.version!r} cannot be executed; leave it out, an older version "
            "is in Git"
        )
    time = topic.timestamp_field
    if view.timestamp_field not in ("", time, topic.column_name(time)):
        raise DefinitionError(
            f"{where}: timestamp_field is {view.timestamp_field!r}, but that of its source is "
            f"{time!r}; they must be the same"
        )


def _windows(view: StreamFeatureView, where: str) -> Windows:
    wanted = tags.chosen(view.tags, tags.WINDOWS, _WINDOWS, where)
    windows: Windows = "exact" if wanted == "exact" else "hopping"
    if windows == "hopping" and tags.EXACT_TILES in view.tags:
        raise DefinitionError(
            f"{where}: tag {tags.EXACT_TILES} needs the tag {tags.WINDOWS}: exact; add it, or "
            f"leave {tags.EXACT_TILES} out"
        )
    return windows


def _check_names(view: StreamFeatureView, names: list[str], where: str) -> None:
    if not names:
        raise DefinitionError(f"{where} has no features; add aggregations, or fields to its schema")
    declared = [field.name for field in view.features]
    if len(set(names)) < len(names) or len(set(declared)) < len(declared):
        raise DefinitionError(
            f"{where} has two features of one name; give each Aggregation and Field its own"
        )
    if set(declared) != set(names):
        odd = sorted(set(declared).symmetric_difference(names))
        raise DefinitionError(
            f"{where}: schema and aggregations differ in {', '.join(odd)}; the schema lists the "
            "entity's join key and one Field for every aggregation, by its name"
        )


def _ttl_us(ttl: timedelta | None, where: str) -> int:
    wanted = ttl or timedelta(0)
    if not timedelta(0) <= wanted <= LONGEST:
        raise DefinitionError(
            f"{where}: ttl is {wanted}; it must be 0 (no limit) or more, and shorter than all of "
            "time"
        )
    return wanted // _MICROSECOND


def _join_keys(
    view: StreamFeatureView, topic: Topic, entities: Mapping[str, Entity], where: str
) -> tuple[tuple[str, ...], tuple[feature_schema.ValueType, ...]]:
    columns = columns_of(topic)
    typed = {field.name: field.dtype for field in view.entity_columns}
    keys, types = [], []
    for name in view.entities:
        if name == DUMMY_ENTITY_NAME:
            raise DefinitionError(f"{where} has no entity; give it entities=[...]")
        if name not in entities:
            raise DefinitionError(f"{where}: entity {name!r} is not defined at the top level")
        key = entities[name].join_key
        kind = typed.get(key, entities[name].value_type)
        if kind not in _KEY_TYPES:
            raise DefinitionError(
                f"{where}: join key {key!r} must be a String or Int64, not {kind}; say so in the "
                "schema or in the entity's value_type"
            )
        is_derived = view.feature_transformation is not None and key not in columns
        if not is_derived and (key not in columns or columns[key].dtype != _KEY_TYPES[kind]):
            found = f"it has {', '.join(columns)}"
            if key in columns:
                found = f"there it is {columns[key].dtype}, make the join key's type the same"
            raise DefinitionError(
                f"{where}: topic {topic.name!r} has no {_KEY_TYPES[kind]} column {key!r}; {found}"
            )
        keys.append(key)
        types.append(_KEY_TYPES[kind])
    return tuple(keys), tuple(types)


def _offline_path(view: StreamFeatureView, directory: Path, where: str) -> str:
    """The folder of the view's table; empty for a view that is served only."""
    if tags.chosen(view.tags, tags.OFFLINE, ("true", "false"), where) == "false":
        return ""
    source = view.batch_source
    if not isinstance(source, FileSource) or "://" in source.path:
        raise DefinitionError(f"{where}: batch_source must be a FileSource with a local folder")
    if source.timestamp_field != "event_timestamp":
        raise DefinitionError(
            f"{where}: batch_source's timestamp_field must be 'event_timestamp', whatever the "
            "stream's is called; so it stands in the files that Headwater writes"
        )
    tags.check_tags(source.tags, tags.OF_OTHERS, f"{where}, its batch_source")
    if not isinstance(source.file_format, ParquetFormat | None):
        raise DefinitionError(
            f"{where}: batch_source's file_format must be ParquetFormat; it is what is written"
        )
    for name in ("created_timestamp_column", "field_mapping", "date_partition_column"):
        if getattr(source, name):
            raise DefinitionError(
                f"{where}: batch_source's {name} cannot be executed; leave it out, its files have "
                "event_timestamp, the join keys and the features by their own names"
            )
    return str((directory / source.path).absolute())
