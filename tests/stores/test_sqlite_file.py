"""What an error of a SQLite store means to people."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.sqlite_file import file_errors, open_to_write


def test_a_full_disk_asks_for_room_and_not_for_a_replay(tmp_path: Path) -> None:
    """Nothing is lost, and a store that is served from is not to be deleted."""
    path = tmp_path / "online.db"
    connection = open_to_write(path)
    connection.execute("PRAGMA max_page_count=1")
    with pytest.raises(OnlineStoreError, match="make room") as raised, file_errors(path):
        _fill(connection)
    connection.close()
    assert "replay" not in str(raised.value)


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
