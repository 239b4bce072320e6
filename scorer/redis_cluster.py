"""Hashes of a Redis cluster, through redis-py, which knows which node has which key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import redis
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from contracts.online_store import RedisConfig
from scorer.errors import StoreUnavailableError
from scorer.redis_hashes import HashRead, RowFields

_READS_MAX = 32
# Moved slots and a new master are found within these; a cluster that is away is not waited for.
_RETRIES = 2
_NO_ANSWER = (redis.ConnectionError, redis.TimeoutError, OSError)


class ClusterHashes:
    """See ``scorer.redis_hashes.Hashes``; correct rather than fast."""

    def __init__(self, config: RedisConfig, answer_seconds: float) -> None:
        """Nothing is opened yet. ``answer_seconds`` counts where the configuration has no time."""
        self._config = config
        self._answer_seconds = answer_seconds
        self._client: RedisCluster | None = None
        self._room = asyncio.Semaphore(_READS_MAX)
        self._tasks: set[asyncio.Task[list[Any]]] = set()
        self._is_closed = False

    async def read(self, reads: Sequence[HashRead]) -> list[Any]:
        """See ``Hashes``."""
        if self._is_closed:
            raise StoreUnavailableError("the online store reader is closed")
        # A read that its caller gives up goes on to its end: cut off, it could leave its replies
        # on the connection for the next one.
        task = asyncio.create_task(self._read(reads))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def read_each(self, keys: Sequence[bytes], rows: Sequence[RowFields]) -> list[Any]:
        """See ``Hashes``."""
        return await self.read([HashRead(key, [row]) for key, row in zip(keys, rows, strict=True)])

    async def close(self) -> None:
        """See ``Hashes``."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._client is not None:
            await self._client.aclose()

    def _finished(self, task: asyncio.Task[list[Any]]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            # Taken, so that asyncio does not complain of an error that nobody waits for.
            task.exception()

    async def _read(self, reads: Sequence[HashRead]) -> list[Any]:
        async with self._room:
            if self._client is None:
                self._client = self._made()
            pipeline = self._client.pipeline()
            for one in reads:
                pipeline.hmget(one.key, [name for row in one.rows for name in row.names])
            try:
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
                for one in answers:
                    if isinstance(one, _NO_ANSWER):
                        raise one
            except (redis.RedisError, OSError) as error:
                raise StoreUnavailableError(
                    f"Redis cluster at {self._config.label} does not answer: {error}; try again"
                ) from error
            return answers

    def _made(self) -> RedisCluster:
        nodes = [ClusterNode(host, port) for host, port in self._config.addresses]
        options = self._config.client_options(self._answer_seconds)
        return RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), _RETRIES), **options)
