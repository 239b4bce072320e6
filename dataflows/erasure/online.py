"""Removes entities from the online store: all that Feast keeps of them there."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from contracts.feast_redis import redis_key
from contracts.online_store import RedisConfig, SqliteConfig
from contracts.plan import Plan
from dataflows.erasure.wanted import ErasureError, Wanted

_BUSY_SECONDS = 5.0
_ANSWER_SECONDS_MAX = 30.0
_KEYS_AT_ONCE = 500
_TIMESTAMP = b"_ts:"


def count_online(
    online: SqliteConfig | RedisConfig, project: str, plan: Plan, wanted: Sequence[Wanted]
) -> dict[str, int]:
    """View -> rows of these entities, of views that Feast alone knows too; raise as ``remove``."""
    if isinstance(online, SqliteConfig):
        return _in_sqlite(online.path, project, wanted, removes=0)
    return _in_redis(online, project, plan, wanted, removes=0)


def remove_online(
    online: SqliteConfig | RedisConfig, project: str, plan: Plan, wanted: Sequence[Wanted]
) -> dict[str, int]:
    """Remove them; view -> rows that there were.

    Raises:
        ErasureError: the file cannot be written.
        OnlineStoreError: the server does not answer, or refuses.
    """
    if isinstance(online, SqliteConfig):
        return _in_sqlite(online.path, project, wanted, removes=1)
    return _in_redis(online, project, plan, wanted, removes=1)


def _in_sqlite(path: Path, project: str, wanted: Sequence[Wanted], removes: int) -> dict[str, int]:
    if not path.exists():
        return {}
    found: Counter[str] = Counter()
    try:
        with closing(
            sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            # What is deleted is overwritten: pages are handed out again as they are otherwise.
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("BEGIN IMMEDIATE" if removes else "BEGIN")
            for table in _tables(connection, project):
                keys = _keys(connection, table, wanted)
                found[table[len(project) + 1 :]] += len(keys)
                if removes:
                    connection.executemany(
                        f"DELETE FROM {_quoted(table)} WHERE entity_key = ?",
                        [(key,) for key in keys],
                    )
            connection.execute("COMMIT")
            if removes:
                # Else the log that SQLite writes first would still say it.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise ErasureError(
            f"online store {path}: {error}; see to it that nothing else writes there, and start "
            "again"
        ) from error
    return {name: count for name, count in found.items() if count}


def _tables(connection: sqlite3.Connection, project: str) -> list[str]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [
        name
        for (name,) in names
        if name.startswith(f"{project}_")
        and "entity_key"
        in {row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(name)})")}
    ]


def _keys(connection: sqlite3.Connection, table: str, wanted: Sequence[Wanted]) -> list[bytes]:
    rows = connection.execute(f"SELECT DISTINCT entity_key FROM {_quoted(table)}")
    return [key for (key,) in rows if _is_meant(key, wanted)]


def _in_redis(
    online: RedisConfig, project: str, plan: Plan, wanted: Sequence[Wanted], removes: int
) -> dict[str, int]:
    from dataflows.stores.redis_client import open_client, store_errors
    from dataflows.stores.redis_scan import entity_keys

    found: Counter[str] = Counter()
    with store_errors(online), closing(open_client(online, _ANSWER_SECONDS_MAX)) as client:
        if all(set(view.join_keys) == set(w.names) for w in wanted for view in w.views(plan)):
            chunks: Any = [[key for one in wanted for key in one.keys]]
        else:
            # Entities with further join keys can only be found by looking at all.
            chunks = entity_keys(client, project)
        for chunk in chunks:
            keys = [key for key in dict.fromkeys(chunk) if _is_meant(key, wanted)]
            for first in range(0, len(keys), _KEYS_AT_ONCE):
                names = [redis_key(project, key) for key in keys[first : first + _KEYS_AT_ONCE]]
                with client.pipeline(transaction=False) as pipe:
                    for name in names:
                        pipe.hkeys(name)
                    for fields in pipe.execute():
                        found.update(
                            field[len(_TIMESTAMP) :].decode()
                            for field in fields
                            if field.startswith(_TIMESTAMP)
                        )
                if removes:
                    with client.pipeline(transaction=False) as pipe:
                        for name in names:
                            pipe.unlink(name)
                        pipe.execute()
    return dict(found)


def _is_meant(key: bytes, wanted: Sequence[Wanted]) -> bool:
    try:
        return any(one.is_meant(key) for one in wanted)
    except ValueError:
        return False  # of a view of Feast's with other types than ours


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
