"""The online store in SQLite, in the tables and bytes of Feast's own SQLite store.

A view has one table with one row per entity and feature. Feast keeps ``event_ts`` in whole seconds
and lets an older row overwrite a newer one. We add a column ``event_us`` (Feast names its columns
in every statement, so it never sees it) with the microseconds, and never go back in time. A row
that Feast wrote later has an ``event_us`` that does not fit its ``event_ts``; then the seconds
count. ``value_text`` has what Feast puts there of strings and booleans, by which it filters and
searches. It puts the digits of numbers there too, and never looks at them; we leave them out.

Seconds are since 1970 UTC. Feast's own SQLite store takes UTC for local time in both directions,
so a Feast process whose ``TZ`` is not UTC shows (and writes) times shifted by its offset.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.feast_columns import distinct_strings, encode_column
from contracts.plan import Aggregate, View
from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.sqlite_file import (
    BUSY_SECONDS,
    file_error,
    file_errors,
    make_table,
    open_to_write,
    quoted,
    table_of,
)
from dataflows.stores.sqlite_mark import mark_in
from dataflows.stores.store_mark import check_mark

# Types whose values Feast looks up by their text.
_SHOWN = ("string", "bool")


class SqliteOnlineWriter:
    """Writes the current values of entities. One thread, one writer per file.

    Nothing is visible to readers before ``commit``; a crash before it leaves the file as it was.
    """

    def __init__(
        self,
        path: Path,
        project: str,
        busy_seconds: float = BUSY_SECONDS,
        mark: str | None = None,
    ) -> None:
        """Open or create the file.

        Args:
            path: the file that ``feature_store.yaml`` names as the path of the online store.
            project: Feast project; the first part of every table's name.
            busy_seconds: how long to wait for another process that holds the file.
            mark: what the store must bear, as ``sqlite_mark`` leaves it, in every transaction that
                writes; nobody can change it while that is open. None: no look.

        Raises:
            OnlineStoreError: the file cannot be opened or is locked.
        """
        self._path = path
        self._project = project
        self._busy_seconds = busy_seconds
        self._mark = mark
        self._statements: dict[View, str] = {}
        self._open = False
        with file_errors(path, busy_seconds):
            self._connection = open_to_write(path, busy_seconds)

    def ensure_table(self, view: View) -> None:
        """Make the view's table if it is missing, and our column in it. Commits at once.

        Raises:
            OnlineStoreError: the file is locked or broken.
            RuntimeError: called between ``write`` and ``commit``.
        """
        if self._open:
            raise RuntimeError("ensure_table inside a transaction: commit first")
        try:
            self._statements[view] = self._make_table(view)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def write(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        texts: Sequence[str] = (),
    ) -> int:
        """Stage rows of one view; ``commit`` makes them visible.

        A row whose stamp is older than what the store holds changes nothing; one with an equal
        stamp replaces it, so that writing twice is writing once.

        Args:
            view: whose values these are; its table is made if it is missing.
            keys: n serialized entity keys; an entity may come more than once.
            stamps_us: int64[n], from when on the values hold, microseconds since 1970 UTC.
            values: float64[n, F], column i is ``view.aggregates[i]``; NaN is null.
            texts: what the values of string features are places in.

        Returns:
            The number of rows given, n.

        Raises:
            OnlineStoreError: the file is locked, full or broken, or bears another mark: then
                another writer has taken it over. Everything staged is undone.
            ValueError: shapes do not match, or a value does not fit the feature's type.
        """
        count = len(keys)
        if stamps_us.shape != (count,) or values.shape != (count, len(view.aggregates)):
            raise ValueError(
                f"view {view.name!r}: {count} keys, stamps {stamps_us.shape}, values"
                f" {values.shape}; wanted ({count},) and ({count}, {len(view.aggregates)})"
            )
        if not count:
            return 0
        if view not in self._statements:
            self.ensure_table(view)
        # In the order of the key the B-tree is walked once from left to right: filling an empty
        # table takes half the time.
        rows = sorted(self._rows(view, keys, stamps_us, values, texts))
        try:
            self._begin()
            self._connection.executemany(self._statements[view], rows)
        except sqlite3.Error as error:
            self.rollback()
            raise self._failure(error) from error
        return count

    def _begin(self) -> None:
        """Keep other writers out until the end of the transaction, and see that this is ours."""
        if self._open:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._open = True
        if self._mark is not None:
            found = mark_in(self._connection, self._project)
            try:
                check_mark(f"the online store {self._path}", self._mark, found)
            except OnlineStoreError:
                self.rollback()
                raise

    def commit(self) -> None:
        """Make everything staged visible, all of it at once.

        Raises:
            OnlineStoreError: the disk is full or the file broken; everything staged is undone.
        """
        if not self._open:
            return
        try:
            self._connection.execute("COMMIT")
            self._open = False
        except sqlite3.Error as error:
            self.rollback()
            raise self._failure(error) from error

    def rollback(self) -> None:
        """Undo everything staged since the last commit."""
        if self._open:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                self._connection.execute("ROLLBACK")
            self._open = False

    def close(self) -> None:
        """Undo what is not committed and let go of the file."""
        self.rollback()
        self._connection.close()

    def _make_table(self, view: View) -> str:
        """Make the view's table if it is missing; the statement that writes what ``_rows`` has."""
        table = table_of(self._project, view.name)
        make_table(self._connection, table)
        return _upsert(quoted(table), view)

    def _rows(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        texts: Sequence[str],
    ) -> Iterable[tuple[object, ...]]:
        """The parameters of one statement for each row; the key comes first."""
        stamps, seconds = stamps_us.tolist(), (stamps_us // 1_000_000).tolist()
        columns: list[Sequence[object]] = []
        for place in _statement_order(view):
            aggregate, column = view.aggregates[place], values[:, place]
            columns += (keys, stamps, encode_column(aggregate.dtype, column, texts), seconds)
            if aggregate.dtype in _SHOWN:
                columns.append(_value_texts(aggregate, column, texts))
        return zip(*columns, strict=True)

    def _failure(self, error: Exception) -> OnlineStoreError:
        return file_error(self._path, error, self._busy_seconds)


def _statement_order(view: View) -> list[int]:
    """Places of the features by name: the primary key has that order, so inserting appends."""
    return sorted(range(len(view.aggregates)), key=lambda place: view.aggregates[place].feature)


def _upsert(table: str, view: View) -> str:
    """One statement for all features of an entity: key, stamp, value and second of each."""
    aggregates = [view.aggregates[place] for place in _statement_order(view)]
    names = [(a, "'" + a.feature.replace("'", "''") + "'") for a in aggregates]
    rows = ", ".join(
        f"(?, ?, ?, ?, {'?' if a.dtype in _SHOWN else 'NULL'}, {name})" for a, name in names
    )
    return (
        f"INSERT INTO {table} AS old (entity_key, event_us, value, event_ts, value_text,"
        f" feature_name) VALUES {rows} ON CONFLICT (entity_key, feature_name) DO UPDATE SET"
        " value = excluded.value, value_text = excluded.value_text, vector_value = NULL,"
        " event_ts = excluded.event_ts, created_ts = NULL, event_us = excluded.event_us"
        " WHERE excluded.event_us >= CASE WHEN old.event_us / 1000000 = old.event_ts"
        " THEN old.event_us ELSE ifnull(old.event_ts, 0) * 1000000 END"
    )


def _value_texts(
    aggregate: Aggregate, column: npt.NDArray[np.float64], texts: Sequence[str]
) -> list[str | None]:
    """What Feast puts beside the bytes of a string or a boolean."""
    if aggregate.dtype == "bool":
        found, rows = ["False", "True"], np.where(np.isnan(column), 2, column != 0)
    else:
        found, rows = distinct_strings(column, texts)
    shown = [*found, None]
    return [shown[row] for row in rows.tolist()]
