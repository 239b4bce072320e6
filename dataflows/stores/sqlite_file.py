"""A SQLite online store as a file: opening it to write, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataflows.stores.online_writer import OnlineStoreError

BUSY_SECONDS = 5.0
_RETRY_SECONDS = 0.01


def open_to_write(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that begins no transactions by itself; the file is made if it is missing.

    Args:
        path: the file.
        busy_seconds: how long to wait for another process that holds it.

    Raises:
        OSError: the folder cannot be made.
        sqlite3.Error: the file cannot be opened or is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        # Readers go on while we write, and a commit costs no wait for the disk; a power cut
        # can lose the last commits, which the dataflow then writes again.
        _switch_to_wal(connection, busy_seconds)
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    # SQLite does not wait here as it does elsewhere when another connection is switching too.
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


@contextmanager
def file_errors(path: Path, busy_seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """Turns errors of SQLite and of the file system into OnlineStoreError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise file_error(path, error, busy_seconds) from error


def file_error(path: Path, error: Exception, busy_seconds: float) -> OnlineStoreError:
    """What an error means, and what to do about it."""
    if "locked" in str(error) or "busy" in str(error):
        return OnlineStoreError(
            f"online store {path} was locked for {busy_seconds:g} s: another"
            " process writes to it; stop it (one dataflow per online store) and start again"
        )
    if "full" in str(error) or "disk I/O" in str(error):
        return OnlineStoreError(
            f"cannot write the online store {path}: {error}; make room, see that the disk is well,"
            " and start again"
        )
    return OnlineStoreError(
        f"cannot write the online store {path}: {error}; check the disk and the rights"
        " of the file, or delete it and rebuild it with `headwater replay`"
    )


def remove_file(path: Path) -> None:
    """Remove the file with what SQLite keeps beside it."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def table_of(project: str, view: str) -> str:
    """The name of a view's table, not quoted."""
    return f"{project}_{view}"


def tables_in(connection: sqlite3.Connection, schema: str = "main") -> dict[str, str]:
    """Name -> definition of every table."""
    query = f"SELECT name, sql FROM {schema}.sqlite_master WHERE type = 'table'"
    return dict(connection.execute(query).fetchall())


def make_table(connection: sqlite3.Connection, table: str) -> None:
    """Make a table as Feast does, if it is missing, and our column in it. Raise sqlite3.Error."""
    name = quoted(table)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS main.{name} (entity_key BLOB, feature_name TEXT, value BLOB,"
        " value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp,"
        " event_us INTEGER, PRIMARY KEY(entity_key, feature_name))"
    )
    index = quoted(f"{table}_ek")
    connection.execute(f"CREATE INDEX IF NOT EXISTS main.{index} ON {name} (entity_key)")
    columns = connection.execute(f"PRAGMA main.table_info({name})").fetchall()
    if "event_us" not in [column for _, column, *_ in columns]:
        connection.execute(f"ALTER TABLE main.{name} ADD COLUMN event_us INTEGER")


def quoted(identifier: str) -> str:
    """A name as it stands in a statement."""
    return '"' + identifier.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """A text as it stands in a statement."""
    return "'" + text.replace("'", "''") + "'"
