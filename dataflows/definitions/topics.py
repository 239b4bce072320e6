"""A Feast ``KafkaSource`` as a topic: its columns, event time and watermark delay."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feast import KafkaSource
from feast.data_format import JsonFormat

from contracts.plan import Column, ColumnType, Topic
from dataflows.definitions.errors import DefinitionError

# The names that Spark's DDL strings, which Feast's JsonFormat takes, give to the types we read.
_DDL_TYPES: dict[str, ColumnType] = {
    "string": "string",
    "tinyint": "int64",
    "smallint": "int64",
    "int": "int64",
    "integer": "int64",
    "bigint": "int64",
    "long": "int64",
    "float": "float64",
    "double": "float64",
    "boolean": "bool",
    "timestamp": "timestamp",
}

KEY_TAG = "headwater.key"


def compile_topic(source: Any, used_by: str) -> Topic:
    """The topic behind a source; raise DefinitionError naming the source and ``used_by``."""
    if not isinstance(source, KafkaSource):
        kind = type(source).__name__
        raise DefinitionError(f"{used_by!r} reads a {kind}; only KafkaSource can be executed")
    where = f"KafkaSource {source.name!r}"
    options = source.kafka_options
    if not options.topic:
        raise DefinitionError(f"{where} names no topic; add topic=...")
    if source.field_mapping:
        raise DefinitionError(f"{where}: field_mapping cannot be executed; name columns as logged")
    if not isinstance(options.message_format, JsonFormat):
        kind = type(options.message_format).__name__
        raise DefinitionError(f"{where}: {kind} cannot be executed; use JsonFormat")
    columns = parse_ddl(options.message_format.schema_json, where)
    kinds = {column.name: column.dtype for column in columns}
    if kinds.get(source.timestamp_field) != "timestamp":
        raise DefinitionError(
            f"{where}: timestamp_field {source.timestamp_field!r} is not a timestamp of its format"
        )
    key_field = (source.tags or {}).get(KEY_TAG, columns[0].name)
    if key_field not in kinds:
        raise DefinitionError(f"{where}: tag {KEY_TAG} names {key_field!r}, which is no column")
    delay = options.watermark_delay_threshold or timedelta(0)
    return Topic(
        name=options.topic,
        columns=tuple(
            Column(c.name, c.dtype, c.nullable and c.name != source.timestamp_field)
            for c in columns
        ),
        timestamp_field=source.timestamp_field,
        watermark_delay_us=delay // timedelta(microseconds=1),
        key_field=key_field,
    )


def parse_ddl(ddl: str, where: str) -> tuple[Column, ...]:
    """Columns of ``"name type [not null], ..."``; raise DefinitionError naming the column."""
    columns: list[Column] = []
    for part in ddl.split(","):
        words = part.replace(":", " ").split()
        if len(words) < 2:
            raise DefinitionError(
                f"{where}: cannot read {part.strip()!r} in its format; write 'name type, ...'"
            )
        name, kind, rest = words[0].strip("`"), words[1].lower(), " ".join(words[2:]).lower()
        if kind not in _DDL_TYPES:
            known = ", ".join(_DDL_TYPES)
            raise DefinitionError(f"{where}: column {name!r} has type {kind!r}; known are {known}")
        if rest not in ("", "not null"):
            raise DefinitionError(f"{where}: column {name!r}: {rest!r} is not understood")
        if not name.isidentifier():
            raise DefinitionError(f"{where}: column {name!r} must be a plain name")
        if any(column.name == name for column in columns):
            raise DefinitionError(f"{where}: column {name!r} stands twice in its format")
        columns.append(Column(name, _DDL_TYPES[kind], rest != "not null"))
    return tuple(columns)
