"""Puts a freshly built generation of stores in the place of the old one, all or nothing.

Folders are renamed, the tables of the online store are exchanged in one transaction (a process that
has the file open would go on reading a renamed one). A journal beside the state folder names what
is to be done; whoever comes after a crash does the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Swap:
    """What is to be exchanged: (new, live) folders, and the new online store.

    Attributes:
        folders: (new, live), in the order in which they are exchanged.
        online: SQLite file with the new values.
        live_online: SQLite file of the live store; None if it is a server.
    """

    folders: tuple[tuple[Path, Path], ...]
    online: Path
    live_online: Path | None


def run_swap(swap: Swap, journal: Path, fill: Callable[[Path], None]) -> None:
    """Exchange everything; after a crash ``finish_swap`` does what is left. ``fill`` as there."""
    live = swap.live_online
    content = {
        "folders": [[str(new), str(live)] for new, live in swap.folders],
        "online": [str(swap.online), None if live is None else str(live)],
    }
    temporary = journal.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(journal)
    finish_swap(journal, fill)


def finish_swap(journal: Path, fill: Callable[[Path], None]) -> bool:
    """Do what a journal says, if there is one; True if there was. Doing it twice is harmless.

    ``fill`` makes a server hold what is in the SQLite file it is given; it is not called if the
    live store is a file.
    """
    if not journal.exists():
        return False
    content = json.loads(journal.read_text())
    folders = [(Path(new), Path(live)) for new, live in content["folders"]]
    for new, live in folders:
        _swap_folder(new, live)
    new_store, live_store = content["online"]
    if Path(new_store).exists():
        if live_store is None:
            fill(Path(new_store))
        else:
            _swap_tables(Path(new_store), Path(live_store))
        remove_store(Path(new_store))
    journal.unlink()
    for _, live in folders:
        shutil.rmtree(_old(live), ignore_errors=True)
    return True


def remove_store(path: Path) -> None:
    """Remove a SQLite file with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _old(live: Path) -> Path:
    return live.with_name(live.name + ".old")


def _swap_folder(new: Path, live: Path) -> None:
    if not new.exists():
        return
    if live.exists():
        shutil.rmtree(_old(live), ignore_errors=True)
        live.rename(_old(live))
    live.parent.mkdir(parents=True, exist_ok=True)
    new.rename(live)


def _swap_tables(new: Path, live: Path) -> None:
    if not _is_database(live):
        remove_store(live)
    live.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(live, timeout=30, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("ATTACH ? AS fresh", (str(new),))
        connection.execute("BEGIN IMMEDIATE")
        for name, sql in _definitions(connection):
            if name not in _tables(connection, "main"):
                connection.execute(sql)
            connection.execute(f"DELETE FROM main.{_quoted(name)}")
            columns = ", ".join(_columns(connection, name))
            table = _quoted(name)
            connection.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM fresh.{table}"
            )
        connection.execute("COMMIT")


def _is_database(path: Path) -> bool:
    """Whether SQLite can read the file; one that it cannot is of no use to anybody."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise
        return False
    return True


def _tables(connection: sqlite3.Connection, schema: str) -> list[str]:
    rows = connection.execute(f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'")
    return [name for (name,) in rows]


def _definitions(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    query = "SELECT name, sql FROM fresh.sqlite_master WHERE type = 'table'"
    return connection.execute(query).fetchall()


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The new table's columns; those that the live one lacks are added to it."""
    live = {row[1] for row in connection.execute(f"PRAGMA main.table_info({_quoted(table)})")}
    names = []
    for row in connection.execute(f"PRAGMA fresh.table_info({_quoted(table)})").fetchall():
        if row[1] not in live:
            connection.execute(
                f"ALTER TABLE main.{_quoted(table)} ADD COLUMN {_quoted(row[1])} {row[2]}"
            )
        names.append(_quoted(row[1]))
    return names


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
