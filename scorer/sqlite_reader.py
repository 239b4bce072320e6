"""Reads current feature values from Feast's SQLite online store, without Feast.

Rows by ``dataflows.stores.sqlite_writer`` carry microseconds in ``event_us``; rows by Feast itself
only seconds in ``event_ts``. Where the two do not fit, Feast wrote last and its seconds count.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from scorer.errors import StoreUnavailableError
from scorer.online_store import Cells, Wanted

# Reads run on the event loop's thread, so a lock is waited for only this long. Our writer never
# locks readers out; only Feast's own writer does, for the length of a commit.
_BUSY_SECONDS = 0.02
_STATEMENTS = 512
_Row = tuple[str, bytes, int, int | None]


class SqliteReader:
    """An ``OnlineReader`` on a SQLite file; about 20 µs for each entity and view.

    The file may appear, be replaced (``headwater replay``) or lack a view's table at any time: a
    missing file is an error of that read alone, a missing table is a view without entities.
    """

    def __init__(self, path: Path, project: str) -> None:
        """``path`` and ``project`` as in ``feature_store.yaml``. Nothing is opened yet."""
        self._path = path
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._project = project
        self._queries: dict[str, str] = {}
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._closed = False

    async def read_cells(self, wanted: Sequence[Wanted]) -> list[Cells]:
        """One ``Cells`` for each ``Wanted``, all from one state of the store.

        Raises:
            StoreUnavailableError: the file is missing, locked or broken, or the reader is closed.
        """
        return self._read(wanted)

    async def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        self._closed = True
        self._disconnect()

    def _read(self, wanted: Sequence[Wanted]) -> list[Cells]:
        connection = self._connected()
        try:
            # One transaction is one snapshot, and one lock instead of one for each entity.
            connection.execute("BEGIN")
            try:
                return [self._find(connection, one) for one in wanted]
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._disconnect()
            raise StoreUnavailableError(
                f"online store {self._path} cannot be read: {error}; try again"
            ) from error

    def _connected(self) -> sqlite3.Connection:
        """The connection to the file that now has the name, reopened if it was replaced."""
        if self._closed:
            raise StoreUnavailableError("the online store reader is closed")
        try:
            status = self._path.stat()
        except OSError as error:
            self._disconnect()
            raise StoreUnavailableError(
                f"no online store at {self._path}: start the dataflow (`headwater run`)"
            ) from error
        identity = (status.st_dev, status.st_ino)
        if self._connection is None or identity != self._identity:
            self._disconnect()
            try:
                self._connection = sqlite3.connect(
                    self._uri,
                    uri=True,
                    timeout=_BUSY_SECONDS,
                    isolation_level=None,
                    cached_statements=_STATEMENTS,
                    check_same_thread=False,
                )
            except sqlite3.Error as error:
                raise StoreUnavailableError(
                    f"online store {self._path} cannot be opened: {error}"
                ) from error
            self._identity = identity
        return self._connection

    def _disconnect(self) -> None:
        self._queries.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _find(self, connection: sqlite3.Connection, wanted: Wanted) -> Cells:
        query = self._queries.get(wanted.view) or self._query(connection, wanted.view)
        if query is None:
            return Cells(None, [None] * len(wanted.features))
        rows: list[_Row] = connection.execute(query, (wanted.entity_key,)).fetchall()
        if not rows:
            return Cells(None, [None] * len(wanted.features))
        cells = {name: value for name, value, _, _ in rows}
        values = [cells.get(name) for name in wanted.features]
        stamps = {(seconds, stamp) for _, _, seconds, stamp in rows}  # nearly always one
        return Cells(max(_stamp(seconds, stamp) for seconds, stamp in stamps), values)

    def _query(self, connection: sqlite3.Connection, view: str) -> str | None:
        """The view's SELECT; None while it has no table. Kept once the table is as we make it."""
        table = '"' + f"{self._project}_{view}".replace('"', '""') + '"'
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not columns:
            return None
        stamp = "event_us" if "event_us" in columns else "NULL"
        query = f"SELECT feature_name, value, event_ts, {stamp} FROM {table} WHERE entity_key = ?"
        if "event_us" in columns:
            self._queries[view] = query
        return query


def _stamp(seconds: int | None, stamp_us: int | None) -> int:
    """Event time in microseconds: ours if it fits Feast's seconds, or those."""
    whole = seconds or 0
    # Towards zero, as Feast and SQLite cut.
    if stamp_us is not None and int(stamp_us / 1_000_000) == whole:
        return stamp_us
    return whole * 1_000_000
