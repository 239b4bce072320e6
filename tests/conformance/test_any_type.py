"""Strings, booleans, integers and doubles go both ways between us and Feast, in both stores."""

from __future__ import annotations

import itertools
import math
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorer.errors import StoreUnavailableError
from scorer.online_store import wanted
from tests.conformance.stores import Cell, Row, Store, wanted_of
from tests.conformance.test_conformance import WAYS
from tests.conformance.views import PROFILES
from tests.scorer.found import Found

T0_US = 1_700_000_000_123_457
LONG = "\u6771\u4eac\U0001f5fc " * 90_000  # a megabyte
ROWS = [
    Row(("plain", 1), T0_US, ("Genoa", True, "Gen", 3, 0.25)),
    Row(("empty", 2), T0_US + 1, ("", False, "", 0, -0.0)),
    Row(("nulls", 3), T0_US, (None, None, None, None, None)),
    Row(("one null", 4), T0_US, (None, False, "x", -(2**53), math.inf)),
    Row(("odd", 5), T0_US, ("a\0b\0", True, "'\"\\\r\n\t;--", 127, 5e-324)),
    Row(("number", 6), T0_US, ("12", None, "True", 128, 1.0)),
    Row(("any script", 7), T0_US, ("Z\u00fcrich", True, "e\u0301\u200f\ufeff", 1, 1.0)),
    Row(("long", 8), T0_US, (LONG, False, "y" * 127 + "z", 1, 1.0)),
]
NAMES = [f"{PROFILES.name}:{one.feature}" for one in PROFILES.aggregates]
WANTED = [wanted_of(PROFILES, *row.keys) for row in ROWS]
ENTITIES = [dict(zip(PROFILES.join_keys, row.keys, strict=True)) for row in ROWS]


def test_feast_cannot_tell_our_rows_from_its_own(new_store: Callable[[], Store]) -> None:
    """Values of every type, their nulls and times are to Feast as if it had written them."""
    ours, feasts = new_store(), new_store()
    ours.we_write(PROFILES, ROWS)
    feasts.feast_writes_batch(PROFILES, ROWS)
    answers = ours.feast_reads(NAMES, ENTITIES)
    assert answers == feasts.feast_reads(NAMES, ENTITIES)
    for place, name in enumerate(NAMES):
        values = [answer.value for answer in answers[name]]
        assert values == [row.values[place] for row in ROWS]
        assert [type(value) for value in values] == [type(row.values[place]) for row in ROWS]


@pytest.mark.parametrize("way", WAYS)
def test_we_read_what_feast_writes(store: Store, way: str) -> None:
    """Whatever of Feast's ways wrote them, rows of every type come as they were."""
    WAYS[way](store, PROFILES, ROWS)
    expected = [(store.kept_us(row.stamp_us), list(row.values)) for row in ROWS]
    assert store.we_read_values(*WANTED) == expected
    assert store.we_read_values(wanted_of(PROFILES, "nobody", 1)) == [(None, [None] * 5)]


def test_we_read_what_we_write(store: Store) -> None:
    """Rows of every type come back as they were, with their microseconds."""
    store.we_write(PROFILES, ROWS)
    assert store.we_read_values(*WANTED) == [(row.stamp_us, list(row.values)) for row in ROWS]


def test_a_model_reads_the_numbers_beside_the_strings(store: Store) -> None:
    """What is no string can be read for a model; a string is refused by name."""
    store.we_write(PROFILES, ROWS)
    (one, *_) = WANTED
    numbers = wanted(one.view, ("score", "visits", "open"), one.entity_key)
    assert store.we_read(numbers) == [Found(T0_US, [0.25, 3.0, 1.0])]
    with pytest.raises(StoreUnavailableError, match="profiles:town holds text"):
        store.we_read(one)


def test_bytes_in_sqlite_are_feasts(tmp_path: Path) -> None:
    """Value and, of strings and booleans, its text are in the table as Feast puts them there."""
    online = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    found = []
    for write in (Store.we_write, Store.feast_writes_batch):
        project = f"test_{uuid.uuid4().hex}"
        store = Store.applied(project, online, 1_000_000, tmp_path)
        write(store, PROFILES, ROWS)
        write(store, PROFILES, [replace(row, stamp_us=row.stamp_us + 1) for row in ROWS[:3]])
        with closing(sqlite3.connect(tmp_path / "online.db")) as connection:
            query = (
                "SELECT entity_key, feature_name, value,"
                " CASE WHEN feature_name IN ('visits', 'score') THEN '' ELSE value_text END,"
                f" vector_value, created_ts FROM {project}_{PROFILES.name} ORDER BY 1, 2"
            )
            found.append(connection.execute(query).fetchall())
        store.feast.teardown()
    assert found[0] == found[1]
    assert {row[3] for row in found[0]} >= {None, "", "True", "False", "Genoa", LONG}


def test_a_text_goes_when_its_value_does(store: Store) -> None:
    """A row that has null where an older one had a string leaves nothing of it behind."""
    (row,) = ROWS[:1]
    store.feast_writes(PROFILES, [row])
    later = replace(row, stamp_us=T0_US + 10_000_000, values=(None, None, "Gen", 4, 0.5))
    store.we_write(PROFILES, [later])
    assert store.we_read_values(WANTED[0]) == [(later.stamp_us, list(later.values))]
    (answer,) = store.feast_reads(NAMES[:1], ENTITIES[:1])[NAMES[0]]
    assert answer.value is None
    path = store.online.get("path")
    if path is not None:
        table = f"{store.feast.config.project}_{PROFILES.name}"
        query = f"SELECT value_text FROM {table} WHERE feature_name IN ('town', 'open')"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute(query).fetchall() == [(None,), (None,)]


EXAMPLES = itertools.count()
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CELLS: list[st.SearchStrategy[Cell]] = [
    st.none() | TEXT,
    st.none() | st.booleans(),
    st.none() | st.sampled_from(["a", "", "\0"]),
    st.none() | st.integers(-(2**53), 2**53),
    st.none() | st.floats(allow_nan=False),
]
RANDOM_ROWS = st.lists(
    st.builds(
        Row,
        st.tuples(TEXT, st.integers(-(2**63), 2**63 - 1)),
        st.integers(0, 2**51),
        st.tuples(*CELLS),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row.keys,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=RANDOM_ROWS)
def test_any_row_survives_both_ways(store: Store, rows: list[Row]) -> None:
    """Random keys, times and values come back as they were, whoever of both wrote them."""
    # Feast does not replace a row by one that is as old: each example has entities of its own.
    example = next(EXAMPLES)
    ours = [replace(row, keys=(f"{example} ours {row.keys[0]}", row.keys[1])) for row in rows]
    feasts = [replace(row, keys=(f"{example} feast {row.keys[0]}", row.keys[1])) for row in rows]
    store.we_write(PROFILES, ours)
    entities = [dict(zip(PROFILES.join_keys, row.keys, strict=True)) for row in ours]
    for place, answers in enumerate(store.feast_reads(NAMES, entities).values()):
        assert [answer.value for answer in answers] == [row.values[place] for row in ours]
        assert [answer.stamp_us for answer in answers] == [
            store.kept_us(row.stamp_us) for row in ours
        ]
    store.feast_writes_batch(PROFILES, feasts)
    read = store.we_read_values(*(wanted_of(PROFILES, *row.keys) for row in feasts))
    assert read == [(store.kept_us(row.stamp_us), list(row.values)) for row in feasts]
