"""Rows in Redis as Feast keeps them, put there by redis-py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
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
from scorer.errors import StoreUnavailableError
from scorer.online_store import Wanted
from scorer.online_store import wanted as want
from scorer.redis_reader import RedisReader
from tests.scorer.found import Found, read_found

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

    def __init__(self, client: redis.Redis | redis.RedisCluster, project: str) -> None:
        self.client = client
        self.project = project

    def write(
        self, view: str, key: bytes, values: Mapping[str, float | None], at_us: int = NOON_US
    ) -> Wanted:
        """Write a row of doubles, and give the read that wants all of it."""
        self.client.hset(redis_key(self.project, key), mapping=row(view, values, at_us))
        return want(view, tuple(values), key)

    def put(self, key: bytes, field: bytes, data: bytes) -> None:
        """Write the bytes of one field."""
        fields: dict[Any, Any] = {field: data}
        self.client.hset(redis_key(self.project, key), mapping=fields)


@asynccontextmanager
async def reading(
    config: RedisConfig, project: str, answer_seconds: float = 5.0
) -> AsyncIterator[RedisReader]:
    """A reader for as long as the context."""
    reader = RedisReader(config, project, answer_seconds)
    try:
        yield reader
    finally:
        await reader.close()


def read_once(config: RedisConfig, project: str, *wanted: Wanted) -> list[Found]:
    """One read by a reader of its own."""

    async def once() -> list[Found]:
        async with reading(config, project) as reader:
            return await read_found(reader, wanted)

    return asyncio.run(once())


async def until_back(
    reader: RedisReader, wanted: Sequence[Wanted], seconds_max: float = 30.0
) -> list[Found]:
    """Read again and again until it comes off."""
    end = time.monotonic() + seconds_max
    while True:
        try:
            return await read_found(reader, wanted)
        except StoreUnavailableError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.01)
