"""Digests change when contents change, and only then."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository
from dataflows.stores.digest import digest_models, digest_parquet, digest_sqlite
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from tests.stores.shop import PROJECT, VIEW

SCHEMA = pa.schema(
    [("t", pa.timestamp("us", "UTC")), ("k", pa.string()), ("n", pa.int64()), ("x", pa.float64())]
)
Row = tuple[int, str | None, int | None, float | None]
ROW = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["", "a", "b", None]),
    st.sampled_from([0, 1, -1, None]),
    st.sampled_from([0.0, -0.0, 1.0, math.inf, math.nan, None]),
)


def write(folder: Path, name: str, rows: list[Row], schema: pa.Schema = SCHEMA) -> None:
    """One Parquet file of rows."""
    folder.mkdir(exist_ok=True)
    columns = dict(zip(SCHEMA.names, zip(*rows, strict=True) if rows else [[]] * 4, strict=True))
    arrays = [pa.array(list(columns[field.name]), field.type) for field in schema]
    pq.write_table(pa.table(arrays, schema=schema), folder / name)


def shown(rows: list[Row]) -> list[str]:
    """The rows as a multiset that tells 0.0 from -0.0 and knows one NaN."""
    return sorted(map(repr, rows))


@given(st.lists(ROW, max_size=4), st.lists(ROW, max_size=4), st.integers(0, 4))
def test_parquet_digests_agree_when_rows_do(
    tmp_path_factory: pytest.TempPathFactory, one: list[Row], other: list[Row], cut: int
) -> None:
    """Two tables have one digest exactly when they have the same rows, however cut into files."""
    folder = tmp_path_factory.mktemp("digest")
    write(folder / "one", "a.parquet", one)
    write(folder / "other", "b.parquet", other[cut:])
    write(folder / "other", "a.parquet", other[:cut])
    same = digest_parquet(folder / "one") == digest_parquet(folder / "other")
    assert same == (shown(one) == shown(other))
    write(folder / "mixed", "a.parquet", one[::-1], pa.schema(list(SCHEMA)[::-1]))
    assert digest_parquet(folder / "mixed") == digest_parquet(folder / "one")


def test_parquet_digest_knows_names_and_types(tmp_path: Path) -> None:
    """The same values under another column name or type are another table."""
    numbers = pa.array([1, 2], pa.int64())
    tables = [
        pa.table({"a": numbers}),
        pa.table({"b": numbers}),
        pa.table({"a": numbers.cast(pa.int32())}),
        pa.table({"a": numbers, "b": numbers}),
        pa.table({"a": pa.array([2, 1]), "b": numbers}),
    ]
    digests = set()
    for table in tables:
        pq.write_table(table, tmp_path / "t.parquet")
        digests.add(digest_parquet(tmp_path / "t.parquet"))
    assert len(digests) == len(tables)


def test_parquet_digest_refuses_files_that_disagree(tmp_path: Path) -> None:
    """Files of one folder with different columns are no table."""
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"2\.parquet has other columns"):
        digest_parquet(tmp_path)


def test_sqlite_digest_is_of_contents(tmp_path: Path) -> None:
    """The order and number of writes do not count; a value, a null or a microsecond does."""
    keys = [entity_key(VIEW.join_keys, VIEW.join_key_types, ("JFK", n)) for n in range(3)]
    stamps = np.array([5, 6, 7]) + 10**15
    values = np.array([[1.0, 2, 0], [math.nan, 3, 1], [2.0, 4, 1]])

    def digest(name: str, order: list[int], stamps: object, values: object) -> str:
        writer = SqliteOnlineWriter(tmp_path / name, PROJECT)
        for place in order:
            here = slice(place, place + 1)
            writer.write(VIEW, keys[here], np.asarray(stamps)[here], np.asarray(values)[here])
            writer.commit()
        writer.close()
        return digest_sqlite(tmp_path / name, PROJECT)

    base = digest("a", [0, 1, 2], stamps, values)
    assert digest("b", [2, 1, 0, 2, 1], stamps, values) == base
    assert digest("c", [0, 1, 2], stamps + np.array([0, 0, 1]), values) != base
    assert digest("d", [0, 1, 2], stamps, np.where(values == 3, 5, values)) != base
    assert digest("e", [0, 1], stamps, values) != base
    with sqlite3.connect(tmp_path / "a") as connection:
        connection.execute(f"CREATE TABLE {PROJECT}_notes (entity_key BLOB)")
    connection.close()
    assert digest_sqlite(tmp_path / "a", PROJECT) == base
    with pytest.raises(FileNotFoundError, match="no online store"):
        digest_sqlite(tmp_path / "none", PROJECT)


def test_models_digest_ignores_who_made_them(tmp_path: Path) -> None:
    """Commit, maker, offsets and channels do not count; a metric or another model does."""

    def digest(name: str, onnx: bytes = b"model", **changes: object) -> str:
        repository = ModelRepository(tmp_path / name)
        schema = FeatureSchema("shop", (VectorField("amount", "request", "float64", 0.0),))
        fields: dict[str, object] = {
            "model": "late",
            "version": "1",
            "schema": schema,
            "fingerprint": schema.fingerprint,
            "learner": "LogisticRegression",
            "trained_from_us": 0,
            "trained_until_us": 10,
            "examples": 12,
            "metrics": {"auc": 0.7},
            "parity": {"rows": 3, "max_abs_diff": 0.0},
            "git_commit": "abc",
            "parent": None,
            "sha256": sha256_hex(onnx),
            "created_by": "test",
        }
        repository.publish(Manifest(**{**fields, **changes}), onnx)  # type: ignore[arg-type]
        return digest_models(tmp_path / name)

    base = digest("a")
    assert digest("b", git_commit="", created_by="me", offsets={"t/0": 7}) == base
    repository = ModelRepository(tmp_path / "a")
    repository.set_channel("late", "champion", "1", "first", "test", 0)
    assert digest_models(tmp_path / "a") == base
    others = [
        digest("c", metrics={"auc": 0.71}),
        digest("d", onnx=b"other"),
        digest("e", version="2"),
    ]
    assert len({base, *others}) == 4
    assert digest_models(tmp_path / "empty") not in {base, *others}
