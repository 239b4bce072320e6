"""Reads what a replay has gathered, entity by entity, as Redis has it."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from contracts.feast_redis import encode_timestamp, redis_field, redis_timestamp_field
from contracts.plan import View
from dataflows.stores.gathered_layout import Layout, layouts_of_views
from dataflows.stores.sqlite_file import quoted

# Entity key, then field, value, field, value ... of its hash.
EntityFields = tuple[bytes, list[bytes]]
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class GatheredChunk:
    """Some rows of a view: n entity keys, event times, and n values of Feast's of each feature."""

    keys: Sequence[bytes]
    stamps_us: Sequence[int]
    values: list[Sequence[bytes]]


def gathered_chunks(connection: sqlite3.Connection, layout: Layout) -> Iterator[GatheredChunk]:
    """All rows of a table in the order of their keys, some at a time."""
    names = ", ".join(["entity_key", "event_us", "numbers", *layout.texts])
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT {names} FROM {quoted(layout.table)} ORDER BY entity_key")
        while chunk := cursor.fetchmany(_ROWS_AT_ONCE):
            keys, stamps_us, blobs, *texts = zip(*chunk, strict=True)
            yield GatheredChunk(keys, stamps_us, layout.values(blobs, texts))


class GatheredRows:
    """The rows of some views in a file; one thread. Holds a bounded number of rows in memory."""

    def __init__(self, path: Path | None, project: str, views: Sequence[View]) -> None:
        """Open the file to read.

        Args:
            path: a file that GatheringWriter has written; None for no rows.
            project: Feast project.
            views: whose rows; a view without a table has none.

        Raises:
            OnlineStoreError: the file has another form.
            sqlite3.Error: it cannot be read.
        """
        where = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(where, uri=True)
        try:
            self._layouts = layouts_of_views(self._connection, project, views)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def entities(self) -> Iterator[EntityFields]:
        """Every entity once, with the fields of all views that have a row of it."""
        streams = [self._rows(view, layout) for view, layout in self._layouts.items()]
        # Each stream is in the order of its keys, as the tables are.
        for key, rows in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
            fields: list[bytes] = []
            for _, more in rows:
                fields += more
            yield key, fields

    def missing(self, entities: Sequence[bytes]) -> list[bytes]:
        """Those of some entities of which no view has a row."""
        layouts = self._layouts.values()
        return [key for key in entities if not any(self._has(layout, key) for layout in layouts)]

    def _has(self, layout: Layout, entity: bytes) -> bool:
        query = f"SELECT 1 FROM {quoted(layout.table)} WHERE entity_key = ?"
        return self._connection.execute(query, (entity,)).fetchone() is not None

    def _rows(self, view: str, layout: Layout) -> Iterator[EntityFields]:
        """The rows of one view, in the order of their keys."""
        stamp = redis_timestamp_field(view)
        names = [redis_field(view, slot.feature) for slot in layout.slots]
        for chunk in gathered_chunks(self._connection, layout):
            stamps = map(encode_timestamp, chunk.stamps_us)
            for key, event_time, *values in zip(chunk.keys, stamps, *chunk.values, strict=True):
                fields = [stamp, event_time]
                for name, value in zip(names, values, strict=True):
                    fields += (name, value)
                yield key, fields
