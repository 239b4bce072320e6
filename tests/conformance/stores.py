"""One online store, spoken to by Feast's SDK and by our writer and reader."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from feast import FeatureStore, RepoConfig
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from contracts.feast_bytes import decode_value, entity_key
from contracts.online_store import SqliteConfig, parse_online_store
from contracts.plan import View
from dataflows.stores.online_writer import OnlineWriter
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from scorer.online_store import Cells, OnlineReader, Wanted
from scorer.online_store import wanted as want
from scorer.redis_reader import RedisReader
from scorer.sqlite_reader import SqliteReader
from tests.conformance.views import ENTITIES, VIEWS, feast_views, offline_file
from tests.scorer.found import Found, read_found

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PANDAS_TYPES = {"float64": "float64", "int64": "Int64", "bool": "boolean", "string": "object"}
_FIELDS = {
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "string": "string_val",
}
Cell = float | int | bool | str | None


@dataclass(frozen=True)
class Row:
    """A row of a view: join key values in the view's order, event time, feature values in order."""

    keys: tuple[str | int, ...]
    stamp_us: int
    values: tuple[Cell, ...]


class Answer(NamedTuple):
    """What Feast says of one feature of one entity."""

    value: Any
    status: str
    stamp_us: int


def time_of(stamp_us: int) -> datetime:
    """Microseconds since 1970 as a time."""
    return _EPOCH + timedelta(microseconds=stamp_us)


@dataclass(frozen=True)
class Store:
    """A Feast project in an online store.

    Attributes:
        feast: Feast's SDK on it, everything applied.
        online: the ``online_store`` part of ``feature_store.yaml``.
        resolution_us: the steps in which Feast keeps event times there.
        folder: of the offline files.
    """

    feast: FeatureStore
    online: Mapping[str, Any]
    resolution_us: int
    folder: Path

    @classmethod
    def applied(
        cls, project: str, online: Mapping[str, Any], resolution_us: int, folder: Path
    ) -> Store:
        """The project with all views applied."""
        config = RepoConfig(
            project=project,
            provider="local",
            registry=str(folder / f"{project}.db"),
            online_store=dict(online),
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
        feast = FeatureStore(config=config)
        feast.apply([*ENTITIES.values(), *feast_views(folder)])
        return cls(feast, online, resolution_us, folder)

    def kept_us(self, stamp_us: int) -> int:
        """An event time as Feast keeps it."""
        return stamp_us // self.resolution_us * self.resolution_us

    def we_write(self, view: View, rows: Sequence[Row]) -> None:
        """Write rows with our writer."""
        texts = ["what no row has"]
        values = [[_number(cell, texts) for cell in row.values] for row in rows]
        with closing(self._writer()) as writer:
            writer.ensure_table(view)
            writer.write(
                view,
                [entity_key(view.join_keys, view.join_key_types, row.keys) for row in rows],
                np.array([row.stamp_us for row in rows], dtype=np.int64),
                np.array(values, dtype=np.float64),
                texts,
            )
            writer.commit()

    def we_read(self, *wanted: Wanted) -> list[Found]:
        """Read with our reader."""

        async def once() -> list[Found]:
            reader = self._reader()
            try:
                return await read_found(reader, wanted)
            finally:
                await reader.close()

        return asyncio.run(once())

    def we_read_values(self, *wanted: Wanted) -> list[tuple[int | None, list[Cell]]]:
        """Event time and values of any type, read with our reader."""
        return [
            (cells.event_time_us, [decode_value(cell or b"") for cell in cells.values])
            for cells in self.we_read_cells(*wanted)
        ]

    def we_read_cells(self, *wanted: Wanted) -> list[Cells]:
        """What our reader finds, as it is stored."""

        async def once() -> list[Cells]:
            reader = self._reader()
            try:
                return await reader.read_cells(wanted)
            finally:
                await reader.close()

        return asyncio.run(once())

    def feast_writes(self, view: View, rows: Sequence[Row]) -> None:
        """Write rows with ``write_to_online_store``."""
        self.feast.write_to_online_store(view.name, _frame(view, rows))

    def feast_materializes(self, view: View, rows: Sequence[Row]) -> None:
        """Write rows from a Parquet file with ``materialize``."""
        _frame(view, rows).to_parquet(offline_file(self.folder, view.name))
        stamps = [row.stamp_us for row in rows]
        self.feast.materialize(
            time_of(min(stamps) - 1), time_of(max(stamps) + 1_000_000), [view.name]
        )

    def feast_writes_batch(self, view: View, rows: Sequence[Row]) -> None:
        """Write rows with the online store's own ``online_write_batch``."""
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]] = [
            (
                EntityKey(join_keys=view.join_keys, entity_values=map(_key_value, row.keys)),
                {
                    one.feature: _value(one.dtype, cell)
                    for one, cell in zip(view.aggregates, row.values, strict=True)
                },
                time_of(row.stamp_us),
                None,
            )
            for row in rows
        ]
        self.feast.provider.online_write_batch(
            self.feast.config, self.feast.get_feature_view(view.name), data, None
        )

    def feast_reads(
        self, features: Sequence[str], entities: Sequence[Mapping[str, Any]]
    ) -> dict[str, list[Answer]]:
        """``view:feature`` -> what ``get_online_features`` says of it, for each entity."""
        response = self.feast.get_online_features(
            features=list(features),
            entity_rows=[dict(one) for one in entities],
            full_feature_names=True,
        ).proto
        answers = {}
        for name, result in zip(response.metadata.feature_names.val, response.results, strict=True):
            answers[name.replace("__", ":", 1)] = [
                Answer(
                    getattr(value, kind) if (kind := value.WhichOneof("val")) else None,
                    FieldStatus.Name(status),
                    stamp.ToMicroseconds(),
                )
                for value, status, stamp in zip(
                    result.values, result.statuses, result.event_timestamps, strict=True
                )
            ]
        return {name: answers[name] for name in features}

    def _writer(self) -> OnlineWriter:
        config = parse_online_store(self.online, self.folder)
        project = self.feast.config.project
        if isinstance(config, SqliteConfig):
            return SqliteOnlineWriter(config.path, project)
        return RedisOnlineWriter(config, project, timeout_seconds=10)

    def _reader(self) -> OnlineReader:
        config = parse_online_store(self.online, self.folder)
        project = self.feast.config.project
        if isinstance(config, SqliteConfig):
            return SqliteReader(config.path, project)
        return RedisReader(config, project, answer_seconds=10)


def all_features() -> list[str]:
    """``view:feature`` of all views."""
    return [f"{view.name}:{one.feature}" for view in VIEWS for one in view.aggregates]


def wanted_of(view: View, *keys: str | int) -> Wanted:
    """The read of all of a view's features."""
    names = tuple(one.feature for one in view.aggregates)
    return want(view.name, names, entity_key(view.join_keys, view.join_key_types, keys))


def _frame(view: View, rows: Sequence[Row]) -> pd.DataFrame:
    columns: dict[str, Any] = {
        name: [row.keys[place] for row in rows] for place, name in enumerate(view.join_keys)
    }
    for place, one in enumerate(view.aggregates):
        cells = [row.values[place] for row in rows]
        columns[one.feature] = pd.array(cells, dtype=_PANDAS_TYPES[one.dtype])
    columns["event_timestamp"] = pd.to_datetime([row.stamp_us for row in rows], unit="us", utc=True)
    return pd.DataFrame(columns)


def _number(cell: Cell, texts: list[str]) -> float:
    """A cell as the engine has it: a string is a place in ``texts``, where it is put."""
    if isinstance(cell, str):
        texts.append(cell)
        return len(texts) - 1
    return np.nan if cell is None else cell


def _key_value(key: str | int) -> Value:
    return Value(string_val=key) if isinstance(key, str) else Value(int64_val=key)


def _value(dtype: str, cell: Cell) -> Value:
    if cell is None:
        return Value()
    value = Value()
    setattr(value, _FIELDS[dtype], cell)
    return value
