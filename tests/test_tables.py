"""A view's offline rows, of every type: what we write, DuckDB, pyarrow and Feast read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Bool, Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import given
from hypothesis import strategies as st

from contracts.feast_bytes import entity_key
from contracts.feature_schema import ValueType as Kind
from contracts.plan import Aggregate, View
from dataflows.batches import ViewRows
from dataflows.stores.day_table import DayTable
from dataflows.tables import view_batch, view_table
from dataflows.windows.view_state import Rows

T0_US = 1_700_000_000_123_457
TYPES: dict[str, Kind] = {"town": "string", "open": "bool", "visits": "int64", "score": "float64"}
VIEW = View(
    name="profiles",
    topic="events",
    join_keys=("user", "shop"),
    join_key_types=("string", "int64"),
    aggregates=tuple(Aggregate(n, kind, n, "latest", 0, 0) for n, kind in TYPES.items()),
    ttl_us=0,
    offline_path="",
)
TEXTS = ["nobody's", "", "Genoa", "a\0b", "\u6771\u4eac\U0001f5fc", "x" * 1_000_000]
KEYS = [("ann", 1), ("", -(2**63)), ("\u6771\u4eac", 7)]
# (key, stamp, code of the town, open, visits, score)
CELLS: list[tuple[int, int, float, float, float, float]] = [
    (0, T0_US, 2.0, 1.0, 3.0, 0.25),
    (1, T0_US, 1.0, 0.0, 0.0, -0.0),
    (0, T0_US + 1, math.nan, math.nan, math.nan, math.nan),
    (2, T0_US + 2_000_000, 3.0, 1.0, -(2.0**53), math.inf),
    (1, T0_US + 86_400_000_000, 4.0, math.nan, 1.0, 5e-324),
    (2, T0_US + 86_400_000_001, 5.0, 0.0, 128.0, 1.5),
]
ROWS: list[tuple[Any, ...]] = [
    ("ann", 1, T0_US, "Genoa", True, 3, 0.25),
    ("", -(2**63), T0_US, "", False, 0, -0.0),
    ("ann", 1, T0_US + 1, None, None, None, None),
    ("\u6771\u4eac", 7, T0_US + 2_000_000, "a\0b", True, -(2**53), math.inf),
    ("", -(2**63), T0_US + 86_400_000_000, "\u6771\u4eac\U0001f5fc", None, 1, 5e-324),
    ("\u6771\u4eac", 7, T0_US + 86_400_000_001, TEXTS[5], False, 128, 1.5),
]


def rows_of(cells: Sequence[tuple[int, int, float, float, float, float]]) -> ViewRows:
    """The rows as a shard gives them."""
    keys = [entity_key(VIEW.join_keys, VIEW.join_key_types, key) for key in KEYS]
    slots = np.array([cell[0] for cell in cells], np.int64)
    stamps = np.array([cell[1] for cell in cells], np.int64)
    values = np.array([cell[2:] for cell in cells], np.float64).reshape(-1, len(TYPES))
    return ViewRows(keys, Rows(slots, stamps, values), TEXTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The view's files after its rows came in two batches over two days."""
    spec = view_table(VIEW, tmp_path / "profiles")
    table = DayTable(spec, tmp_path / "wal")
    for part in (CELLS[:2], CELLS[2:]):
        table.append(view_batch(spec, VIEW, rows_of(part)))
        table.snapshot()
    table.advance(T0_US + 3 * 86_400_000_000)
    table.close()
    return tmp_path / "profiles"


def test_a_file_for_each_day_with_columns_of_their_types(folder: Path) -> None:
    """Strings and booleans are columns of their own types, and each day is one file."""
    files = sorted(folder.glob("*.parquet"))
    assert [file.name for file in files] == ["2023-11-14.parquet", "2023-11-15.parquet"]
    for file in files:
        types = dict(zip(pq.read_schema(file).names, pq.read_schema(file).types, strict=True))
        assert [types[name] for name in TYPES] == [
            pa.string(),
            pa.bool_(),
            pa.int64(),
            pa.float64(),
        ]


def test_duckdb_reads_every_row(folder: Path) -> None:
    """DuckDB sees the values with their types and their nulls."""
    with closing(duckdb.connect()) as connection:
        found = connection.execute(
            'SELECT "user", shop, epoch_us(event_timestamp), town, open, visits, score'
            f" FROM read_parquet('{folder}/*.parquet')"
        ).fetchall()
    assert sorted(found, key=repr) == sorted(ROWS, key=repr)


def test_feast_joins_them_at_any_time(folder: Path, tmp_path: Path) -> None:
    """Feast's point-in-time join finds strings and booleans, and nulls where they are null."""
    types = {"string": String, "bool": Bool, "int64": Int64, "float64": Float64}
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    entities = [
        Entity(name="user", join_keys=["user"], value_type=ValueType.STRING),
        Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64),
    ]
    keys = zip(VIEW.join_keys, VIEW.join_key_types, strict=True)
    fields = [Field(name=n, dtype=types[kind]) for n, kind in [*keys, *TYPES.items()]]
    source = FileSource(path=str(folder), timestamp_field="event_timestamp")
    view = FeatureView(
        name=VIEW.name, entities=entities, schema=fields, source=source, ttl=timedelta(0)
    )
    store.apply([*entities, view])
    asked = pd.DataFrame(
        [row[:3] for row in ROWS],
        columns=["user", "shop", "event_timestamp"],
    )
    asked["event_timestamp"] = pd.to_datetime(asked["event_timestamp"], unit="us", utc=True)
    names = [f"{VIEW.name}:{name}" for name in TYPES]
    found = store.get_historical_features(asked, names).to_df()
    seen = {
        (row.user, row.shop, _us(row.event_timestamp)): [
            None if pd.isna(cell) else cell for cell in (row.town, row.open, row.visits, row.score)
        ]
        for row in found.itertuples()
    }
    assert seen == {row[:3]: list(row[3:]) for row in ROWS}


@given(st.lists(st.sampled_from(CELLS), max_size=12), st.integers(0, 12))
def test_batches_hold_the_rows_in_their_order(
    cells: list[tuple[int, int, float, float, float, float]], cut: int
) -> None:
    """Cut anywhere, batches give the rows one by one, in the types of the table."""
    spec = view_table(VIEW, Path("unused"))
    batches = [view_batch(spec, VIEW, rows_of(part)) for part in (cells[:cut], cells[cut:])]
    expected = [ROWS[CELLS.index(cell)] for cell in cells]
    found = [
        tuple(row[name] for name in ("user", "shop", "event_timestamp", *TYPES))
        for batch in batches
        for row in batch.to_pylist()
    ]
    assert [(*row[:2], _us(row[2]), *row[3:]) for row in found] == expected


def _us(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
