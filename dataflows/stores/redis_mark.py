"""The mark that tells which state folder a Redis store was filled from."""

from __future__ import annotations

from contextlib import closing

from contracts.online_store import RedisConfig
from dataflows.stores.online_writer import ANSWER_SECONDS_MAX
from dataflows.stores.redis_client import open_client, store_errors


def read_mark(config: RedisConfig, project: str) -> str | None:
    """The mark of a project; None if the store has none. Raise OnlineStoreError."""
    with store_errors(config), closing(open_client(config, ANSWER_SECONDS_MAX)) as client:
        found = client.get(_key(project))
    return found.decode() if isinstance(found, bytes) else None


def write_mark(config: RedisConfig, project: str, mark: str) -> None:
    """Leave a mark, in place of any other. Raise OnlineStoreError."""
    with store_errors(config), closing(open_client(config, ANSWER_SECONDS_MAX)) as client:
        client.set(_key(project), mark)


def _key(project: str) -> str:
    # Does not end with the project, as Feast's keys do, so nobody takes it for an entity.
    return f"headwater:{project}:generation"
