"""A Feast ``KafkaSource`` as a topic: its columns, event time and watermark delay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from feast import KafkaSource
from feast.data_format import AvroFormat, JsonFormat, ProtoFormat

from contracts.plan import Column, ColumnType, Framing, RecordFormat, Topic
from dataflows.definitions import tags
from dataflows.definitions.errors import DefinitionError
from dataflows.sources.avro_schema import AvroRecord, AvroSchemaError, canonical_json
from dataflows.sources.protobuf_schema import ProtobufClassError, message_class, message_columns

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

# Event times are from 1970 to 2100; whatever is longer is without end.
LONGEST = timedelta(days=130 * 366)
_FRAMINGS: tuple[Framing, ...] = ("none", "schema-registry")


def compile_topic(source: Any, used_by: str) -> Topic:
    """The topic behind a source; raise DefinitionError naming the source and ``used_by``."""
    if not isinstance(source, KafkaSource):
        kind = type(source).__name__
        raise DefinitionError(f"{used_by!r} reads a {kind}; only KafkaSource can be executed")
    where = f"KafkaSource {source.name!r}"
    _refuse_unsupported(source, where)
    mapping = {name: new for name, new in source.field_mapping.items() if name != new}
    timestamp_field = _field_called(source.timestamp_field, mapping)
    options = source.kafka_options
    written = _read_format(options.message_format, timestamp_field, where)
    kinds = {column.name: column.dtype for column in written.columns}
    _check_mapping(mapping, list(kinds), where)
    if kinds.get(timestamp_field) != "timestamp":
        raise DefinitionError(
            f"{where}: timestamp_field {source.timestamp_field!r} is not a timestamp of its format"
            f"{written.hint or _timestamps(written.columns)}"
        )
    wanted = source.tags.get(tags.KEY, written.columns[0].name)
    key_field = _field_called(wanted, mapping)
    if key_field not in kinds:
        raise DefinitionError(
            f"{where}: tag {tags.KEY} names {wanted!r}, which is no column; it has "
            f"{', '.join(kinds)}"
        )
    return Topic(
        name=options.topic,
        columns=tuple(
            Column(c.name, c.dtype, c.nullable and c.name != timestamp_field)
            for c in written.columns
        ),
        timestamp_field=timestamp_field,
        watermark_delay_us=_watermark_delay_us(options.watermark_delay_threshold, where),
        key_field=key_field,
        format=written.format,
        schema=written.schema,
        framing=_framing(source, where),
        field_mapping=tuple(sorted(mapping.items())),
    )


def columns_of(topic: Topic) -> dict[str, Column]:
    """A topic's columns by the names that views and models have for them."""
    return {topic.column_name(column.name): column for column in topic.columns}


def _timestamps(columns: Iterable[Column]) -> str:
    times = [column.name for column in columns if column.dtype == "timestamp"]
    return f"; those are {', '.join(times)}" if times else "; add 'NAME timestamp not null' to it"


def _refuse_unsupported(source: KafkaSource, where: str) -> None:
    tags.check_tags(source.tags, tags.OF_SOURCES, where)
    if not source.kafka_options.topic:
        raise DefinitionError(f"{where} names no topic; add topic=...")
    if source.created_timestamp_column:
        raise DefinitionError(
            f"{where}: created_timestamp_column cannot be executed; leave it out, records of one "
            "event time are taken in the order of the log"
        )


def _watermark_delay_us(delay: timedelta | None, where: str) -> int:
    wanted = delay or timedelta(0)
    if not timedelta(0) <= wanted <= LONGEST:
        raise DefinitionError(
            f"{where}: watermark_delay_threshold is {wanted}; it must be 0 or more, and shorter "
            "than all of time"
        )
    return wanted // timedelta(microseconds=1)


def _field_called(name: str, mapping: Mapping[str, str]) -> str:
    """What the record calls this, which may be given by either name; the record's goes first."""
    if name in mapping:
        return name
    return {new: old for old, new in mapping.items()}.get(name, name)


def _check_mapping(mapping: Mapping[str, str], fields: list[str], where: str) -> None:
    for old, new in mapping.items():
        here = f"{where}: field_mapping {old!r} -> {new!r}"
        if old not in fields:
            raise DefinitionError(
                f"{here}: its format has no column {old!r}; the record's name goes first, one of "
                f"{', '.join(fields)}"
            )
        if not new.isidentifier():
            raise DefinitionError(f"{here}: a column must be a plain name")
        if [mapping.get(name, name) for name in fields].count(new) > 1:
            raise DefinitionError(f"{here}: two fields would be called {new!r}; rename one")


@dataclass(frozen=True)
class _Written:
    """How the records of a source are written; ``hint`` says what a timestamp is there."""

    format: RecordFormat
    schema: str
    columns: tuple[Column, ...]
    hint: str


def _read_format(message_format: Any, timestamp_field: str, where: str) -> _Written:
    if isinstance(message_format, JsonFormat):
        return _Written("json", "", parse_ddl(message_format.schema_json, where), "")
    if isinstance(message_format, AvroFormat):
        return _avro(message_format.schema_json, timestamp_field, where)
    if isinstance(message_format, ProtoFormat):
        return _protobuf(message_format.class_path, timestamp_field, where)
    kind = type(message_format).__name__
    raise DefinitionError(
        f"{where}: {kind} cannot be executed; use JsonFormat, AvroFormat or ProtoFormat"
    )


def _avro(schema_json: str, timestamp_field: str, where: str) -> _Written:
    try:
        record = AvroRecord(schema_json)
    except AvroSchemaError as error:
        raise DefinitionError(f"{where}: {error}") from error
    return _Written(
        "avro",
        canonical_json(record.json),
        _with_time(
            [Column(one.name, one.dtype, one.nullable) for one in record.columns()],
            timestamp_field,
            where,
        ),
        ": it must be a long with the logicalType timestamp-millis or timestamp-micros, or a "
        "string with times such as 2013-01-31T23:59:00Z",
    )


def _protobuf(class_path: str, timestamp_field: str, where: str) -> _Written:
    try:
        kind: Any = message_class(class_path)
    except ProtobufClassError as error:
        raise DefinitionError(f"{where}: {error}") from error
    return _Written(
        "protobuf",
        class_path,
        _with_time(message_columns(kind.DESCRIPTOR), timestamp_field, where),
        ": it must be a google.protobuf.Timestamp, or a string with times such as "
        "2013-01-31T23:59:00Z",
    )


def _with_time(columns: Iterable[Column], timestamp_field: str, where: str) -> tuple[Column, ...]:
    """These columns; a text that is the event time is a time."""
    found = tuple(
        replace(column, dtype="timestamp")
        if column.name == timestamp_field and column.dtype == "string"
        else column
        for column in columns
    )
    if not found:
        raise DefinitionError(f"{where}: its schema has no field that can be a column")
    return found


def _framing(source: KafkaSource, where: str) -> Framing:
    value = source.tags.get(tags.FRAMING, "none")
    for framing in _FRAMINGS:
        if value == framing:
            return framing
    raise DefinitionError(
        f"{where}: tag {tags.FRAMING} is {value!r}; known are {', '.join(_FRAMINGS)}"
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
