"""Digests of what a run leaves behind: equal exactly when the contents are equal.

They look at contents, not at files: how rows are spread over files, compression, the order of
writing and SQLite's pages do not count.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.feast_redis import (
    decode_timestamp,
    redis_field,
    redis_key,
    redis_timestamp_field,
)
from contracts.manifest import learned_number
from contracts.model_repository import ModelRepository
from contracts.online_store import RedisConfig
from contracts.plan import View
from dataflows.stores.gathered_layout import Layout, gathered_layouts
from dataflows.stores.gathered_rows import gathered_chunks
from dataflows.stores.redis_client import open_client, store_errors
from dataflows.stores.redis_scan import entity_keys, views_of
from dataflows.stores.sqlite_file import quoted, tables_in

_U64 = npt.NDArray[np.uint64]
_NULL = 0x6E75_6C6C
_NAN = 0x7FF8_0000_0000_0000
# Odd constants with well spread bits: two lanes make 128 bits for each row.
_LANES = (0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F)
# What ``Manifest.same_version_as`` leaves out too.
_ABOUT_THE_RUN = ("git_commit", "created_by", "offsets")


def digest_parquet(path: Path) -> str:
    """SHA-256 (hex) over the rows of all ``*.parquet`` files below a folder, or of one file.

    The set of rows with their multiplicity counts, and names and types of columns; the order of
    rows and columns does not. Each row goes in as a 128 bit hash of its values, so two different
    tables agree by chance only, not by intent. A null differs from NaN, all NaN are one.

    Raises:
        ValueError: the files disagree about their columns, or have a type we cannot hash.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    columns: dict[str, pa.DataType] | None = None
    rows: list[_U64] = []
    for file in files:
        with file.open("rb") as opened:
            table = pq.read_table(opened)
        here = {field.name: field.type for field in sorted(table.schema, key=lambda f: f.name)}
        if columns is not None and here != columns:
            raise ValueError(f"{file} has other columns than the files before it in {path}")
        columns = here
        rows.append(_row_hashes(table, list(here)))
    digest = hashlib.sha256(repr([(n, str(t)) for n, t in (columns or {}).items()]).encode())
    if rows:
        first, second = np.concatenate(rows, axis=1)
        order = np.lexsort((second, first))
        digest.update(np.stack((first[order], second[order])).tobytes())
    return digest.hexdigest()


def digest_sqlite(path: Path, project: str) -> str:
    """SHA-256 (hex) over all feature tables of a project in a SQLite online store.

    Entity key, feature, value and event time (microseconds where we wrote it) of every row count;
    a table without rows is as none. Equal to ``digest_redis`` of the same rows, and to that of a
    file in which they were gathered.

    Raises:
        FileNotFoundError: there is no such file.
        sqlite3.Error: it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"no online store at {path}")
    rows = _RowSum()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        gathered = gathered_layouts(connection)
        for name in tables_in(connection):
            if not name.startswith(f"{project}_"):
                continue
            view = name[len(project) + 1 :]
            if name in gathered:
                _add_gathered(rows, view, connection, gathered[name])
            else:
                _add_table(rows, view, connection, quoted(name))
    return rows.hexdigest()


def _add_table(rows: _RowSum, view: str, connection: sqlite3.Connection, table: str) -> None:
    """Add a table as Feast has it; others that a project may have are nothing to us."""
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if not {"entity_key", "feature_name", "value", "event_ts"} <= columns:
        return
    stamp = "NULL" if "event_us" not in columns else "event_us"
    # SQLite puts the parts of an entity together in less time than it gives them out one by one.
    found = connection.execute(
        "SELECT entity_key, group_concat(hex(feature_name) || ':'"
        " || CASE WHEN value IS NULL THEN 'null' ELSE hex(value) END || ':'"
        f" || CASE WHEN {stamp} / 1000000 = event_ts THEN {stamp}"
        f" ELSE ifnull(event_ts * 1000000, 'null') END) FROM {table} GROUP BY entity_key"
    )
    for key, parts in found:
        rows.add(view, key, ",".join(sorted(parts.split(","))))


def _add_gathered(rows: _RowSum, view: str, connection: sqlite3.Connection, layout: Layout) -> None:
    names = [_hex(slot.feature.encode()) for slot in layout.slots]
    order = sorted(range(len(names)), key=lambda place: f"{names[place]}:")
    for chunk in gathered_chunks(connection, layout):
        # In the order in which they are sorted, whatever the values are.
        columns = [
            [f"{names[place]}:{_hex(value)}" for value in chunk.values[place]] for place in order
        ]
        for key, stamp_us, *cells in zip(chunk.keys, chunk.stamps_us, *columns, strict=True):
            end = f":{stamp_us}"
            rows.add(view, key, f"{end},".join(cells) + end)


def digest_redis(
    config: RedisConfig, project: str, views: Sequence[View], timeout_seconds: float = 10.0
) -> str:
    """SHA-256 (hex) over the rows of some views of a project in a Redis online store.

    Entity key, feature, value and event time of every row count, and fields that are there without
    an event time; other views, projects and expiry do not. Equal to ``digest_sqlite`` of the same
    rows. Holds the keys of the project in memory.

    Args:
        config: the store.
        project: Feast project.
        views: whose rows count; ``plan.views``.
        timeout_seconds: longest wait for one answer.

    Raises:
        OnlineStoreGoneError: Redis does not answer.
        OnlineStoreError: it refuses us.
        ValueError: an event time cannot be read.
    """
    rows = _RowSum()
    seen: set[bytes] = set()
    with store_errors(config), closing(open_client(config, timeout_seconds)) as client:
        for keys in entity_keys(client, project):
            fresh = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(fresh)
            wanted = [(key, view) for key in fresh for view in views_of(key, views)]
            with client.pipeline(transaction=False) as pipe:
                for key, view in wanted:
                    fields = [redis_field(view.name, a.feature) for a in view.aggregates]
                    names = [redis_timestamp_field(view.name), *fields]
                    pipe.hmget(redis_key(project, key), names)
                found = pipe.execute()
            for (key, view), (stamp, *values) in zip(wanted, found, strict=True):
                stamp_us = None if stamp is None else decode_timestamp(stamp)
                parts = [
                    _part(aggregate.feature, value, stamp_us)
                    for aggregate, value in zip(view.aggregates, values, strict=True)
                    if value is not None
                ]
                if stamp is not None or parts:
                    parts = sorted(parts) or [_part("", None, stamp_us)]
                    rows.add(view.name, key, ",".join(parts))
    return rows.hexdigest()


def _part(feature: str, value: bytes | None, stamp_us: int | None) -> str:
    """One value of an entity as ``_RowSum`` is given it."""
    shown = "null" if value is None else _hex(value)
    return f"{_hex(feature.encode())}:{shown}:{'null' if stamp_us is None else stamp_us}"


def _hex(value: bytes) -> str:
    """As SQLite writes it."""
    return value.hex().upper()


class _RowSum:
    """A digest of rows that does not depend on their order: the sum of their hashes."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0

    def add(self, view: str, key: bytes, parts: str) -> None:
        """Count all values of an entity: each as ``_part`` has it, sorted, with commas between."""
        row = f"{view!r} {key!r} {parts}".encode()
        self._sum += int.from_bytes(hashlib.blake2b(row, digest_size=32).digest(), "little")
        self._count += 1

    def hexdigest(self) -> str:
        """SHA-256 of all that was added."""
        return hashlib.sha256(f"{self._count} {self._sum:x}".encode()).hexdigest()


def digest_models(root: Path) -> str:
    """SHA-256 (hex) over every version that the dataflow learned, of every model of a repository.

    Models and manifests count, without what differs by run: commit, maker and offsets read;
    channels and audit, which people change, do not, nor do versions of batch training, which no
    replay makes.

    Raises:
        ModelRepositoryError: a version is corrupt.
    """
    repository = ModelRepository(root)
    digest = hashlib.sha256()
    for model in repository.models():
        for version in repository.versions(model):
            if learned_number(version) is None:
                continue
            manifest, onnx = repository.load(model, version)
            fields = json.loads(manifest.to_json())
            for name in _ABOUT_THE_RUN:
                fields.pop(name, None)
            text = json.dumps(fields, sort_keys=True)
            digest.update(f"{model}/{version} {hashlib.sha256(onnx).hexdigest()} {text}\n".encode())
    return digest.hexdigest()


def _row_hashes(table: pa.Table, columns: list[str]) -> _U64:
    """uint64[2, n]: two independent hashes of every row."""
    lanes = np.zeros((2, table.num_rows), dtype=np.uint64)
    for name in columns:
        bits = _column_bits(name, table.column(name).combine_chunks())
        for lane, factor in zip(lanes, _LANES, strict=True):
            # splitmix64's finisher after each column: order of columns and every bit count.
            lane *= np.uint64(factor)
            lane += bits
            lane ^= lane >> np.uint64(30)
            lane *= np.uint64(0xBF58_476D_1CE4_E5B9)
            lane ^= lane >> np.uint64(27)
            lane *= np.uint64(0x94D0_49BB_1331_11EB)
            lane ^= lane >> np.uint64(31)
    return lanes


def _column_bits(name: str, column: pa.Array) -> _U64:
    """uint64[n]: the same number for the same value, another one (nearly surely) for another."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    bits: _U64
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        bits = numbers.view(np.uint64).copy()
        bits[np.isnan(numbers)] = _NAN
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        whole = column.fill_null(False if pa.types.is_boolean(kind) else 0)
        bits = whole.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    elif pa.types.is_timestamp(kind):
        bits = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        coded = column.cast(pa.binary()).fill_null(b"").dictionary_encode()
        hashes = [
            int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little")
            for value in coded.dictionary.to_pylist()
        ]
        places = coded.indices.to_numpy(zero_copy_only=False)
        bits = np.array(hashes, dtype=np.uint64)[places] if hashes else np.zeros(0, np.uint64)
    else:
        raise ValueError(f"column {name!r} has type {kind}, which has no digest")
    if column.null_count:
        mixed = bits * np.uint64(_LANES[0])
        mixed[column.is_null().to_numpy(zero_copy_only=False)] = _NULL
        return mixed
    return bits * np.uint64(_LANES[0])
