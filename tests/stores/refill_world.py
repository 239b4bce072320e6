"""Views that share entities, and stores that hold given rows of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from contracts.feast_bytes import entity_key
from contracts.feature_schema import ValueType
from contracts.online_store import RedisConfig, parse_online_store
from contracts.plan import Aggregate, View
from dataflows.stores.online_writer import GatheredFile, OnlineWriter, open_online_writer
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter

# Others may use the same Redis.
PROJECT = f"test_{uuid.uuid4().hex}"
# View's name -> entity -> its value; what else there is of a row follows from it.
Rows = Mapping[str, Mapping[str, int]]
TEXTS = ["", "{brace}", "a}b", "\u6771\u4eac"]


def _view(name: str, dtypes: Sequence[ValueType], join_key: str = "card") -> View:
    aggregates = tuple(
        Aggregate(f"f{place}", dtype, "x", "last", 0, 0) for place, dtype in enumerate(dtypes)
    )
    return View(name, "topic", (join_key,), ("string",), aggregates, 0, "")


VIEWS = (
    _view("rides", ("float64", "int64")),
    _view("tips", ("string",)),
    _view("notes", ("bool", "float64")),
    _view("shops", ("float64",), "shop"),
)


def redis_at(address: str, **settings: object) -> RedisConfig:
    """The configuration of a Redis."""
    config = parse_online_store({"type": "redis", "connection_string": address, **settings}, Path())
    assert isinstance(config, RedisConfig)
    return config


def write(writer: OnlineWriter, rows: Rows) -> None:
    """Let a writer write all of it; a view without rows gets no table."""
    for view in VIEWS:
        if rows.get(view.name):
            writer.ensure_table(view)
    for view in VIEWS:
        of_view = rows.get(view.name, {})
        keys = [entity_key(view.join_keys, ("string",), [entity]) for entity in of_view]
        numbers = np.array(list(of_view.values()), dtype=np.int64)
        values = np.repeat(numbers[:, None].astype(np.float64), len(view.aggregates), axis=1)
        for place, aggregate in enumerate(view.aggregates):
            if aggregate.dtype in ("string", "bool"):
                values[:, place] %= len(TEXTS) if aggregate.dtype == "string" else 2
        # Some values are null.
        values[numbers % 5 == 0, -1] = np.nan
        writer.write(view, keys, 10**15 + numbers * 1_000_001, values, TEXTS)
    writer.commit()


def to_file(path: Path, rows: Rows, project: str = PROJECT) -> Path:
    """A SQLite store that holds these rows."""
    with closing(SqliteOnlineWriter(path, project)) as writer:
        write(writer, rows)
    return path


def gather(path: Path, rows: Rows) -> Path:
    """A file in which a replay has gathered these rows."""
    with closing(open_online_writer(GatheredFile(path), PROJECT)) as writer:
        write(writer, rows)
    return path


def to_redis(config: RedisConfig, rows: Rows, project: str = PROJECT) -> None:
    """Write the rows to Redis."""
    with closing(RedisOnlineWriter(config, project, 5)) as writer:
        write(writer, rows)
