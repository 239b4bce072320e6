"""The mark that tells which generation, and so which state folder, an online store belongs to.

Every writer that is given a mark writes only while the store bears it. While a store is refilled
it bears a mark that no writer has: ``filling_mark``.
"""

from __future__ import annotations

import secrets

from contracts.online_store import RedisConfig, SqliteConfig
from dataflows.stores.online_writer import OnlineStoreError

_FILLING = "filling "


def read_mark(online: SqliteConfig | RedisConfig, project: str) -> str | None:
    """The mark of a project; None if the store has none. Raise OnlineStoreError."""
    if isinstance(online, SqliteConfig):
        from dataflows.stores import sqlite_mark

        return sqlite_mark.read_mark(online.path, project)
    from dataflows.stores import redis_mark

    return redis_mark.read_mark(online, project)


def claim_mark(online: SqliteConfig | RedisConfig, project: str, mark: str) -> str:
    """Leave a mark if there is none; the one that is there then. Raise OnlineStoreError."""
    if isinstance(online, SqliteConfig):
        from dataflows.stores import sqlite_mark

        return sqlite_mark.claim_mark(online.path, project, mark)
    from dataflows.stores import redis_mark

    return redis_mark.claim_mark(online, project, mark)


def write_mark(online: SqliteConfig | RedisConfig, project: str, mark: str) -> None:
    """Leave a mark, in place of any other: who bears another is fenced. Raise OnlineStoreError."""
    if isinstance(online, SqliteConfig):
        from dataflows.stores import sqlite_mark

        sqlite_mark.write_mark(online.path, project, mark)
        return
    from dataflows.stores import redis_mark

    redis_mark.write_mark(online, project, mark)


def where_is(online: SqliteConfig | RedisConfig) -> str:
    """The store, for people."""
    if isinstance(online, SqliteConfig):
        return f"the online store {online.path}"
    return f"Redis at {online.label}"


def check_mark(where: str, mark: str, found: str | None) -> None:
    """Raise OnlineStoreError, which is final, if what was found is not the mark.

    Args:
        where: the store, for people, as ``where_is`` has it.
        mark: what it should bear.
        found: what it bears; None for nothing.
    """
    if found == mark:
        return
    if found is None:
        raise OnlineStoreError(
            f"{where} has lost what it held since this dataflow began; rebuild it with `headwater"
            " replay`"
        )
    who = "a replay is filling it" if is_filling(found) else "another dataflow or a replay"
    raise OnlineStoreError(
        f"{where} was taken over since this dataflow began ({who}), so nothing more is written;"
        " leave it to that one, or take it back with `headwater replay`"
    )


def filling_mark(mark: str) -> str:
    """What a store bears while one refill, and nobody else, makes it ready to bear ``mark``.

    No two are alike, so that a refill which was thought dead does nothing any more either.
    """
    return f"{_FILLING}{secrets.token_hex(8)} {mark}"


def is_filling(found: str) -> bool:
    """Whether a refill has begun and not ended."""
    return found.startswith(_FILLING)


def mark_to_be(found: str | None) -> str:
    """The mark of the generation a store belongs to, or will after its refill; empty for none."""
    if found is None or not is_filling(found):
        return found or ""
    return found.split(" ", 2)[2]
