"""The mark of a generation in Redis; ``store_mark`` says what it is for."""

from __future__ import annotations

from contextlib import closing

from contracts.online_store import RedisConfig
from contracts.redis_mark import mark_key
from dataflows.stores.online_writer import ANSWER_SECONDS_MAX
from dataflows.stores.redis_client import open_client, store_errors


def read_mark(config: RedisConfig, project: str) -> str | None:
    """The mark of a project; None if the store has none. Raise OnlineStoreError."""
    with store_errors(config), closing(open_client(config, ANSWER_SECONDS_MAX)) as client:
        return mark_in(client.get(mark_key(project)))


def claim_mark(config: RedisConfig, project: str, mark: str) -> str:
    """Leave a mark if there is none; the one that is there then. Raise OnlineStoreError."""
    with store_errors(config), closing(open_client(config, ANSWER_SECONDS_MAX)) as client:
        client.set(mark_key(project), mark, nx=True)
        return mark_in(client.get(mark_key(project))) or ""


def write_mark(config: RedisConfig, project: str, mark: str) -> None:
    """Leave a mark, in place of any other. Raise OnlineStoreError."""
    with store_errors(config), closing(open_client(config, ANSWER_SECONDS_MAX)) as client:
        client.set(mark_key(project), mark)


def mark_in(answer: object) -> str | None:
    """The mark out of Redis' answer to GET; None if there is none."""
    return answer.decode() if isinstance(answer, bytes) else None
