"""Avro: a writer's schema is read as the definition's, what nobody reads is passed over."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import fastavro
import fastavro.utils
import numpy as np
import pytest
from fastavro._read_common import SchemaResolutionError
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import Column, Topic
from dataflows.sources.avro import AvroDecoder
from dataflows.sources.avro_schema import AvroRecord, AvroSchemaError
from dataflows.sources.columns import Decoded
from tests.sources.chunks import chunk_of
from tests.sources.orders import AVRO, AVRO_SCHEMA, GOOD, to_avro

AT = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
AT_US = 1_356_998_400_000_000


def _record(*fields: dict[str, Any], name: str = "Row") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [AT, *fields]}


def _topic(schema: dict[str, Any]) -> Topic:
    columns = AvroRecord(json.dumps(schema)).columns()
    return Topic(
        "rows",
        tuple(Column(c.name, c.dtype, c.nullable) for c in columns),
        "at",
        0,
        "at",
        format="avro",
        schema=json.dumps(schema),
    )


def _decode(reader: dict[str, Any], writer: dict[str, Any], records: list[bytes]) -> Decoded:
    return AvroDecoder(_topic(reader), json.dumps(writer)).decode(chunk_of(records))


def _number(value: int) -> bytes:
    """Avro's variable-length integer."""
    value = (value << 1) ^ (value >> 63)
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


# Name -> (type as written, type as read, values); both may be what Avro says they may be.
COLOR = {"type": "enum", "name": "Color", "symbols": ["RED", "GREEN", "BLUE"]}
PAIRS: dict[str, tuple[Any, Any, st.SearchStrategy[Any]]] = {
    "int to long": ("int", "long", st.integers(-(2**31), 2**31 - 1)),
    "int to double": ("int", "double", st.integers(-(2**31), 2**31 - 1)),
    "long to double": ("long", "double", st.integers(-(2**63), 2**63 - 1)),
    "float to double": ("float", "double", st.floats(width=32, allow_infinity=False)),
    "bytes to string": ("bytes", "string", st.text(st.characters(codec="utf-8")).map(str.encode)),
    "value to union": ("long", ["null", "long"], st.integers(-5, 5)),
    "union to value": (["null", "long"], "long", st.none() | st.integers(-5, 5)),
    "wide union": (
        ["string", "null", "int", COLOR],
        ["null", "long"],
        st.none() | st.integers(-5, 5) | st.text(max_size=3),
    ),
    "symbols moved": (
        COLOR,
        {**COLOR, "symbols": ["BLUE", "RED"]},
        st.sampled_from(COLOR["symbols"]),
    ),
    "symbol by default": (
        COLOR,
        {**COLOR, "symbols": ["BLUE", "OTHER"], "default": "OTHER"},
        st.sampled_from(COLOR["symbols"]),
    ),
    "union of one": (["boolean"], "boolean", st.booleans()),
}


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_writers_schema_is_read_as_fastavro_reads_it(name: str, data: st.DataObject) -> None:
    """Promotions, unions and symbols between two schemas come out as fastavro's resolution."""
    written, read, values = PAIRS[name]
    writer = _record({"name": "x", "type": written}, {"name": "last", "type": "int"})
    reader = _record({"name": "x", "type": read})
    row = {"at": AT_US, "x": data.draw(values), "last": 7}
    record = to_avro(row, writer)
    decoded = _decode(reader, writer, [record])
    try:
        read_back: Any = fastavro.schemaless_reader(
            io.BytesIO(record), fastavro.parse_schema(writer), fastavro.parse_schema(reader)
        )
    except SchemaResolutionError:
        assert len(decoded.bad) == 1
        return
    expected = read_back["x"]
    if expected is None or expected != expected:
        is_nullable = isinstance(read, list)
        assert len(decoded.bad) == (0 if is_nullable else 1)
        return
    assert decoded.bad == []
    (value,) = decoded.columns["x"]
    assert value == expected


def test_fields_are_found_by_name() -> None:
    """Fields may have moved, been added or renamed (alias); a missing one takes its default."""
    reader = _record(
        {"name": "a", "type": "long"},
        {"name": "b", "type": ["null", "double"], "default": None},
        {"name": "c", "type": "string", "default": "none"},
        {"name": "d", "type": "int", "aliases": ["delta"]},
        {"name": "e", "type": "double", "default": 1.5},
        {"name": "f", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 9},
        {"name": "g", "type": COLOR, "default": "GREEN"},
    )
    writer = {
        "type": "record",
        "name": "Row",
        "fields": [
            {"name": "delta", "type": "int"},
            {"name": "new", "type": {"type": "map", "values": "bytes"}},
            {"name": "a", "type": "int"},
            AT,
        ],
    }
    row = {"delta": -4, "new": {"k": b"v"}, "a": 8, "at": AT_US}
    decoded = _decode(reader, writer, [to_avro(row, writer)] * 2)
    assert decoded.bad == []
    assert decoded.event_us.tolist() == [AT_US] * 2
    assert decoded.columns["a"] == [8, 8]
    assert np.isnan(decoded.columns["b"]).all()
    assert decoded.columns["c"] == ["none"] * 2
    assert decoded.columns["d"] == [-4, -4]
    assert decoded.columns["e"].tolist() == [1.5, 1.5]
    assert decoded.columns["f"].tolist() == [9_000.0] * 2
    assert decoded.columns["g"] == ["GREEN"] * 2


def test_a_time_has_the_unit_that_its_writer_gave_it() -> None:
    """Milliseconds are read as such though the definition has microseconds; texts are times."""
    millis = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    plain = {"name": "at", "type": "long"}
    for field, value in ((millis, AT_US // 1_000), (AT, AT_US), (plain, AT_US)):
        writer = {"type": "record", "name": "Row", "fields": [field]}
        decoded = _decode(_record(), writer, [to_avro({"at": value}, writer)])
        assert decoded.event_us.tolist() == [AT_US]
    text = {"type": "record", "name": "Row", "fields": [{"name": "at", "type": "string"}]}
    topic = replace(_topic(text), columns=(Column("at", "timestamp", False),))
    records = [to_avro({"at": at}, text) for at in ("2013-01-01T00:00:00Z", "yesterday")]
    decoded = AvroDecoder(topic, json.dumps(text)).decode(chunk_of(records))
    assert decoded.event_us.tolist() == [AT_US]
    assert "at is not a time with a zone" in decoded.bad[0].reason


@pytest.mark.parametrize(
    ("writer", "reason"),
    [
        ("{", "not JSON"),
        ('"string"', "record"),
        ('{"type": "record", "name": "Order", "fields": [{"name": "x"}]}', "not valid"),
        (json.dumps({**AVRO_SCHEMA, "name": "Invoice"}), "shop.Invoice"),
        (json.dumps({**AVRO_SCHEMA, "fields": AVRO_SCHEMA["fields"][1:]}), "'user'"),
    ],
)
def test_a_writers_schema_that_cannot_be_read_is_named(writer: str, reason: str) -> None:
    """A schema that is none, of another record or without a needed field is refused."""
    with pytest.raises(AvroSchemaError, match=reason):
        AvroDecoder(AVRO.topic, writer)


NESTED = _record(
    {
        "name": "deep",
        "type": {
            "type": "record",
            "name": "Node",
            "fields": [
                {"name": "names", "type": {"type": "array", "items": "string"}},
                {"name": "more", "type": ["null", "Node"]},
                {"name": "nothing", "type": "null"},
                {"name": "two", "type": {"type": "fixed", "name": "Two", "size": 2}},
                {"name": "map", "type": {"type": "map", "values": ["double", "Two"]}},
                {"name": "color", "type": COLOR},
            ],
        },
    },
    {"name": "nodes", "type": {"type": "array", "items": "Node"}},
    {"name": "nulls", "type": {"type": "array", "items": "null"}},
    {"name": "flag", "type": "boolean"},
    {"name": "single", "type": "float"},
    {"name": "end", "type": "string"},
)
NODES = st.recursive(
    st.none(),
    lambda inner: st.fixed_dictionaries(
        {
            "names": st.lists(st.text(max_size=70), max_size=3),
            "more": inner,
            "nothing": st.none(),
            "two": st.binary(min_size=2, max_size=2),
            "map": st.dictionaries(st.text(max_size=3), st.floats(), max_size=3),
            "color": st.sampled_from(COLOR["symbols"]),
        }
    ),
    max_leaves=4,
).filter(lambda node: node is not None)


@settings(max_examples=100, deadline=None)
@given(
    deep=NODES,
    nodes=st.lists(NODES, max_size=3),
    nulls=st.lists(st.none(), max_size=200),
    end=st.text(max_size=3),
)
def test_nested_types_are_passed_over(deep: Any, nodes: Any, nulls: Any, end: str) -> None:
    """Records in records, lists, maps and fixed bytes are no columns and do no harm."""
    row = {"at": AT_US, "deep": deep, "nodes": nodes, "nulls": nulls, "end": end}
    record = to_avro({**row, "flag": True, "single": 0.5}, NESTED)
    topic = _topic(NESTED)
    assert [column.name for column in topic.columns] == ["at", "flag", "single", "end"]
    decoded = _decode(NESTED, NESTED, [record, record[:-1], record])
    assert decoded.columns["end"] == [end, end]
    assert [bad.index for bad in decoded.bad] == [1]


@settings(max_examples=300, deadline=None)
@given(records=st.lists(st.binary(max_size=60), max_size=5))
def test_noise_in_nested_types_is_bad(records: list[bytes]) -> None:
    """Whatever stands there, reading comes to an end and the next record is whole."""
    row: dict[str, Any] = {
        "names": ["n"],
        "more": None,
        "nothing": None,
        "two": b"22",
        "map": {},
        "color": "RED",
    }
    whole = {"at": AT_US, "deep": row, "nodes": [row], "nulls": [None], "end": "end"}
    good = to_avro({**whole, "flag": True, "single": 0.5}, NESTED)
    noisy = [good[:8] + record for record in records]
    decoded = _decode(NESTED, NESTED, [*noisy, good])
    assert decoded.index.tolist()[-1] == len(records)
    assert len(decoded.bad) + len(decoded.index) == len(records) + 1


def test_blocks_that_tell_their_size_are_passed_over() -> None:
    """A list may be written in blocks, some with their size in bytes; all are passed over."""
    schema = _record({"name": "list", "type": {"type": "array", "items": "string"}})
    items = b"\x02a\x02b"
    for block in (_number(2) + items, _number(-2) + _number(4) + items):
        record = _number(AT_US) + block + block + _number(0)
        assert _decode(schema, schema, [record]).bad == []
        assert _decode(schema, schema, [record[:-1]]).bad[0].reason == "ends within field 'list'"


NULLS = _record({"name": "nulls", "type": {"type": "array", "items": "null"}})
LOOP = _record(
    {
        "name": "loop",
        "type": {"type": "record", "name": "L", "fields": [{"name": "l", "type": "L"}]},
    }
)
CHAIN = _record(
    {
        "name": "chain",
        "type": {
            "type": "record",
            "name": "C",
            "fields": [{"name": "next", "type": ["null", "C"]}],
        },
    }
)


@pytest.mark.parametrize(
    ("schema", "rest", "reason"),
    [
        (NULLS, _number(2**62) + _number(0), ""),
        (NULLS, _number(2**62), "ends within"),
        (LOOP, b"", "nested too deeply"),
        (CHAIN, b"\2" * 1_000_000 + b"\0", "nested too deeply"),
        (CHAIN, b"\2" * 60 + b"\0", ""),
    ],
)
def test_nothing_takes_forever(schema: dict[str, Any], rest: bytes, reason: str) -> None:
    """Counts without contents and types within themselves end at once."""
    decoded = _decode(schema, schema, [_number(AT_US) + rest])
    assert len(decoded.bad) == (1 if reason else 0)
    assert not reason or reason in decoded.bad[0].reason


FLAT = _record(
    {"name": "text", "type": "string"},
    {"name": "number", "type": "int"},
    {"name": "flag", "type": "boolean"},
    {"name": "color", "type": COLOR},
    {"name": "maybe", "type": ["null", "double"]},
)
_TEXT, _INT, _FLAG, _COLOR, _NONE = b"\2x", b"\2", b"\1", b"\2", b"\0"


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ([b"\3", _INT, _FLAG, _COLOR, _NONE], "'text': a size is negative"),
        ([_number(2**40), _INT, _FLAG, _COLOR, _NONE], "ends within field 'text'"),
        ([b"\4\xff\xfe", _INT, _FLAG, _COLOR, _NONE], "text is not UTF-8"),
        ([_TEXT, b"\x80" * 10 + b"\1", _FLAG, _COLOR, _NONE], "'number': a number has more"),
        ([_TEXT, b"\xff" * 9 + b"\2", _FLAG, _COLOR, _NONE], "'number': a number has more"),
        ([_TEXT, _INT, b"\2", _COLOR, _NONE], "'flag': a boolean is 0 or 1"),
        ([_TEXT, _INT, _FLAG, b"\6", _NONE], "'color': its enum has no such symbol"),
        ([_TEXT, _INT, _FLAG, b"\1", _NONE], "'color': its enum has no such symbol"),
        ([_TEXT, _INT, _FLAG, _COLOR, b"\4"], "'maybe': its union has no such branch"),
        ([_TEXT, _INT, _FLAG, _COLOR, b"\1"], "'maybe': its union has no such branch"),
        ([_TEXT, _INT, _FLAG, _COLOR, b"\2" + b"\0" * 7], "ends within field 'maybe'"),
        ([_TEXT, _INT, _FLAG, _COLOR, _NONE, b"\0"], "goes on behind its last field"),
        ([_TEXT, _INT, _FLAG, _COLOR], "ends within field 'maybe'"),
    ],
)
def test_what_is_wrong_is_said(rest: list[bytes], reason: str) -> None:
    """A malformed record has its place and a reason that names the field."""
    good = _number(AT_US) + b"".join([_TEXT, _INT, _FLAG, _COLOR, _NONE])
    record = _number(AT_US) + b"".join(rest)
    decoded = _decode(FLAT, FLAT, [good, record, good])
    assert decoded.index.tolist() == [0, 2]
    assert decoded.columns["color"] == ["GREEN", "GREEN"]
    assert [(bad.index, bad.record) for bad in decoded.bad] == [(1, record)]
    assert reason in decoded.bad[0].reason


def test_the_widest_numbers_are_exact() -> None:
    """Integers of 64 bits come through, as their largest and smallest."""
    rows = [{**GOOD, "items": number} for number in (2**63 - 1, -(2**63), 0)]
    decoded = AVRO.decode([to_avro(row) for row in rows])
    assert decoded.columns["items"] == [2**63 - 1, -(2**63), 0]
