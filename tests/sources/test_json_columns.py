"""The compiled loop takes what msgspec takes, with the same values, and leaves it all else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import Column, Topic
from dataflows.sources.columns import LATEST_US, parse_times
from dataflows.sources.decoding import JsonDecoder
from dataflows.sources.json_columns import JsonScan
from dataflows.sources.rfc3339 import NOT_PLAIN, times_us
from tests.sources.chunks import chunk_of
from tests.sources.orders import assert_same

TOPIC = Topic(
    "orders",
    (
        Column("user", "string", False),
        Column("at", "timestamp", False),
        Column("amount", "float64", True),
        Column("items", "int64", True),
        Column("is_gift", "bool", True),
        Column("sent", "timestamp", True),
        Column("note", "string", True),
    ),
    "at",
    0,
    "user",
)
DECODER = JsonDecoder(TOPIC)
SCAN = JsonScan(TOPIC.columns, "at")

_SPACES = st.sampled_from(["", "", " ", "\t", "\r", "\n", " \n ", "\v"])
_NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**64), 2**64).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["-0", "-0.0", "0e5", "01", "-", "1.", ".5", "1e", "1e+", "+1", "1e400"]),
)  # fmt: skip
_TEXTS = st.one_of(
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=6).map(json.dumps),
    st.sampled_from(['""', '"\x7f"', '"\t"', '"a', '"\\x"', '"\\ud800"', '"\\/"', '"\\u00"']),
)
_TIMES = st.one_of(
    st.datetimes().map(lambda time: f'"{time.isoformat()}Z"'),
    st.from_regex(
        r'"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-4])'
        r':[0-6][0-9](:[0-6][0-9](\.[0-9]{0,9})?)?(Z|[-+][0-2][0-9]:?[0-6][0-9])?"',
        fullmatch=True,
    ),
)
_WORDS = st.sampled_from(["null", "true", "false", "nul", "True", "nullx"])
_LEAVES = st.one_of(_NUMBERS, _TEXTS, _TIMES, _WORDS)
_NESTED = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[{' , '.join(values)}]"),
        st.lists(st.tuples(_TEXTS, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
        inner.map(lambda value: "{" + value + "]"),
        inner.map(lambda value: f"[{value},]"),
    ),
    max_leaves=6,
)
_GOOD = {
    "user": _TEXTS,
    "at": st.just('"2013-01-01T00:00:00.25+02:00"'),
    "amount": _NUMBERS,
    "items": _NUMBERS,
    "is_gift": st.sampled_from(["true", "false"]),
    "sent": _TIMES,
    "note": _TEXTS,
}


@st.composite
def _records(draw: st.DrawFn) -> bytes:
    """Objects that are good more often than not."""
    names = draw(st.permutations(list(_GOOD)))[: draw(st.integers(2, 7))]
    names += draw(st.lists(st.sampled_from([*_GOOD, "x", "users", "\\u0061t"]), max_size=2))
    members = []
    for name in dict.fromkeys(["user", "at", *names]) if draw(st.booleans()) else names:
        wanted = _GOOD.get(name, _NESTED)
        value = draw(st.one_of(wanted, wanted, st.just("null"), _NESTED))
        members.append(f'{draw(_SPACES)}"{name}"{draw(_SPACES)}:{draw(_SPACES)}{value}')
    body = draw(st.sampled_from(["{%s}", " {%s} ", "{%s}\r", "{%s", "{%s}}", "[%s]"]))
    return (body % ",".join(members)).encode("utf-8", "surrogatepass")


_LINES = st.lists(st.one_of(_records(), _records(), st.binary(max_size=5)), max_size=8)


@given(_LINES)
def test_what_the_loop_reads_is_what_msgspec_reads(lines: list[bytes]) -> None:
    """Rows, values to the last bit, bad records and reasons are those of msgspec alone."""
    found, wanted = DECODER.decode(chunk_of(lines)), DECODER._others(lines)
    assert_same(found, wanted)
    assert found.bad == wanted.bad
    for name in ("amount", "sent", "at", "is_gift"):
        # 0.0 and -0.0 are told apart.
        signs = np.signbit(found.columns[name]), np.signbit(wanted.columns[name])
        is_there = ~np.isnan(found.columns[name])
        assert np.array_equal(signs[0][is_there], signs[1][is_there])


_PLAIN: dict[str, Any] = {"user": "ü1", "at": "2013-01-01T00:00:00.000001Z"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"amount": 12.5, "items": -3, "is_gift": False, "note": None},
        {"amount": 0.1 + 0.2, "sent": "2099-12-31T23:59:59.999999+00:00"},
        {"other": {"a": [1, {"b": "\n"}, [], {}, True, None, 1e-7]}, "items": 10**17},
    ],
)
def test_common_records_are_plain(more: dict[str, Any]) -> None:
    """What producers write as a rule takes the fast way, printed over lines as well."""
    texts = [json.dumps({**_PLAIN, **more}, ensure_ascii=False, indent=i) for i in (None, 1)]
    assert SCAN.read(chunk_of([text.encode() for text in texts])).is_plain.all()


def test_one_record_that_is_not_utf8_costs_the_ascii_ones_nothing() -> None:
    """In a chunk that is no UTF-8, records of ASCII are plain all the same."""
    ascii_only = json.dumps({**_PLAIN, "user": "u1"}).encode()
    read = SCAN.read(chunk_of([ascii_only, ascii_only.replace(b"u1", b"\xff"), ascii_only]))
    assert read.is_plain.tolist() == [True, False, True]


@given(st.one_of(_TIMES, _TEXTS))
def test_plain_times_are_those_of_arrow(quoted: str) -> None:
    """A time that is read is the one that Arrow reads there."""
    found = _time_us(quoted.strip('"'))
    if found != NOT_PLAIN:
        assert found == parse_times("at", [quoted.strip('"')])[0]


@given(st.integers(0, LATEST_US - 1), st.sampled_from(["Z", "+00:00"]))
def test_common_times_are_plain(time_us: int, zone: str) -> None:
    """All that Python prints of the years in question is read."""
    time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=time_us)
    assert _time_us(time.isoformat().replace("+00:00", zone)) == time_us


def _time_us(text: str) -> int:
    """Read in the midst of other bytes, which must not be taken for parts of it."""
    held = text.encode()
    memory = np.frombuffer(b"9" + held + b"9", np.uint8)
    return int(times_us(memory, np.array([1]), np.array([len(held)]))[0])
