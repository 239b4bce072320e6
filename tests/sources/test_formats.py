"""What all formats, plain and framed, have in common: the same records make the same columns."""

from __future__ import annotations

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.sources.orders import (
    FORMATS,
    GOOD,
    JSON,
    ROWS,
    Damaged,
    Row,
    assert_alone_is_together,
    assert_same,
    damaged,
)

ALL = pytest.mark.parametrize("name", FORMATS)


# Rows take longer to draw than to decode, so all formats have the same ones.
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, max_size=20))
def test_all_formats_make_the_same_columns(rows: list[Row]) -> None:
    """Records written by other libraries decode to the columns of their twins in JSON."""
    for name, form in FORMATS.items():
        note(name)
        decoded = form.decode([form.write(row) for row in rows])
        assert decoded.bad == []
        assert_same(decoded, JSON.decode([JSON.write(row) for row in rows]))


@settings(max_examples=100, deadline=None)
@given(st.lists(damaged(), max_size=12))
def test_no_bytes_stop_the_flow(some: list[Damaged]) -> None:
    """Of damaged records and noise each is good or bad by itself, whatever stands beside it."""
    for name, form in FORMATS.items():
        note(name)
        good = form.write(GOOD)
        assert_alone_is_together(form, [good, *(one.write(form) for one in some), good])


@ALL
@pytest.mark.parametrize("at", [-1, 4_102_444_800_000_000, 2**62])
def test_an_event_time_out_of_bounds_is_bad(name: str, at: int) -> None:
    """Event times before 1970 and from 2100 on are mistakes in every format."""
    form = FORMATS[name]
    if at > 2**61 and form.topic.format == "json":
        pytest.skip("JSON's times are texts")
    decoded = form.decode([form.write({**GOOD, "at": at}), form.write(GOOD)])
    assert [(bad.index, bad.record) for bad in decoded.bad] == [(0, form.write({**GOOD, "at": at}))]
    assert "at is not between the years 1970 and 2100" in decoded.bad[0].reason
    assert decoded.index.tolist() == [1]


@ALL
def test_an_empty_record_is_bad(name: str) -> None:
    """A record without bytes, as Kafka has for deletions, is bad in every format."""
    form = FORMATS[name]
    decoded = form.decode([b"", form.write(GOOD)])
    assert [(bad.index, bad.reason) for bad in decoded.bad] == [(0, "empty record")]
    assert decoded.index.tolist() == [1]


@ALL
def test_a_chunk_of_bad_records_has_empty_columns(name: str) -> None:
    """When nothing is good the columns are there, of their types, and empty."""
    form = FORMATS[name]
    decoded = form.decode([b"\1\2\3", b""])
    assert len(decoded.bad) == 2
    assert_same(decoded, JSON.decode([]))


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.startswith("json")])
@pytest.mark.parametrize(
    ("value", "reason"), [(float("inf"), "infinite"), (float("-inf"), "infinite")]
)
def test_infinity_is_bad(name: str, value: float, reason: str) -> None:
    """What JSON cannot say, and no sum could forget, is bad in every format."""
    form = FORMATS[name]
    decoded = form.decode([form.write(GOOD), form.write({**GOOD, "amount": value})])
    assert [(bad.index, bad.reason) for bad in decoded.bad] == [(1, f"amount is {reason}")]


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.startswith("json")])
def test_nan_is_null(name: str) -> None:
    """NaN counts as null: where null may be it is one."""
    form = FORMATS[name]
    decoded = form.decode([form.write({**GOOD, "amount": float("nan")})])
    assert_same(decoded, JSON.decode([JSON.write({**GOOD, "amount": None})]))
