"""A KafkaSource as a topic: its format, its columns, and what is refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from feast import KafkaSource
from feast.data_format import AvroFormat, JsonFormat, ProtoFormat, StreamFormat

from contracts.plan import Column
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import load_repository
from dataflows.definitions.topics import compile_topic
from dataflows.sources.decoding import make_decoder

TIME = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}


def _source(message_format: StreamFormat, **more: Any) -> KafkaSource:
    given = {"timestamp_field": "at", "topic": "orders", **more}
    return KafkaSource(
        name="orders", kafka_bootstrap_servers="", message_format=message_format, **given
    )


def _schema(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "Order", "fields": [*fields, TIME]})


def test_the_columns_of_an_avro_record() -> None:
    """Plain fields, enums and times are columns, with null where a union has it; others not."""
    kind = {"type": "enum", "name": "Kind", "symbols": ["A"]}
    schema = _schema(
        {"name": "text", "type": "string"},
        {"name": "kind", "type": kind},
        {"name": "again", "type": ["null", "Kind"]},
        {"name": "int", "type": {"type": "int"}},
        {"name": "long", "type": ["long", "null"]},
        {"name": "float", "type": "float"},
        {"name": "double", "type": ["double"]},
        {"name": "yes", "type": "boolean"},
        {"name": "micros", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "bytes", "type": "bytes"},
        {"name": "list", "type": {"type": "array", "items": "string"}},
        {"name": "map", "type": {"type": "map", "values": "string"}},
        {"name": "mixed", "type": ["null", "string", "long"]},
        {"name": "money", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4}},
        {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": []}},
    )
    topic = compile_topic(_source(AvroFormat(schema)), "view")
    assert topic.columns == (
        Column("text", "string", False),
        Column("kind", "string", False),
        Column("again", "string", True),
        Column("int", "int64", False),
        Column("long", "int64", True),
        Column("float", "float64", False),
        Column("double", "float64", False),
        Column("yes", "bool", False),
        Column("micros", "timestamp", True),
        Column("local", "int64", False),
        Column("at", "timestamp", False),
    )
    assert (topic.format, topic.framing, topic.key_field) == ("avro", "none", "text")


def test_one_schema_is_one_text() -> None:
    """White space and the order of attributes in an Avro schema make no other topic."""
    schema = json.loads(_schema({"name": "x", "type": "string"}))
    other = {name: schema[name] for name in reversed(schema)}
    topics = [
        compile_topic(_source(AvroFormat(text)), "view")
        for text in (json.dumps(schema, indent=2), json.dumps(other))
    ]
    assert topics[0] == topics[1]


def test_a_text_may_be_the_event_time() -> None:
    """The timestamp_field may be a string in Avro and Protobuf; it never is nullable."""
    schema = '{"type": "record", "name": "O", "fields": [{"name": "at", "type": "string"}]}'
    avro = compile_topic(_source(AvroFormat(schema)), "view")
    protobuf = compile_topic(_source(ProtoFormat("tests.sources.messages.OldOrder")), "view")
    for topic in (avro, protobuf):
        (at,) = (column for column in topic.columns if column.name == "at")
        assert at == Column("at", "timestamp", False)


def test_a_protobuf_message_is_named_by_its_class() -> None:
    """A message class gives the columns; its path is what the dataflow imports."""
    path = "tests.sources.messages.Order"
    topic = compile_topic(_source(ProtoFormat(path)), "view")
    assert (topic.format, topic.schema) == ("protobuf", path)
    columns = {column.name: column for column in topic.columns}
    assert columns["at"] == Column("at", "timestamp", False)
    assert columns["kind"] == Column("kind", "string", True)
    assert columns["user"] == Column("user", "string", False)
    assert "picture" not in columns


@pytest.mark.parametrize("message_format", ["json", "avro", "protobuf"])
def test_a_frame_is_asked_for_by_a_tag(message_format: str) -> None:
    """The tag headwater.framing says that numbers of schemas stand before the records."""
    form = {
        "json": JsonFormat("user string, at timestamp"),
        "avro": AvroFormat(_schema()),
        "protobuf": ProtoFormat("tests.sources.messages.Order"),
    }[message_format]
    assert compile_topic(_source(form), "view").framing == "none"
    source = _source(form, tags={"headwater.framing": "schema-registry"})
    topic = compile_topic(source, "view")
    assert (topic.format, topic.framing) == (message_format, "schema-registry")
    with pytest.raises(DefinitionError, match=r"'orders': tag headwater.framing is 'confluent'"):
        compile_topic(_source(form, tags={"headwater.framing": "confluent"}), "view")


@pytest.mark.parametrize(
    ("message_format", "reason"),
    [
        (AvroFormat("{"), "not JSON"),
        (AvroFormat(_schema({"name": "x", "type": "nothing"})), "not valid"),
        (AvroFormat('"string"'), "must be that of a record"),
        (AvroFormat('{"type": "record", "name": "O", "fields": []}'), "no field"),
        (
            AvroFormat(
                '{"type": "record", "name": "O", "fields": [{"name": "at", "type": "long"}]}'
            ),
            "logicalType timestamp-millis",
        ),
        (ProtoFormat("orders_pb2.Order"), "'orders_pb2.Order' is no message class"),
        (ProtoFormat("Order"), "package.module_pb2.Message"),
        (ProtoFormat("tests.sources.messages.Other"), "no field"),
        (ProtoFormat("google.protobuf.timestamp_pb2.Timestamp"), "google.protobuf.Timestamp, or"),
    ],
)
def test_what_cannot_work_is_refused_by_name(message_format: StreamFormat, reason: str) -> None:
    """A format that cannot be read is refused at apply: the source and the reason are named."""
    with pytest.raises(DefinitionError, match=reason) as caught:
        compile_topic(_source(message_format), "view")
    assert "KafkaSource 'orders'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_beside_the_definitions_are_found(tmp_path: Path) -> None:
    """A generated module in the folder of the Feast repository can be imported by its name."""
    (tmp_path / "feature_store.yaml").write_text("project: p\nprovider: local\n")
    (tmp_path / "headwater_beside_pb2.py").write_text(
        "from tests.sources.messages import Order as Beside\n"
    )
    (tmp_path / "definitions.py").write_text(
        "from datetime import timedelta\n"
        "from feast import Entity, Field, FileSource, KafkaSource, StreamFeatureView, ValueType\n"
        "from feast.aggregation import Aggregation\n"
        "from feast.data_format import ProtoFormat\n"
        "from feast.types import Int64, String\n"
        "user = Entity(name='user', join_keys=['user'], value_type=ValueType.STRING)\n"
        "files = FileSource(path='data/offline/v', timestamp_field='event_timestamp')\n"
        "view = StreamFeatureView(\n"
        "    name='v', entities=[user], mode='python', timestamp_field='at',\n"
        "    source=KafkaSource(\n"
        "        name='orders', topic='orders', kafka_bootstrap_servers='', timestamp_field='at',\n"
        "        message_format=ProtoFormat('headwater_beside_pb2.Beside'), batch_source=files),\n"
        "    schema=[Field(name='user', dtype=String), Field(name='n', dtype=Int64)],\n"
        "    aggregations=[Aggregation(column='items', function='count', name='n')])\n"
    )
    path = list(sys.path)
    try:
        plan = load_repository(tmp_path).plan
        make_decoder(plan.topic("orders"))
    finally:
        sys.path[:] = path
    assert plan.topic("orders").schema == "headwater_beside_pb2.Beside"
