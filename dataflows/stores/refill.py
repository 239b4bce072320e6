"""Puts values that were gathered in a SQLite file in the place of what the live store holds.

At one moment for all views, in SQLite by one transaction, in Redis by one step of the server (see
``redis_refill``; in a cluster one step for each node), together with the mark of the generation
that the store belongs to from then on. Readers see all old values before it and all new ones after
it. Writers with the mark of another generation are fenced. Everything may be repeated, after a
crash at any point too, and then gives what one whole call would have given.

Nobody else may write to the project's values meanwhile, ``feast materialize`` neither: in Redis one
hash holds the values of all views of an entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.online_store import RedisConfig, SqliteConfig
from contracts.plan import View
from dataflows.stores.online_writer import ANSWER_SECONDS_MAX


@dataclass(frozen=True)
class Refill:
    """What the live store is to hold.

    Attributes:
        project: Feast project, of both stores.
        gathered: file as ``GatheringWriter`` leaves it; None for no rows at all.
        views: whose values are put in place.
        gone: views of which nothing is to be left.
        mark: what the store bears in the end; None for what it bears now.
    """

    project: str
    gathered: Path | None
    views: Sequence[View]
    gone: Sequence[View]
    mark: str | None


def replace_values(
    gathered: Path,
    project: str,
    views: Sequence[View],
    online: SqliteConfig | RedisConfig,
    mark: str | None = None,
    gone: Sequence[View] = (),
    timeout_seconds: float = ANSWER_SECONDS_MAX,
) -> None:
    """Make the live store hold, for these views, exactly what the gathered file holds.

    Values of other views, projects and people stay. A view without a table in the file has no
    rows. Memory is bounded; a server needs room for both generations.

    Args:
        gathered: file as ``GatheringWriter`` leaves it.
        project: Feast project, of both stores.
        views: whose values are put in place.
        online: the live store.
        mark: what the store bears from then on; None for what it bears now.
        gone: views of which nothing is to be left.
        timeout_seconds: longest wait for an answer, or for another process that holds a file.

    Raises:
        FileNotFoundError: nothing was gathered.
        OnlineStoreGoneError: the server does not answer; call again later.
        OnlineStoreError: it refuses; the message says what to do.
    """
    _check(gathered)
    refill = Refill(project, gathered, views, gone, mark)
    if isinstance(online, SqliteConfig):
        from dataflows.stores.sqlite_refill import replace_in_file

        replace_in_file(refill, online, timeout_seconds)
        return
    from dataflows.stores.redis_refill import replace_in_redis

    replace_in_redis(refill, online, timeout_seconds)


def add_values(
    gathered: Path,
    project: str,
    views: Sequence[View],
    online: SqliteConfig | RedisConfig,
    mark: str | None = None,
    timeout_seconds: float = ANSWER_SECONDS_MAX,
) -> None:
    """As ``replace_values``, but rows of entities that the file does not have stay."""
    _check(gathered)
    refill = Refill(project, gathered, views, (), mark)
    if isinstance(online, SqliteConfig):
        from dataflows.stores.sqlite_refill import add_to_file

        add_to_file(refill, online, timeout_seconds)
        return
    from dataflows.stores.redis_refill import add_to_redis

    add_to_redis(refill, online, timeout_seconds)


def remove_views(
    project: str,
    gone: Sequence[View],
    online: SqliteConfig | RedisConfig,
    timeout_seconds: float = ANSWER_SECONDS_MAX,
) -> None:
    """Remove all rows of views that are gone; the mark stays. Errors as ``replace_values``."""
    if not gone:
        return
    refill = Refill(project, None, (), gone, None)
    if isinstance(online, SqliteConfig):
        from dataflows.stores.sqlite_refill import replace_in_file

        replace_in_file(refill, online, timeout_seconds)
        return
    from dataflows.stores.redis_refill import replace_in_redis

    replace_in_redis(refill, online, timeout_seconds)


def _check(gathered: Path) -> None:
    if not gathered.exists():
        raise FileNotFoundError(f"no online store at {gathered}")
