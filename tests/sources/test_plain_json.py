"""The compiled loop takes what msgspec takes, with the same values, and leaves it all else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import Column, Topic
from dataflows.sources.columns import LATEST_US, Decoded
from dataflows.sources.decoding import JsonDecoder
from dataflows.sources.plain_chunks import PlainChunks
from tests.sources.chunks import chunk_of
from tests.sources.orders import to_json

TOPIC = Topic(
    "orders",
    (
        Column("user", "string", False),
        Column("at", "timestamp", False),
        Column("amount", "float64", True),
        Column("items", "int64", True),
        Column("is_gift", "bool", True),
        Column("sent", "timestamp", True),
        Column("a note that is long", "string", True),
    ),
    "at",
    0,
    "user",
)
DECODER = JsonDecoder(TOPIC)
PLAIN = PlainChunks(TOPIC.columns, "at")
GOOD = b'{"user":"u1","at":"2013-01-01T00:00:00.000001Z"}'

_NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**64), 2**64).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["-0", "-0.0", "0e5", "01", "-", "1.", ".5", "1e", "1e+", "+1", "1e400"]),
)  # fmt: skip
_TEXTS = st.one_of(
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=6).map(json.dumps),
    st.sampled_from(['""', '"\x7f"', '"\t"', '"a', '"\\x"', '"\\ud800"', '"\\/"', '"\\u00"']),
    st.sampled_from(['"\x1f"', '"abcdefg\x1f"', '"abcdefgh\\"', '"!\x21\x20~"', '"\\"', '"a\nb"']),
)
_TIMES = st.one_of(
    st.datetimes().map(lambda time: f'"{time.isoformat()}Z"'),
    st.from_regex(
        r'"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-4])'
        r':[0-6][0-9](:[0-6][0-9](\.[0-9]{0,9})?)?(Z|[-+][0-2][0-9]:?[0-6][0-9])?"',
        fullmatch=True,
    ),
)
_WORDS = st.sampled_from(["null", "true", "false", "nul", "True", "nullx", "[1]", "{}", ""])
_ANY = st.one_of(_NUMBERS, _TEXTS, _TIMES, _WORDS)
_FITTING = {
    "user": _TEXTS,
    "at": st.just('"2013-01-01T00:00:00.25+02:00"'),
    "amount": _NUMBERS,
    "items": _NUMBERS,
    "is_gift": st.sampled_from(["true", "false"]),
    "sent": _TIMES,
    "a note that is long": _TEXTS,
}


_COMMON = {
    "user": '"u1"',
    "at": '"2013-01-01T00:00:00.25+02:00"',
    "amount": "12.5",
    "items": "-3",
    "is_gift": "true",
    "sent": '"2024-02-29T23:59:59Z"',
    "a note that is long": '"a note"',
    "x": "1",
}
_DAMAGE = st.sampled_from(
    ["{%s}\r", "{%s", "{%s}}", "{%s,}", "[%s]", " {%s}", "{%s} ", "{,%s}", "{%s", '{%s,"x":1}']
)


@st.composite
def _records(draw: st.DrawFn) -> bytes:
    """Common objects but for one member, or for one thing about them."""
    members = draw(st.permutations(list(_COMMON.items())))[: draw(st.integers(0, 8))]
    members = [one for one in members if one[0] not in ("user", "at")]
    members += [("user", _COMMON["user"]), ("at", _COMMON["at"])]
    name = draw(st.sampled_from([*_FITTING, *_FITTING, "x", "users", "\\u0061t"]))
    value = draw(st.one_of(_FITTING.get(name, _ANY), _FITTING.get(name, _ANY), _ANY))
    if draw(st.integers(0, 9)):
        members = [one for one in members if one[0] != name]
    members.insert(draw(st.integers(0, len(members))), (name, value))
    space = draw(st.sampled_from(["", " "]))
    parts = [f'{space}"{name}":{space}{value}' for name, value in members]
    if not draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(parts) - 1))
        parts[place] = parts[place].replace(":", draw(st.sampled_from([" :", ":  ", ":\t", ""])))
    body = "{%s}" if draw(st.integers(0, 9)) else draw(_DAMAGE)
    return (body % ",".join(parts)).encode("utf-8", "surrogatepass")


@given(st.lists(st.one_of(_records(), _records(), st.binary(max_size=5)), min_size=4, max_size=8))
def test_what_the_loop_reads_is_what_msgspec_reads(records: list[bytes]) -> None:
    """A chunk that is taken has no bad records, and the same values to the last bit."""
    for place, record in enumerate(records):
        chunk = chunk_of([GOOD, record] if place % 2 else [record, GOOD])
        found = PLAIN.read(chunk)
        if found is not None:
            _assert_same(found, DECODER.decode(chunk))


@given(st.lists(_records(), max_size=4).map(b"".join))
def test_no_bytes_make_it_read_astray(record: bytes) -> None:
    """Nor do records with newlines in them, as Kafka may have."""
    chunk = chunk_of([record.replace(b",", b",\n"), GOOD])
    found = PLAIN.read(chunk)
    if found is not None:
        _assert_same(found, DECODER.decode(chunk))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"amount": 12.5, "items": -3, "is_gift": False, "sent": None},
        {"amount": 0.1 + 0.2, "sent": "2099-12-31T23:59:59.999999+00:00", "is_gift": True},
        {"amount": 1e-7, "items": 10**17, "other": "x" * 30, "more": [None, -1.5, False][1]},
        {"a note that is long": "ü" * 9, "nothing": None, "yes": True, "no": False},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_common_records_are_plain(more: dict[str, Any], separators: tuple[str, str]) -> None:
    """What producers write as a rule takes the fast way, in whatever order."""
    row = {"user": "ü1", "at": "2013-01-01T00:00:00.000001Z", **more}
    rows = [row, dict(reversed(row.items()))]
    texts = [json.dumps(row, ensure_ascii=False, separators=separators) for row in rows]
    chunk = chunk_of([text.encode() for text in texts])
    found = PLAIN.read(chunk)
    assert found is not None
    _assert_same(found, DECODER.decode(chunk))


_DAYS = """1969-12-31 1970-01-01 2000-02-29 2023-00-01 2023-01-00 2023-02-29 2023-04-31 2023-12-32
2023-13-01 2024-02-29 2024-03-01 2099-12-31 2100-01-01"""
_CLOCKS = """00:00:00+00:01 00:01:00+00:01 00:00:60Z 00:60:00Z 23:59:59.1234567Z 23:59:59.123456Z
23:59:59.Z 23:59:59 23:59:59z 23:59:59+24:00 23:59:59-23:59 24:00:00Z 23:59Z 23:59:59+0100"""
_INTEGERS = """-0 1.0 1e3 007 999999999999999999 -999999999999999999 9223372036854775807
9223372036854775808 -9223372036854775808 -9223372036854775809 9999999999999999999
10000000000000000000 18446744073709551616"""
_DOUBLES = """-0 -0.0 0e-300 9007199254740991 9007199254740993 1e22 1e23 9007199254740993.0 0.1e-22
123456789012345678.5 1234567890123456789.5 1e-400 1e308 1e309 4.35 0.1234567890123456789 1e0004
1e+5 1E5 1.e5 1e 1e+ - -. .5 1."""
_BOUNDS = {
    "items": _INTEGERS.split(),
    "amount": _DOUBLES.split(),
    "at": [f'"{day}T00:00:00Z"' for day in _DAYS.split()],
    "sent": [f'"1970-01-01T{clock}"' for clock in _CLOCKS.split()],
    "user": [
        '"\\n"',
        '"12345678\\""',
        '""',
        '"a\\u0031"',
        "null",
        '"\x7f"',
        '"1234567\x1f"',
        '"\x1f"',
        '"ÿ"',
    ],
}


@pytest.mark.parametrize("name", list(_BOUNDS))
def test_values_at_the_bounds_of_what_is_plain(name: str) -> None:
    """Each is read as msgspec reads it, or left to it; some of them are read."""
    read = 0
    for value in _BOUNDS[name]:
        members = {**_COMMON, name: value}
        record = ",".join(f'"{name}":{value}' for name, value in members.items()).encode("latin-1")
        chunk = chunk_of([b"{%s}" % record, GOOD])
        found = PLAIN.read(chunk)
        if found is not None:
            read += 1
            _assert_same(found, DECODER.decode(chunk))
    assert read >= 2


_BEHIND = b',"user":"u2"} ,"x"} ,"x":} ,} }} "} '.split(b" ")


@pytest.mark.parametrize(
    "odd",
    [b"{}", b"null", b"[]", b" " + GOOD, GOOD + b" ", GOOD * 2]
    + [GOOD[:-1] + end for end in _BEHIND],
)
def test_what_is_no_common_object_is_left_to_msgspec(odd: bytes) -> None:
    """Whatever stands before and behind it."""
    for records in ([odd, GOOD], [GOOD, odd], [GOOD, odd, GOOD]):
        assert PLAIN.read(chunk_of(records)) is None


@given(st.integers(0, LATEST_US - 1), st.sampled_from([b"Z", b"+00:00"]))
def test_common_times_are_plain(time_us: int, zone: bytes) -> None:
    """All that Python prints of the years in question is read."""
    row = {"user": "u", "amount": None, "items": None, "is_gift": None, "at": time_us}
    found = PLAIN.read(chunk_of([to_json(row).replace(b"+00:00", zone)]))
    assert found is not None
    assert found.event_us.tolist() == [time_us]


def test_names_that_may_be_written_otherwise_are_left_alone() -> None:
    """A name that JSON may write with escapes is not looked for by its bytes."""
    columns = [*TOPIC.columns[:2], Column("ü", "int64", True), Column('"', "int64", True)]
    assert PLAIN.read(chunk_of([GOOD])) is not None
    for odd in columns[2:]:
        assert PlainChunks([*columns[:2], odd], "at").read(chunk_of([GOOD])) is None


def test_large_chunks_are_read_like_small_ones() -> None:
    """Of a chunk that the loop takes rows, columns and times are those of its parts."""
    rows = [{"user": f"u{i}", "at": i, "amount": i / 7, "items": i or None} for i in range(2_000)]
    records = [to_json(row) for row in rows]
    whole = JsonDecoder(TOPIC).decode(chunk_of(records))
    assert not isinstance(whole.columns["user"], list), "the chunk is too small for the loop"
    parts = [DECODER.decode(chunk_of(records[i : i + 500])) for i in range(0, 2_000, 500)]
    for name, column in whole.columns.items():
        wanted = [value for part in parts for value in part.columns[name]]
        if isinstance(column, np.ndarray):
            assert np.array_equal(column, wanted, equal_nan=True)
        else:
            assert column == wanted
    assert whole.columns["items"][:2] == [None, 1]
    assert np.asarray(whole.columns["items"], np.float64)[1] == 1.0


def test_one_record_that_is_not_plain_leaves_the_chunk_to_msgspec() -> None:
    """Escapes, bad records and bytes that are no UTF-8 are decoded as ever, with their reasons."""
    many = [GOOD] * 2_000
    for odd in (GOOD.replace(b"u1", b"\\u0031"), b"no", GOOD.replace(b"u1", b"\xff")):
        found = DECODER.decode(chunk_of([*many, odd]))
        alone = DECODER.decode(chunk_of([odd]))
        assert [replace(bad, index=0) for bad in found.bad] == alone.bad
        assert len(found.index) + len(found.bad) == 2_001


def _assert_same(found: Decoded, wanted: Decoded) -> None:
    assert not wanted.bad
    assert found.index.tolist() == wanted.index.tolist()
    assert found.event_us.tolist() == wanted.event_us.tolist()
    for name, column in wanted.columns.items():
        if isinstance(column, list):
            assert list(found.columns[name]) == column
        else:
            # 0.0 and -0.0 are told apart.
            is_there = ~np.isnan(column)
            assert np.array_equal(found.columns[name], column, equal_nan=True)
            signs = np.signbit(found.columns[name]), np.signbit(column)
            assert np.array_equal(signs[0][is_there], signs[1][is_there])
