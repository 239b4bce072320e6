"""Protobuf: which fields are columns, what absence means, and what a message may not say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.plan import Column, Topic
from dataflows.sources.columns import Decoded
from dataflows.sources.decoding import make_decoder
from dataflows.sources.protobuf_schema import (
    ProtobufClassError,
    message_class,
    message_columns,
    message_place,
)
from tests.sources.chunks import chunk_of
from tests.sources.messages import OldOrder, Order, Other

PATH = "tests.sources.messages.Order"
FIELDS = message_columns(Order.DESCRIPTOR)
TOPIC = Topic("orders", FIELDS, "at", 0, "user", format="protobuf", schema=PATH)
AT_S = 1_356_998_400


def _order(**fields: Any) -> bytes:
    order = Order(user="u", **fields)
    order.at.seconds = AT_S
    written: bytes = order.SerializeToString()
    return written


def _decode(*records: bytes) -> Decoded:
    return make_decoder(TOPIC).decode(chunk_of(records))


def test_which_fields_are_columns() -> None:
    """Plain fields, times and wrappers are columns; what may be absent is nullable."""
    assert {(c.name, c.dtype, c.nullable) for c in FIELDS} == {
        ("user", "string", False),
        ("at", "timestamp", True),
        ("amount", "float64", True),
        ("items", "int64", True),
        ("is_gift", "bool", True),
        ("kind", "string", True),
        ("note", "string", True),
        ("small", "int64", False),
        ("large", "int64", False),
        ("weight", "float64", False),
        ("wrapped", "float64", True),
        ("seen", "timestamp", True),
    }


def test_absent_is_null_where_absence_can_be_told() -> None:
    """An `optional` field that is not there is null, one with the value zero is not."""
    absent, zero, old = (
        _order(),
        _order(amount=0.0, items=0, is_gift=False, kind=0, note=""),
        _order(small=-3, large=2**63 - 1, weight=0.5),
    )
    columns = _decode(absent, zero, old).columns
    assert np.array_equal(columns["amount"], [np.nan, 0, np.nan], equal_nan=True)
    assert columns["items"] == [None, 0, None]
    assert np.array_equal(columns["is_gift"], [np.nan, 0, np.nan], equal_nan=True)
    assert columns["kind"] == [None, "UNKNOWN", None]
    assert columns["note"] == [None, "", None]
    assert columns["small"] == [0, 0, -3]
    assert columns["large"] == [0, 0, 2**63 - 1]
    assert columns["weight"].tolist() == [0, 0, 0.5]


def test_messages_that_are_absent_are_null() -> None:
    """A wrapper or a time that is not there is null, one that is there and empty is zero."""
    order = Order(user="u")
    order.at.seconds = AT_S
    order.wrapped.SetInParent()
    order.seen.SetInParent()
    columns = _decode(_order(), order.SerializeToString()).columns
    assert np.array_equal(columns["wrapped"], [np.nan, 0], equal_nan=True)
    assert np.array_equal(columns["seen"], [np.nan, 0], equal_nan=True)


def test_a_time_is_cut_to_microseconds() -> None:
    """Nanoseconds, which other languages' clocks have, are cut off; other nonsense is bad."""
    records = []
    for nanos in (123_456_789, 999_999_999, 1_000_000_000, -1):
        order = Order(user="u")
        order.at.seconds, order.at.nanos = AT_S, nanos
        records.append(order.SerializeToString())
    decoded = _decode(*records)
    assert (decoded.event_us - AT_S * 1_000_000).tolist() == [123_456, 999_999]
    assert [bad.index for bad in decoded.bad] == [2, 3]
    assert all("nanoseconds" in bad.reason for bad in decoded.bad)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Order(user="u").SerializeToString(), "at is null"),
        (_order(large=2**63), "large does not fit into 64 bits"),
        (_order(weight=float("nan")), "weight is NaN"),
        (_order(weight=float("inf")), "weight is infinite"),
        (_order() + b"\x30\x63", "kind has a value that its enum does not have"),
        (_order() + b"\x0a\x02\xff\xfe", "UTF-8"),
        (_order()[:-1], "pars"),
        (_order() + b"\xff", "pars"),
    ],
)
def test_a_bad_message_is_set_aside(record: bytes, reason: str) -> None:
    """What cannot be used has a reason that names the field; its neighbours survive."""
    decoded = _decode(_order(), record, _order(items=5))
    assert [(bad.index, bad.record) for bad in decoded.bad] == [(1, record)]
    assert reason.lower() in decoded.bad[0].reason.lower()
    assert decoded.columns["items"] == [None, 5]


def test_an_old_message_may_lack_what_it_must_have() -> None:
    """Of proto2, required fields are looked for, defaults stand in, texts are checked."""
    columns = tuple(
        replace(one, dtype="timestamp") if one.name == "at" else one
        for one in message_columns(OldOrder.DESCRIPTOR)
    )
    assert {(one.name, one.nullable) for one in columns} == {
        ("user", False),
        ("at", False),
        ("items", True),
        ("boxes", False),
    }
    topic = replace(TOPIC, columns=columns, schema="tests.sources.messages.OldOrder")
    at = "2013-01-01T00:00:00Z"
    records = [
        OldOrder(user="u", at=at).SerializeToString(),
        OldOrder(user="u", at=at, items=1, boxes=2).SerializeToString(),
        OldOrder(at=at).SerializePartialToString(),
        OldOrder(user="u").SerializePartialToString(),
        OldOrder(user="u", at=at).SerializeToString() + b"\x0a\x02\xff\xfe",
        OldOrder(user="u", at="now").SerializeToString(),
    ]
    decoded = make_decoder(topic).decode(chunk_of(records))
    assert decoded.columns["items"] == [None, 1]
    assert decoded.columns["boxes"] == [7, 2]
    assert decoded.event_us.tolist() == [AT_S * 1_000_000] * 2
    reasons = [bad.reason for bad in decoded.bad]
    assert reasons[:3] == ["user is missing", "at is missing", "user is not UTF-8"]
    assert "at is not a time" in reasons[3]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (b"\2\2", ""),
        (b"\x82\0\2", ""),
        (b"\0", "message [0] of its file; shop.Order is [1]"),
        (b"\2\0", "message [0] of its file"),
        (b"\4\2\2", "message [1, 1] of its file"),
        (b"", "empty record"),
        (b"\2", "place of its message"),
        (b"\xff" * 12, "place of its message"),
    ],
)
def test_the_place_of_a_framed_message_is_checked(place: bytes, reason: str) -> None:
    """Behind the schema's number stands which message of its file it is; ours is the second."""
    decoder = make_decoder(replace(TOPIC, framing="schema-registry"))
    rest = b"" if reason in ("place of its message", "empty record") else _order()
    decoded = decoder.decode(chunk_of([b"\0\0\0\0\5" + place + rest]))
    assert [reason in bad.reason for bad in decoded.bad] == ([True] if reason else [])


def test_places_in_a_file() -> None:
    """A message's place is its number among its neighbours, below those of its parents."""
    assert message_place(Other.DESCRIPTOR) == (0,)
    assert message_place(Order.DESCRIPTOR) == (1,)
    assert message_place(Order.Box.DESCRIPTOR) == (1, 0)
    assert message_place(Order.Line.DESCRIPTOR) == (1, 1)


def test_the_first_message_of_a_file_has_a_short_place() -> None:
    """Place [0] may be written as one zero, as serializers do, or in full."""
    topic = replace(TOPIC, framing="schema-registry", schema="tests.sources.messages.OldOrder")
    columns = (Column("user", "string", False), Column("at", "timestamp", False))
    record = OldOrder(user="u", at="2013-01-01T00:00:00Z").SerializeToString()
    chunk = chunk_of([b"\0\0\0\0\5" + place + record for place in (b"\0", b"\2\0", b"\2\2")])
    decoded = make_decoder(replace(topic, columns=columns)).decode(chunk)
    assert decoded.index.tolist() == [0, 1]


def test_a_class_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path leads to a class, or to a nested one; else the error says what is wrong."""
    found: Any = message_class(PATH)
    assert found is Order
    assert message_class(f"{PATH}.Line") is found.Line
    (tmp_path / "broken_pb2.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "raising_pb2.py").write_text("raise RuntimeError('too old')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for path, reason in (
        ("Order", "form package.module_pb2.Message"),
        ("a b.Order", "form"),
        ("nowhere_pb2.Order", "no message class"),
        ("tests.sources.messages.Nothing", "no message class"),
        ("tests.sources.messages", "no message class"),
        ("broken_pb2.Order", "nowhere_to_be_found"),
        ("raising_pb2.Order", "too old"),
    ):
        with pytest.raises(ProtobufClassError, match=reason):
            message_class(path)
