"""Fields of Redis hashes: what is read, and reading it from one server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from contracts.feast_redis import redis_field, redis_timestamp_field
from contracts.online_store import RedisConfig
from scorer.online_store import Source
from scorer.redis_connection import RedisConnection


@dataclass(frozen=True, slots=True)
class RowFields:
    """The hash fields of a view's row: its event time, then some of its features.

    ``sent`` is the same as it goes over the wire, ``begin`` what goes before the key of a hash of
    which nothing else is read.
    """

    names: tuple[bytes, ...]
    count: int
    sent: bytes
    begin: bytes


class HashRead(NamedTuple):
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

    async def read_each(self, keys: Sequence[bytes], rows: Sequence[RowFields]) -> list[Any]:
        """``read`` of one row of each hash."""
        ...

    async def close(self) -> None:
        """Let go of connections; reading afterwards is an error."""
        ...


@lru_cache(maxsize=4_096)
def row_fields(source: Source) -> RowFields:
    """The fields of these features, and of the row's event time, which comes first."""
    names = (
        redis_timestamp_field(source.view),
        *(redis_field(source.view, feature) for feature in source.features),
    )
    sent = b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in names)
    return RowFields(names, len(names), sent, _begin(len(names)))


def _begin(count: int) -> bytes:
    return b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + count)


class ServerHashes:
    """Hashes of one server, over one connection that all reads share."""

    def __init__(self, config: RedisConfig, answer_seconds: float) -> None:
        """Nothing is opened yet; for the time see ``RedisConnection``."""
        self._connection = RedisConnection(config, answer_seconds)

    async def read(self, reads: Sequence[HashRead]) -> list[Any]:
        """See ``Hashes``."""
        return await self._connection.ask(b"".join(map(_command, reads)), len(reads))

    async def read_each(self, keys: Sequence[bytes], rows: Sequence[RowFields]) -> list[Any]:
        """See ``Hashes``."""
        commands = [
            b"%b%d\r\n%b\r\n%b" % (row.begin, len(key), key, row.sent)
            for key, row in zip(keys, rows, strict=True)
        ]
        return await self._connection.ask(b"".join(commands), len(commands))

    async def close(self) -> None:
        """See ``Hashes``."""
        await self._connection.close()


def _command(read: HashRead) -> bytes:
    key, rows = read
    begin = _begin(sum(row.count for row in rows))
    return b"%b%d\r\n%b\r\n%b" % (begin, len(key), key, b"".join(row.sent for row in rows))
