"""Fields of Redis hashes: what is read, and reading it from one server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from contracts.feast_redis import redis_field, redis_timestamp_field
from contracts.online_store import RedisConfig
from scorer.redis_connection import RedisConnection


@dataclass(frozen=True, slots=True)
class RowFields:
    """The hash fields of a view's row: its event time, then some of its features.

    ``sent`` is the same as it goes over the wire.
    """

    names: tuple[bytes, ...]
    sent: bytes


@dataclass(frozen=True, slots=True)
class HashRead:
    """Rows of several views that one hash holds; all are read at one moment."""

    key: bytes
    rows: list[RowFields]


class Hashes(Protocol):
    """Reads hashes. Implementations answer all reads of a call in one round trip per server."""

    async def read(self, reads: Sequence[HashRead]) -> list[Any]:
        """For each read the values of its fields in order (``bytes | None``), or an exception.

        Raises:
            StoreUnavailableError: no answer, to none of them.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; reading afterwards is an error."""
        ...


@lru_cache(maxsize=4_096)
def row_fields(view: str, features: tuple[str, ...]) -> RowFields:
    """The fields of these features, and of the row's event time, which comes first."""
    names = (redis_timestamp_field(view), *(redis_field(view, feature) for feature in features))
    return RowFields(names, b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in names))


class ServerHashes:
    """Hashes of one server, over one connection that all reads share."""

    def __init__(self, config: RedisConfig, answer_seconds: float) -> None:
        """Nothing is opened yet; for the time see ``RedisConnection``."""
        self._connection = RedisConnection(config, answer_seconds)

    async def read(self, reads: Sequence[HashRead]) -> list[Any]:
        """See ``Hashes``."""
        parts = []
        for one in reads:
            words = 2 + sum(len(row.names) for row in one.rows)
            parts.append(b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n" % (words, len(one.key), one.key))
            parts += [row.sent for row in one.rows]
        return await self._connection.ask(b"".join(parts), len(reads))

    async def close(self) -> None:
        """See ``Hashes``."""
        await self._connection.close()
