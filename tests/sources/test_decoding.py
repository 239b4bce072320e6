"""Decoding a batch of records: the good ones survive, each bad one is named with its reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import Column, Topic
from dataflows.sources.columns import Decoded
from dataflows.sources.decoding import make_decoder
from tests.sources.chunks import chunk_of

TOPIC = Topic(
    "orders",
    (
        Column("user", "string", False),
        Column("at", "timestamp", False),
        Column("amount", "float64", True),
        Column("items", "int64", True),
        Column("is_gift", "bool", True),
    ),
    "at",
    0,
    "user",
)
GOOD = b'{"user":"u1","at":"2013-01-01T00:00:00.000001Z","amount":1.5,"items":3,"is_gift":true}'


def _with(**changes: object) -> bytes:
    return json.dumps({**json.loads(GOOD), **changes}).encode()


def _without(name: str) -> bytes:
    return json.dumps({k: v for k, v in json.loads(GOOD).items() if k != name}).encode()


BAD = {
    "not json": (b"not json", "malformed"),
    "cut short": (GOOD[:30], "truncated"),
    "no object": (b"[1, 2]", "object"),
    "null": (b"null", "null"),
    "empty": (b"", "empty record"),
    "blanks": (b"   ", "empty record"),
    "two objects": (GOOD + GOOD, "trailing characters"),
    "two objects apart": (GOOD + b" " + GOOD, "trailing characters"),
    "missing field": (_without("user"), "`user`"),
    "missing time": (_without("at"), "`at`"),
    "null in not null": (_with(user=None), "user"),
    "null time": (_with(at=None), "at"),
    "number for text": (_with(user=7), "user"),
    "text for number": (_with(amount="1.5"), "amount"),
    "boolean for number": (_with(amount=True), "amount"),
    "number for boolean": (_with(is_gift=1), "is_gift"),
    "fraction for integer": (_with(items=1.5), "items"),
    "NaN": (GOOD.replace(b"1.5", b"NaN"), "malformed"),
    "Infinity": (GOOD.replace(b"1.5", b"Infinity"), "malformed"),
    "number too large": (GOOD.replace(b"1.5", b"1e999"), "amount"),
    "65 bits": (_with(items=2**63), "items"),
    "minus 65 bits": (_with(items=-(2**63) - 1), "items"),
    "naive time": (_with(at="2013-01-01T00:00:00"), "at is not a time with a zone"),
    "no time": (_with(at="yesterday"), "at is not a time"),
    "impossible day": (_with(at="2013-02-30T00:00:00Z"), "at is not a time"),
    "nanoseconds": (_with(at="2013-01-01T00:00:00.123456789Z"), "at is not a time"),
    "before 1970": (_with(at="1969-12-31T23:59:59Z"), "at is not between"),
    "after 2100": (_with(at="2100-01-01T00:00:00Z"), "at is not between"),
    "not UTF-8": (GOOD.replace(b"u1", b"\xff\xfe"), "UTF-8"),
    "half a surrogate": (GOOD.replace(b"u1", b"\\ud800"), ""),
    "nested too deep": (GOOD[:-1] + b',"x":' + b"[" * 90_000 + b"]" * 90_000 + b"}", "deeply"),
}
_LINES = st.sampled_from(
    [
        GOOD,
        _with(amount=None, items=None, is_gift=None),
        _with(user="ü\n\u0000"),
        _with(at="2013-01-01T02:00:00+02:00", other={"deep": [1]}),
        b"  " + GOOD + b" ",
        GOOD + b"\r",
        json.dumps(json.loads(GOOD), indent=1).encode(),
        GOOD + b"\n" + GOOD,
        b"\r\n" + GOOD,
        b"\n",
        b'{"user":"open",',
        b'"at":"2013-01-01T00:00:00Z"}',
        *(line for name, (line, _) in BAD.items() if name != "nested too deep"),
    ]
)


def _decode(lines: list[bytes]) -> Decoded:
    return make_decoder(TOPIC).decode(chunk_of(lines))


def test_values_come_as_their_types() -> None:
    """Text and integers stay exact, numbers and booleans are doubles, null is NaN or None."""
    decoded = _decode([_with(items=2**63 - 1), _with(amount=None, items=None, is_gift=None)])
    assert decoded.bad == []
    assert decoded.index.tolist() == [0, 1]
    assert decoded.event_us.tolist() == [1_356_998_400_000_001] * 2
    assert decoded.columns["user"] == ["u1", "u1"]
    assert decoded.columns["items"] == [2**63 - 1, None]
    assert np.array_equal(decoded.columns["amount"], [1.5, np.nan], equal_nan=True)
    assert np.array_equal(decoded.columns["is_gift"], [1.0, np.nan], equal_nan=True)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_set_aside_and_its_neighbours_survive(name: str) -> None:
    """One bad record has its place, its bytes and a reason; those around it are decoded."""
    line, reason = BAD[name]
    decoded = _decode([GOOD, GOOD, line, _with(user="u2"), GOOD])
    assert [(bad.index, bad.record) for bad in decoded.bad] == [(2, line)]
    assert reason in decoded.bad[0].reason
    assert decoded.index.tolist() == [0, 1, 3, 4]
    assert decoded.columns["user"] == ["u1", "u1", "u2", "u1"]


def test_as_many_objects_as_lines_may_still_be_misplaced() -> None:
    """Two objects on one line and none on the next are two bad records, not two good ones."""
    decoded = _decode([GOOD + b" " + GOOD, b"", GOOD])
    assert [bad.index for bad in decoded.bad] == [0, 1]
    assert decoded.index.tolist() == [2]
    decoded = _decode([GOOD[:-1], b"}", GOOD + GOOD])
    assert [bad.index for bad in decoded.bad] == [0, 1, 2]


def test_no_records_are_no_rows() -> None:
    """An empty batch decodes to nothing, in all columns."""
    decoded = _decode([])
    assert (decoded.bad, len(decoded.index), len(decoded.event_us)) == ([], 0, 0)
    assert {name: len(column) for name, column in decoded.columns.items()} == {
        "user": 0, "at": 0, "amount": 0, "items": 0, "is_gift": 0,
    }  # fmt: skip


def test_a_record_may_run_over_lines() -> None:
    """A record of Kafka may be printed over lines; what makes it bad does so there, too."""
    pretty = json.dumps(json.loads(GOOD), indent=2).encode()
    windows = pretty.replace(b"\n", b"\r\n")
    two = GOOD + b"\n" + GOOD
    raw = GOOD.replace(b"u1", b"u\n1")
    records = [GOOD, pretty, windows, two, b"\n" + GOOD + b"\n", b"\r\n", raw, b"{\n}", GOOD]
    decoded = _decode(records)
    assert decoded.index.tolist() == [0, 1, 2, 4, 8]
    assert decoded.columns["user"] == ["u1"] * 5
    assert [(bad.index, bad.record) for bad in decoded.bad] == [
        (i, records[i]) for i in (3, 5, 6, 7)
    ]
    reasons = [bad.reason for bad in decoded.bad]
    assert "trailing characters" in reasons[0]
    assert reasons[1] == "empty record"
    for record in records:
        assert len(_decode([record]).bad) == (record in (two, b"\r\n", raw, b"{\n}"))


@given(st.lists(_LINES, max_size=40))
def test_a_batch_is_what_its_records_are_one_by_one(lines: list[bytes]) -> None:
    """Which records are good, their values and the reasons do not depend on the neighbours."""
    together = _decode(lines)
    alone = [_decode([line]) for line in lines]
    good = [i for i, one in enumerate(alone) if not one.bad]
    assert together.index.tolist() == good
    assert [(bad.index, bad.record, bad.reason) for bad in together.bad] == [
        (i, one.bad[0].record, one.bad[0].reason) for i, one in enumerate(alone) if one.bad
    ]
    assert together.event_us.tolist() == [int(alone[i].event_us[0]) for i in good]
    for name, column in together.columns.items():
        values = [alone[i].columns[name][0] for i in good]
        if isinstance(column, list):
            assert column == values
        else:
            assert np.array_equal(column, np.array(values, np.float64), equal_nan=True)
