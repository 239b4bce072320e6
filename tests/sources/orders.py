"""One set of orders in every format, and what is compared of what was decoded."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

import fastavro
import numpy as np
from hypothesis import strategies as st

from contracts.plan import Column, Topic
from dataflows.sources.columns import LATEST_US, Decoded, RecordDecoder
from dataflows.sources.decoding import make_decoder
from tests.sources.chunks import chunk_of
from tests.sources.messages import Order

COLUMNS = (
    Column("user", "string", False),
    Column("at", "timestamp", False),
    Column("amount", "float64", True),
    Column("items", "int64", True),
    Column("is_gift", "bool", True),
    Column("kind", "string", True),
    Column("note", "string", True),
)
AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "user", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "amount", "type": ["null", "double"]},
        {"name": "items", "type": ["long", "null"]},
        {"name": "is_gift", "type": ["null", "boolean"]},
        {
            "name": "kind",
            "type": ["null", {"type": "enum", "name": "Kind", "symbols": ["WEB", "SHOP"]}],
        },
        {"name": "note", "type": ["null", "string"]},
    ],
}
MAGIC_AND_NUMBER = b"\0\0\0\1\2"
# Texts that UTF-8 can hold: no halves of surrogates.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
ROWS = st.fixed_dictionaries(
    {
        "user": TEXTS,
        "at": st.integers(0, LATEST_US - 1),
        "amount": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "items": st.none() | st.integers(-(2**63), 2**63 - 1),
        "is_gift": st.none() | st.booleans(),
        "kind": st.none() | st.sampled_from(["WEB", "SHOP"]),
        "note": st.none() | TEXTS,
    }
)
GOOD: dict[str, Any] = {
    "user": "u1",
    "at": 1_356_998_400_000_001,
    "amount": 1.5,
    "items": 3,
    "is_gift": True,
    "kind": "SHOP",
    "note": None,
}
Row = dict[str, Any]


def to_json(row: Row) -> bytes:
    """An order as JSON."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["at"])
    return json.dumps({**row, "at": at.isoformat()}).encode()


def to_avro(row: Row, schema: Any = None) -> bytes:
    """An order as Avro, written by fastavro."""
    file = io.BytesIO()
    fastavro.schemaless_writer(file, _parsed(json.dumps(schema or AVRO_SCHEMA)), row)
    return file.getvalue()


@cache
def _parsed(schema: str) -> Any:
    """What fastavro makes of a schema, once for all records: it takes longer than to write one."""
    return fastavro.parse_schema(json.loads(schema))


def to_protobuf(row: Row) -> bytes:
    """An order as Protobuf, written by Google's serializer."""
    order = Order(**{name: value for name, value in row.items() if name not in ("at", "kind")})
    order.at.seconds, microseconds = divmod(row["at"], 1_000_000)
    order.at.nanos = microseconds * 1_000
    if row["kind"] is not None:
        order.kind = row["kind"]
    written: bytes = order.SerializeToString()
    return written


@dataclass(frozen=True)
class Format:
    """One way of writing orders: the topic, and how an order becomes a record."""

    topic: Topic
    write: Callable[[Row], bytes]

    @property
    def framed(self) -> Format:
        """The same behind a schema registry's frame."""
        place = b"\2\2" if self.topic.format == "protobuf" else b""
        return Format(
            replace(self.topic, framing="schema-registry"),
            lambda row: MAGIC_AND_NUMBER + place + self.write(row),
        )

    def decode(self, records: list[bytes]) -> Decoded:
        """Decode records of this format, with the one decoder that all its tests have."""
        return self._decoder.decode(chunk_of(records))

    @cached_property
    def _decoder(self) -> RecordDecoder:
        return make_decoder(self.topic)


JSON = Format(Topic("orders", COLUMNS, "at", 0, "user"), to_json)
AVRO = Format(replace(JSON.topic, format="avro", schema=json.dumps(AVRO_SCHEMA)), to_avro)
PROTOBUF = Format(
    replace(JSON.topic, format="protobuf", schema="tests.sources.messages.Order"), to_protobuf
)
FORMATS = {
    f"{one.topic.format} {framing}": form
    for one in (JSON, AVRO, PROTOBUF)
    for framing, form in (("plain", one), ("framed", one.framed))
}


def assert_same(left: Decoded, right: Decoded) -> None:
    """The same rows and values, of the same types."""
    assert left.index.tolist() == right.index.tolist()
    assert left.event_us.tolist() == right.event_us.tolist()
    assert left.index.dtype == right.index.dtype
    assert left.event_us.dtype == right.event_us.dtype
    assert left.columns.keys() == right.columns.keys()
    for name, column in left.columns.items():
        other = right.columns[name]
        assert type(column) is type(other), name
        if isinstance(column, list):
            assert column == other, name
            assert list(map(type, column)) == list(map(type, other)), name
        else:
            assert np.array_equal(column, other, equal_nan=True), name


def assert_alone_is_together(form: Format, records: list[bytes]) -> None:
    """Which records are good, their values and the reasons do not depend on the neighbours."""
    together = form.decode(records)
    alone = [form.decode([record]) for record in records]
    good = [i for i, one in enumerate(alone) if not one.bad]
    assert together.index.tolist() == good
    assert [(bad.index, bad.record, bad.reason) for bad in together.bad] == [
        (i, records[i], one.bad[0].reason) for i, one in enumerate(alone) if one.bad
    ]
    assert together.event_us.tolist() == [int(alone[i].event_us[0]) for i in good]
    for name, column in together.columns.items():
        values = [alone[i].columns[name][0] for i in good]
        if isinstance(column, list):
            assert column == values
        else:
            assert np.array_equal(column, np.array(values, np.float64), equal_nan=True)


# What may happen to a record, and how many bytes of noise it takes, at least and at most.
_DAMAGES = {"good": (0, 0), "change": (1, 1), "cut": (0, 0), "add": (1, 12), "noise": (0, 40)}


@dataclass(frozen=True)
class Damaged:
    """An order that is written and then damaged, or not: the same for all formats."""

    row: Row
    how: str
    place: int
    noise: bytes

    def write(self, form: Format) -> bytes:
        """A good record, or one with a byte changed, cut off, added, or nothing but noise."""
        record = form.write(self.row)
        place = self.place % max(len(record), 1)
        if self.how == "noise":
            return self.noise
        if self.how == "add":
            return record + self.noise
        if self.how == "good":
            return record
        return record[:place] + (self.noise + record[place + 1 :] if self.noise else b"")


@st.composite
def damaged(draw: st.DrawFn) -> Damaged:
    """Any of these."""
    how = draw(st.sampled_from(list(_DAMAGES)))
    least, most = _DAMAGES[how]
    noise = draw(st.binary(min_size=least, max_size=most)) if most else b""
    return Damaged(draw(ROWS), how, draw(st.integers(0, 250)), noise)
