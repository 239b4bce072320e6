"""Puts gathered values in the place of those of a live SQLite store, in one transaction.

The file stays the same one, since processes that have it open would go on reading a renamed one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from contracts.online_store import SqliteConfig
from dataflows.stores.refill import Refill
from dataflows.stores.sqlite_file import (
    file_errors,
    open_to_write,
    quoted,
    remove_file,
    table_of,
    tables_in,
)
from dataflows.stores.sqlite_mark import put_mark


def replace_in_file(refill: Refill, online: SqliteConfig, busy_seconds: float) -> None:
    """Make the file hold exactly what was gathered; see ``refill.replace_values``."""
    gone = [table_of(refill.project, view.name) for view in refill.gone]
    tables = _tables(refill)
    with (
        file_errors(online.path, busy_seconds),
        closing(_opened(refill, online.path, busy_seconds)) as connection,
    ):
        live = tables_in(connection)
        for table in (*tables, *gone):
            if table in live:
                connection.execute(f"DELETE FROM main.{quoted(table)}")
        _insert(connection, tables)
        _end(connection, refill)


def add_to_file(refill: Refill, online: SqliteConfig, busy_seconds: float) -> None:
    """Put the rows of the entities that were gathered in place; see ``refill.add_values``."""
    tables = _tables(refill)
    with (
        file_errors(online.path, busy_seconds),
        closing(_opened(refill, online.path, busy_seconds)) as connection,
    ):
        live, fresh = tables_in(connection), tables_in(connection, "fresh")
        for table in tables:
            if table in live and table in fresh:
                # All of a row: features that the view no longer has go too.
                connection.execute(
                    f"DELETE FROM main.{quoted(table)} WHERE entity_key IN"
                    f" (SELECT entity_key FROM fresh.{quoted(table)})"
                )
        _insert(connection, tables)
        _end(connection, refill)


def _tables(refill: Refill) -> list[str]:
    return [table_of(refill.project, view.name) for view in refill.views]


def _opened(refill: Refill, path: Path, busy_seconds: float) -> sqlite3.Connection:
    """The live file in a transaction that writes, the gathered one beside it as ``fresh``."""
    if not _is_database(path, busy_seconds):
        remove_file(path)
    connection = open_to_write(path, busy_seconds)
    try:
        # What was gathered goes after the commit, so nobody could do it again after a power cut.
        connection.execute("PRAGMA synchronous=FULL")
        if refill.gathered is not None:
            connection.execute("ATTACH ? AS fresh", (str(refill.gathered),))
        else:
            connection.execute("ATTACH ':memory:' AS fresh")
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _insert(connection: sqlite3.Connection, tables: list[str]) -> None:
    """Copy all rows of the tables that were gathered; what the live file lacks is made."""
    live, fresh = tables_in(connection), tables_in(connection, "fresh")
    for table in tables:
        if table not in fresh:
            continue
        if table not in live:
            connection.execute(fresh[table])
            for index in _indexes(connection, table):
                connection.execute(index)
        columns = ", ".join(_columns(connection, table))
        name = quoted(table)
        # In the order of the key the B-tree is filled from left to right.
        connection.execute(
            f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM fresh.{name}"
            " ORDER BY entity_key, feature_name"
        )


def _end(connection: sqlite3.Connection, refill: Refill) -> None:
    if refill.mark is not None:
        put_mark(connection, refill.project, refill.mark)
    connection.execute("COMMIT")


def _indexes(connection: sqlite3.Connection, table: str) -> list[str]:
    """The statements that make a table's indexes, but for the one of its key."""
    query = "SELECT sql FROM fresh.sqlite_master WHERE type = 'index' AND tbl_name = ?"
    return [sql for (sql,) in connection.execute(query, (table,)) if sql]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The new table's columns; those that the live one lacks are added to it."""
    live = {row[1] for row in connection.execute(f"PRAGMA main.table_info({quoted(table)})")}
    names = []
    for row in connection.execute(f"PRAGMA fresh.table_info({quoted(table)})").fetchall():
        if row[1] not in live:
            connection.execute(
                f"ALTER TABLE main.{quoted(table)} ADD COLUMN {quoted(row[1])} {row[2]}"
            )
        names.append(quoted(row[1]))
    return names


def _is_database(path: Path, busy_seconds: float) -> bool:
    """Whether SQLite can read the file; one that it cannot is of no use to anybody."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=busy_seconds)) as connection:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise
        return False
    return True
