"""Fields of Redis hashes: what is read, and reading it from one server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import hiredis

from contracts.feast_redis import redis_field, redis_timestamp_field
from contracts.online_store import RedisConfig
from contracts.redis_mark import mark_key
from scorer.online_store import Source
from scorer.redis_connection import RedisConnection

# Hashes that Redis may read in one step; of 20 features each they take it about 1 ms, and nobody
# else is answered meanwhile.
STEP_HASHES_MAX = 256
_MULTI = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC = b"*1\r\n$4\r\nEXEC\r\n"


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
    """Hashes of one server, over one connection that all reads share.

    All of a read is from one generation. Redis answers what it has received: a packet that comes in
    pieces (it reads 16 kB at a time, and what several callers sent lies in a row) could be answered
    half before and half after the step in which a replay puts its values in place. So a read of
    several hashes is one step of the server. A very large one would keep others waiting: there the
    mark that a replay touches is watched, and only a read that straddles a touch is done again.
    """

    def __init__(self, config: RedisConfig, project: str, answer_seconds: float) -> None:
        """Nothing is opened yet; ``project`` is Feast's. For the time see ``RedisConnection``."""
        self._connection = RedisConnection(config, answer_seconds)
        key = mark_key(project).encode()
        self._watch = b"*2\r\n$5\r\nWATCH\r\n$%d\r\n%b\r\n" % (len(key), key)

    async def read(self, reads: Sequence[HashRead]) -> list[Any]:
        """See ``Hashes``."""
        return await self._ask([_command(one) for one in reads])

    async def read_each(self, keys: Sequence[bytes], rows: Sequence[RowFields]) -> list[Any]:
        """See ``Hashes``."""
        commands = [
            b"%b%d\r\n%b\r\n%b" % (row.begin, len(key), key, row.sent)
            for key, row in zip(keys, rows, strict=True)
        ]
        return await self._ask(commands)

    async def _ask(self, commands: list[bytes]) -> list[Any]:
        """The answers to commands, all from one generation; an exception for each without one."""
        count = len(commands)
        if count == 1:
            return await self._connection.ask(commands[0], 1)
        if count > STEP_HASHES_MAX:
            request = b"".join((self._watch, *commands, _MULTI, _EXEC))
            is_watched, *answers, _, untouched = await self._connection.ask(request, count + 3)
            # EXEC gives no list if the mark was touched, be it to what it was before. A user who
            # may not watch is answered in one step.
            if untouched == [] and is_watched == b"OK":
                return answers
        replies = await self._connection.ask(b"".join((_MULTI, *commands, _EXEC)), count + 2)
        found = replies[-1]
        if isinstance(found, list) and len(found) == count:
            return found
        # EXEC only says that something went wrong; what, a reply before it says.
        why = next((one for one in replies if isinstance(one, hiredis.ReplyError)), None)
        return [why] * count

    async def close(self) -> None:
        """See ``Hashes``."""
        await self._connection.close()


def _command(read: HashRead) -> bytes:
    key, rows = read
    begin = _begin(sum(row.count for row in rows))
    return b"%b%d\r\n%b\r\n%b" % (begin, len(key), key, b"".join(row.sent for row in rows))
