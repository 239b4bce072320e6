"""Rows in Redis as Feast keeps them, put there by redis-py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from contracts.feast_bytes import encode_value
from contracts.feast_redis import (
    encode_timestamp,
    redis_field,
    redis_key,
    redis_timestamp_field,
)
from contracts.online_store import RedisConfig
from scorer.online_store import Wanted

NOON_US = 1_700_000_000_123_456


def config_of(port: int, **options: object) -> RedisConfig:
    """The configuration of a server on this machine."""
    return RedisConfig((("127.0.0.1", port),), is_cluster=False, options=options)


def row(view: str, values: Mapping[str, float | None], at_us: int = NOON_US) -> dict[Any, Any]:
    """The hash fields of one row of doubles."""
    fields: dict[Any, Any] = {redis_timestamp_field(view): encode_timestamp(at_us)}
    for feature, value in values.items():
        fields[redis_field(view, feature)] = encode_value("float64", value)
    return fields


class Rows:
    """Writes rows of one project."""

    def __init__(self, client: redis.Redis, project: str) -> None:
        self.client = client
        self.project = project

    def write(
        self, view: str, key: bytes, values: Mapping[str, float | None], at_us: int = NOON_US
    ) -> Wanted:
        """Write a row of doubles, and give the read that wants all of it."""
        self.client.hset(redis_key(self.project, key), mapping=row(view, values, at_us))
        return Wanted(view, tuple(values), key)

    def put(self, key: bytes, field: bytes, data: bytes) -> None:
        """Write the bytes of one field."""
        fields: dict[Any, Any] = {field: data}
        self.client.hset(redis_key(self.project, key), mapping=fields)
