"""A generation takes the place of another, also when a crash came in between."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dataflows.stores.swap import Swap, finish_swap, run_swap

FOLDERS = ("state", "examples", "models")


def _write_store(path: Path, tables: dict[str, list[Any]], column: str = "value") -> None:
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("PRAGMA journal_mode=WAL")
        for name, values in tables.items():
            store.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, {column} TEXT)')
            store.executemany(f'INSERT INTO "{name}" ({column}) VALUES (?)', [(v,) for v in values])


def _rows(path: Path, table: str, column: str = "value") -> list[str]:
    with closing(sqlite3.connect(path)) as store:
        query = f'SELECT {column} FROM "{table}" ORDER BY id'
        return [value for (value,) in store.execute(query)]


def _no_server(store: Path) -> None:
    raise AssertionError(f"the live store is a file; {store} was to be sent to a server")


def _store(swap: Swap) -> Path:
    """The live SQLite file."""
    assert swap.live_online is not None
    return swap.live_online


@pytest.fixture
def swap(tmp_path: Path) -> Swap:
    """Three folders and a store, live and new."""
    folders = []
    for name in FOLDERS:
        pair = (tmp_path / f"{name}.replay", tmp_path / name)
        for folder, content in zip(pair, ("new", "old"), strict=True):
            folder.mkdir()
            (folder / "content").write_text(content)
        (pair[1] / "only_old").touch()
        folders.append(pair)
    online = (tmp_path / "online.db.replay", tmp_path / "online.db")
    _write_store(online[0], {"shop_orders": ["new 1", "new 2"], "shop_added": ["added"]})
    _write_store(online[1], {"shop_orders": ["old"], "other_orders": ["theirs"]})
    return Swap(tuple(folders), *online)


def _write_journal(swap: Swap, journal: Path) -> None:
    """What ``run_swap`` writes before it does anything."""
    content = {
        "folders": [[str(new), str(live)] for new, live in swap.folders],
        "online": [str(swap.online), str(swap.live_online)],
    }
    journal.write_text(json.dumps(content))


def _assert_done(swap: Swap, journal: Path) -> None:
    for new, live in swap.folders:
        assert (live / "content").read_text() == "new"
        assert not (live / "only_old").exists()
        assert not new.exists()
        assert not live.with_name(live.name + ".old").exists()
    live = _store(swap)
    assert _rows(live, "shop_orders") == ["new 1", "new 2"]
    assert _rows(live, "shop_added") == ["added"]
    assert not list(live.parent.glob("online.db.replay*"))
    assert not journal.exists()


def test_everything_is_exchanged(swap: Swap, tmp_path: Path) -> None:
    """After a swap the new contents are live and nothing of either is left beside them."""
    run_swap(swap, tmp_path / "journal.json", _no_server)
    _assert_done(swap, tmp_path / "journal.json")


def test_tables_of_others_stay(swap: Swap, tmp_path: Path) -> None:
    """Another project's tables in the same SQLite file keep their rows."""
    run_swap(swap, tmp_path / "journal.json", _no_server)
    assert _rows(_store(swap), "other_orders") == ["theirs"]


def test_nothing_to_finish(tmp_path: Path) -> None:
    """Without a journal there is nothing to do."""
    assert not finish_swap(tmp_path / "journal.json", _no_server)


@pytest.mark.parametrize("renamed", range(2 * len(FOLDERS) + 1))
def test_an_interrupted_swap_is_finished(swap: Swap, tmp_path: Path, renamed: int) -> None:
    """Wherever among the renames the crash was, the rest is done, and a second time nothing."""
    journal = tmp_path / "journal.json"
    _write_journal(swap, journal)
    for step in range(renamed):
        new, live = swap.folders[step // 2]
        if step % 2 == 0:
            live.rename(live.with_name(live.name + ".old"))
        else:
            new.rename(live)
    assert finish_swap(journal, _no_server)
    _assert_done(swap, journal)
    _write_journal(swap, journal)
    assert finish_swap(journal, _no_server)
    _assert_done(swap, journal)
    assert not finish_swap(journal, _no_server)


def test_a_reader_of_the_store_sees_the_new_rows(swap: Swap, tmp_path: Path) -> None:
    """A process that has the online store open reads the new generation from the same file."""
    query = "SELECT value FROM shop_orders ORDER BY id"
    with closing(sqlite3.connect(_store(swap))) as reader:
        assert reader.execute(query).fetchall() == [("old",)]
        run_swap(swap, tmp_path / "journal.json", _no_server)
        assert reader.execute(query).fetchall() == [("new 1",), ("new 2",)]


def test_garbage_in_the_place_of_the_store_gives_way(swap: Swap, tmp_path: Path) -> None:
    """A live file that is no database is replaced: it is of no use to anybody."""
    for path in tmp_path.glob("online.db*"):
        if not path.name.startswith("online.db.replay"):
            path.unlink()
    _store(swap).write_bytes(b"garbage" * 1000)
    run_swap(swap, tmp_path / "journal.json", _no_server)
    _assert_done(swap, tmp_path / "journal.json")


def test_columns_that_the_live_table_lacks_are_added(tmp_path: Path) -> None:
    """A live table made by an older version gets the columns of the new one."""
    new, live = tmp_path / "new.db", tmp_path / "live.db"
    _write_store(new, {"shop_orders": ["new"]}, "added")
    _write_store(live, {"shop_orders": ["old"]})
    run_swap(Swap((), new, live), tmp_path / "journal.json", _no_server)
    assert _rows(live, "shop_orders", "added") == ["new"]
    assert _rows(live, "shop_orders") == [None]


def test_a_server_is_filled_until_it_worked(tmp_path: Path) -> None:
    """A store that is a server gets the new file; if that fails, whoever comes next does it."""
    new, journal = tmp_path / "new.db", tmp_path / "journal.json"
    _write_store(new, {"shop_orders": ["new"]})
    sent: list[list[str]] = []

    def gone(store: Path) -> None:
        raise ConnectionError(store)

    with pytest.raises(ConnectionError):
        run_swap(Swap((), new, None), journal, gone)
    assert finish_swap(journal, lambda store: sent.append(_rows(store, "shop_orders")))
    assert sent == [["new"]]
    assert not new.exists()
    assert not finish_swap(journal, _no_server)
