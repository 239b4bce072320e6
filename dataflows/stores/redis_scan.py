"""Goes through what a project has in Redis, a bounded number of keys at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import redis
from redis.cluster import RedisCluster

from contracts.feast_bytes import decode_entity_key
from contracts.feast_redis import entity_key_of
from contracts.plan import View

# How many keys Redis looks at in one step; it answers nobody else meanwhile (about 1 ms).
_KEYS_AT_ONCE = 2_000
_GLOB = re.compile(rb"([*?\[\]\\^-])")


def entity_keys(client: redis.Redis | RedisCluster, project: str) -> Iterator[list[bytes]]:
    """The entity keys of a project, without its name, some at a time; one may come twice.

    All keys that are there from the first step to the last come; others may.
    """
    pattern = b"*" + _GLOB.sub(rb"\\\1", project.encode())
    keys: Iterator[Any] = client.scan_iter(match=pattern, count=_KEYS_AT_ONCE)
    chunk: list[bytes] = []
    for key in keys:
        # The pattern also fits keys of projects whose names end with this one's.
        entity = entity_key_of(project, key)
        if entity is None:
            continue
        chunk.append(entity)
        if len(chunk) == _KEYS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def keys_with(client: redis.Redis | RedisCluster, begin: str) -> Iterator[list[bytes]]:
    """The keys that begin so, some at a time; otherwise as ``entity_keys``."""
    pattern = _GLOB.sub(rb"\\\1", begin.encode()) + b"*"
    found: Iterator[Any] = client.scan_iter(match=pattern, count=_KEYS_AT_ONCE)
    while chunk := list(islice(found, _KEYS_AT_ONCE)):
        yield chunk


def views_of(entity: bytes, views: Sequence[View]) -> list[View]:
    """Those of the views that have such entities: the join keys are the same."""
    names = sorted(decode_entity_key(entity))
    return [view for view in views if sorted(view.join_keys) == names]
