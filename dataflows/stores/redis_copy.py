"""Makes Redis hold, for some views, exactly what a SQLite online store of ours holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis
from redis.cluster import RedisCluster

from contracts.feast_bytes import decode_value
from contracts.feast_redis import redis_field, redis_key, redis_timestamp_field
from contracts.online_store import RedisConfig
from contracts.plan import View
from dataflows.stores.redis_client import open_client, store_errors
from dataflows.stores.redis_scan import entity_keys, views_of
from dataflows.stores.redis_writer import RedisOnlineWriter

_ROWS_AT_ONCE = 10_000
# A row with texts may be long.
_TEXT_ROWS_AT_ONCE = 100
_FLOAT64_TAG = 0x29
_NULL_CELL = b"\x00" * 9


def copy_to_redis(
    sqlite_path: Path,
    project: str,
    views: Sequence[View],
    config: RedisConfig,
    timeout_seconds: float = 10.0,
) -> None:
    """Write every row of the views to Redis and remove those that the file does not have.

    First each row is written, then whatever Redis has beyond them loses the views' fields; a key
    without fields is gone. Other views' and other projects' fields stay. A view without a table in
    the file has no rows. Doing it again, also after a part of it, gives the same. Holds a bounded
    number of rows in memory.

    Args:
        sqlite_path: a file that SqliteOnlineWriter has written.
        project: Feast project, of the file and in Redis.
        views: what to copy; ``plan.views``.
        config: where to.
        timeout_seconds: longest wait for one answer.

    Raises:
        FileNotFoundError: there is no such file.
        OnlineStoreGoneError: Redis does not answer; call again later.
        OnlineStoreError: it refuses; the message says what to do.
        sqlite3.Error: the file cannot be read.
    """
    if not sqlite_path.exists():
        raise FileNotFoundError(f"no online store at {sqlite_path}")
    uri = f"{sqlite_path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        there = {name for (name,) in names}
        tables = {view: _quoted(t) for view in views if (t := f"{project}_{view.name}") in there}
        with closing(RedisOnlineWriter(config, project, timeout_seconds)) as writer:
            for view, table in tables.items():
                for keys, stamps_us, values, texts in _rows(connection, table, view):
                    writer.write(view, keys, stamps_us, values, texts)
                    writer.commit()
        with store_errors(config), closing(open_client(config, timeout_seconds)) as client:
            for entities in entity_keys(client, project):
                stale = [
                    (entity, view)
                    for entity in entities
                    for view in views_of(entity, views)
                    if view not in tables or not _has(connection, tables[view], entity)
                ]
                _remove(client, project, stale)


def _rows(
    connection: sqlite3.Connection, table: str, view: View
) -> Iterator[tuple[list[bytes], npt.NDArray[np.int64], npt.NDArray[np.float64], list[str]]]:
    """Keys, stamps, values and their texts of a table, one row per entity, some at a time."""
    cells = ", ".join(
        f"max(CASE feature_name WHEN {_text(aggregate.feature)} THEN value END)"
        for aggregate in view.aggregates
    )
    cursor = connection.execute(
        f"SELECT entity_key, max(event_us), {cells} FROM {table} GROUP BY entity_key"
    )
    has_texts = any(aggregate.dtype == "string" for aggregate in view.aggregates)
    at_once = min(_ROWS_AT_ONCE, _TEXT_ROWS_AT_ONCE) if has_texts else _ROWS_AT_ONCE
    while chunk := cursor.fetchmany(at_once):
        texts: dict[bytes, int] = {}
        keys, stamps_us, *columns = zip(*chunk, strict=True)
        values = np.empty((len(chunk), len(columns)))
        for place, (aggregate, column) in enumerate(zip(view.aggregates, columns, strict=True)):
            if aggregate.dtype == "float64":
                values[:, place] = _doubles(column)
            elif aggregate.dtype == "string":
                values[:, place] = [_place(cell, texts) for cell in column]
            else:
                values[:, place] = [_number(cell) for cell in column]
        found = [str(decode_value(cell)) for cell in texts]
        yield list(keys), np.array(stamps_us, dtype=np.int64), values, found


def _doubles(cells: Sequence[bytes | None]) -> npt.NDArray[np.float64]:
    """Feast's bytes of doubles as an array, null as NaN; all at once."""
    joined = b"".join([cell or _NULL_CELL for cell in cells])
    parts = np.frombuffer(joined, dtype=[("tag", "u1"), ("value", "<f8")])
    values: npt.NDArray[np.float64] = np.where(parts["tag"] == _FLOAT64_TAG, parts["value"], np.nan)
    return values


def _number(cell: bytes | None) -> float:
    value = decode_value(cell or b"")
    return float("nan") if value is None else float(value)


def _place(cell: bytes | None, texts: dict[bytes, int]) -> float:
    """The place of a string among those met so far, and of a new one behind them."""
    return texts.setdefault(cell, len(texts)) if cell else float("nan")


def _has(connection: sqlite3.Connection, table: str, entity: bytes) -> bool:
    query = f"SELECT 1 FROM {table} WHERE entity_key = ? LIMIT 1"
    return connection.execute(query, (entity,)).fetchone() is not None


def _remove(
    client: redis.Redis | RedisCluster, project: str, stale: Sequence[tuple[bytes, View]]
) -> None:
    """Take the fields of a view from each entity's hash."""
    if not stale:
        return
    with client.pipeline(transaction=False) as pipe:
        for entity, view in stale:
            fields = [redis_field(view.name, a.feature) for a in view.aggregates]
            pipe.hdel(redis_key(project, entity), redis_timestamp_field(view.name), *fields)
        pipe.execute()


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
