"""What a replay gathers: values as the live writer has them, whatever definitions say by then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.feast_columns import encode_column
from contracts.feature_schema import ValueType
from contracts.online_store import SqliteConfig
from contracts.plan import Aggregate, View
from dataflows.stores.digest import digest_sqlite
from dataflows.stores.gathered_layout import layout_of
from dataflows.stores.gathered_rows import GatheredRows
from dataflows.stores.gathering_writer import GatheringWriter
from dataflows.stores.online_writer import OnlineStoreError, OnlineWriter
from dataflows.stores.refill import add_values, replace_values
from dataflows.stores.sqlite_writer import SqliteOnlineWriter

PROJECT = "shop"
TYPES: tuple[ValueType, ...] = ("float64", "int64", "bool", "string")
# Where the length that stands before a text takes a byte more.
TEXTS = ["", "a", "a\0b", "\u6771\u4eac", *("x" * n for n in (127, 128, 16_383, 16_384))]
NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 127.0, 128.0, -1.0, 2.0**62, -(2.0**63), np.nan]),
    st.floats(-(2.0**62), 2.0**62),
)


def view_of(dtypes: list[ValueType], name: str = "rides") -> View:
    """A view with a feature of each of these types; places and names have another order."""
    aggregates = tuple(
        Aggregate(f"it's {len(dtypes) - place:03}", dtype, "x", "last", 0, 0)
        for place, dtype in enumerate(dtypes)
    )
    return View(name, "topic", ("card",), ("string",), aggregates, 0, "")


def values_for(view: View, numbers: list[float]) -> np.ndarray:
    """One row for each number, as each feature can hold it."""
    values = np.repeat(np.array(numbers)[:, None], len(view.aggregates), axis=1)
    for place, aggregate in enumerate(view.aggregates):
        column = values[:, place]
        if aggregate.dtype == "int64":
            values[:, place] = np.trunc(column)
        elif aggregate.dtype == "bool":
            values[:, place] = np.where(np.isnan(column), np.nan, column > 0)
        elif aggregate.dtype == "string":
            values[:, place] = np.where(np.isnan(column), np.nan, np.abs(column) % len(TEXTS) // 1)
    return values


def fill(writer: OnlineWriter, view: View, values: np.ndarray, first_us: int = 10**15) -> None:
    """A row for each entity, named by their numbers."""
    keys = [b"card %d" % number for number in range(len(values))]
    with closing(writer):
        writer.ensure_table(view)
        writer.write(view, keys, first_us + np.arange(len(keys)) * 999_999, values, TEXTS)
        writer.commit()


def live_rows(path: Path, view: View) -> set[tuple[object, ...]]:
    """Every column of the view's table."""
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute(f'SELECT * FROM "{PROJECT}_{view.name}"'))


@given(
    st.lists(st.sampled_from(TYPES), min_size=1, max_size=6),
    st.lists(NUMBERS, min_size=1, max_size=9),
)
@example([*TYPES], [*map(float, range(len(TEXTS))), np.nan])
@settings(max_examples=20)
def test_put_in_place_values_are_what_the_writer_writes(
    dtypes: list[ValueType], numbers: list[float]
) -> None:
    """Of all types, in every column that Feast reads; and the digests are one."""
    view = view_of(dtypes)
    values = values_for(view, numbers)
    with TemporaryDirectory() as name:
        gathered, live, wanted = (Path(name) / each for each in ("gathered", "live", "wanted"))
        fill(GatheringWriter(gathered, PROJECT), view, values)
        fill(SqliteOnlineWriter(wanted, PROJECT), view, values)
        replace_values(gathered, PROJECT, [view], SqliteConfig(live), "new")
        assert live_rows(live, view) == live_rows(wanted, view)
        digests = {digest_sqlite(path, PROJECT) for path in (gathered, live, wanted)}
        assert len(digests) == 1


@given(
    st.lists(st.sampled_from(TYPES), min_size=1, max_size=6),
    st.lists(NUMBERS, min_size=1, max_size=9),
)
@settings(max_examples=40)
def test_a_row_is_taken_apart_as_it_was_put_together(
    dtypes: list[ValueType], numbers: list[float]
) -> None:
    """Each feature's bytes are those of ``encode_column``."""
    view = view_of(dtypes)
    values, layout = values_for(view, numbers), layout_of(PROJECT, view)
    blobs, *texts = layout.columns(values, TEXTS)
    assert {len(blob) for blob in blobs} == {layout.numbers_size}
    assert [list(column) for column in layout.values(blobs, texts)] == [
        encode_column(dtype, values[:, place], TEXTS) for place, dtype in enumerate(dtypes)
    ]


def test_the_newest_row_of_an_entity_is_kept(tmp_path: Path) -> None:
    """A replay that goes on from an earlier epoch writes old rows again: they change nothing."""
    view = view_of(["float64", "string"])
    for first_us, number in ((10**15, 1.0), (10**15 + 5, 2.0), (10**15 + 4, 3.0)):
        path = tmp_path / "gathered"
        fill(GatheringWriter(path, PROJECT), view, values_for(view, [number]), first_us)
    fill(SqliteOnlineWriter(tmp_path / "w", PROJECT), view, values_for(view, [2.0]), 10**15 + 5)
    assert digest_sqlite(path, PROJECT) == digest_sqlite(tmp_path / "w", PROJECT)


def test_what_was_gathered_outlasts_other_definitions(tmp_path: Path) -> None:
    """After a crash in the middle of a handover definitions may be others; values stay theirs."""
    then = view_of(["int64", "float64", "bool"])
    now = replace(then, aggregates=then.aggregates[:0:-1])
    values = values_for(then, [3.0, np.nan])
    fill(GatheringWriter(tmp_path / "gathered", PROJECT), then, values)
    replace_values(tmp_path / "gathered", PROJECT, [now], SqliteConfig(tmp_path / "live"), "new")
    assert digest_sqlite(tmp_path / "live", PROJECT) == digest_sqlite(
        tmp_path / "gathered", PROJECT
    )
    with closing(GatheredRows(tmp_path / "gathered", PROJECT, [now])) as rows:
        assert [len(fields) for _, fields in rows.entities()] == [8, 8]


def test_what_another_version_gathered_is_refused(tmp_path: Path) -> None:
    """A row for each value, as it was gathered once, is not taken for no rows at all."""
    view = view_of(["float64"])
    fill(SqliteOnlineWriter(tmp_path / "old", PROJECT), view, values_for(view, [1.0]))
    live = tmp_path / "live"
    fill(SqliteOnlineWriter(live, PROJECT), view, values_for(view, [2.0]))
    before = digest_sqlite(live, PROJECT)
    for put in (replace_values, add_values):
        with pytest.raises(OnlineStoreError, match="from another version of Headwater"):
            put(tmp_path / "old", PROJECT, [view], SqliteConfig(live), "new")
        assert digest_sqlite(live, PROJECT) == before
    with pytest.raises(OnlineStoreError, match="from another version of Headwater"):
        GatheredRows(tmp_path / "old", PROJECT, [view])
