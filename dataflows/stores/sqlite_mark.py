"""The mark of a generation in a SQLite online store; ``store_mark`` says what it is for.

A small table of its own, which Feast never looks at. A store that was filled before there were
marks has none.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dataflows.stores.sqlite_file import file_errors, open_to_write

# No view's: no Feast project has a dot in its name. As it stands in statements.
_TABLE = '"headwater.generation"'


def read_mark(path: Path, project: str) -> str | None:
    """The mark of a project; None if the file or the mark is missing. Raise OnlineStoreError."""
    if not path.exists():
        return None
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with file_errors(path), closing(sqlite3.connect(uri, uri=True)) as connection:
        return mark_in(connection, project)


def claim_mark(path: Path, project: str, mark: str) -> str:
    """Leave a mark if there is none; the one that is there then. Raise OnlineStoreError."""
    with file_errors(path), closing(open_to_write(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        found = mark_in(connection, project)
        if found is None:
            put_mark(connection, project, mark)
        connection.execute("COMMIT")
        return mark if found is None else found


def write_mark(path: Path, project: str, mark: str) -> None:
    """Leave a mark, in place of any other. Raise OnlineStoreError."""
    with file_errors(path), closing(open_to_write(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        put_mark(connection, project, mark)
        connection.execute("COMMIT")


def mark_in(connection: sqlite3.Connection, project: str) -> str | None:
    """The mark, as the transaction that is open sees it."""
    query = f"SELECT mark FROM {_TABLE} WHERE project = ?"
    try:
        found = connection.execute(query, (project,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return None if found is None else str(found[0])


def put_mark(connection: sqlite3.Connection, project: str, mark: str) -> None:
    """Leave the mark with the transaction that is open."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_TABLE} (project TEXT PRIMARY KEY, mark TEXT NOT NULL)"
    )
    connection.execute(f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?)", (project, mark))
