"""Reads current feature values from Redis as Feast keeps them there, without Feast."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.feast_redis import decode_timestamp, redis_key
from contracts.online_store import RedisConfig
from scorer.errors import ConfigurationError, StoreUnavailableError
from scorer.online_store import Cells, Found, Wanted
from scorer.redis_hashes import Hashes, HashRead, ServerHashes, row_fields
from scorer.redis_wire import explain
from scorer.stored_number import stored_numbers

# Redis answers a read in well under a millisecond; a call that says nothing has a second.
ANSWER_SECONDS = 0.5


class RedisReader:
    """A ``CellReader`` on a Redis server or cluster; one round trip for all of a read.

    A row is there exactly when its event time is. A server that comes back is read again without
    anyone's help.
    """

    def __init__(
        self, config: RedisConfig, project: str, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        """Nothing is opened yet.

        Args:
            config: the server; ``socket_timeout`` and ``socket_connect_timeout`` in its options
                go before ``answer_seconds``.
            project: Feast's project, part of every key.
            answer_seconds: a server that is silent for so long is away.

        Raises:
            ConfigurationError: a certificate that the connection string names cannot be used.
        """
        self._project = project
        self._address = config.label
        try:
            self._hashes = _hashes(config, answer_seconds)
        except OSError as error:
            raise ConfigurationError(
                f"connection_string of feature_store.yaml: its certificates fail: {error}"
            ) from error

    async def read(self, wanted: Sequence[Wanted]) -> list[Found]:
        """One ``Found`` for each ``Wanted``; all of an entity is from one moment.

        Numbers of any width come as doubles, booleans as 0.0 and 1.0.

        Raises:
            StoreUnavailableError: the server is away or refused the read, the reader is closed, or
                a wanted feature is no number (the text names it).
        """
        return [
            Found(cells.event_time_us, stored_numbers(one.view, one.features, cells.values))
            for one, cells in zip(wanted, await self.read_cells(wanted), strict=True)
        ]

    async def read_cells(self, wanted: Sequence[Wanted]) -> list[Cells]:
        """One ``Cells`` for each ``Wanted``, read as ``read`` does; the store fails the same."""
        hashes: dict[bytes, list[int]] = {}
        for position, one in enumerate(wanted):
            hashes.setdefault(one.entity_key, []).append(position)
        fields = [row_fields(one.view, one.features) for one in wanted]
        reads = [
            HashRead(redis_key(self._project, key), [fields[position] for position in positions])
            for key, positions in hashes.items()
        ]
        answers = await self._hashes.read(reads) if reads else []
        found: dict[int, Cells] = {}
        for positions, answer in zip(hashes.values(), answers, strict=True):
            if isinstance(answer, Exception):
                raise StoreUnavailableError(explain(self._address, answer))
            start = 0
            for position in positions:
                end = start + len(fields[position].names)
                found[position] = _cells(wanted[position], answer[start:end])
                start = end
        return [found[position] for position in range(len(wanted))]

    async def close(self) -> None:
        """End the connections; reading afterwards is an error."""
        await self._hashes.close()


def _hashes(config: RedisConfig, answer_seconds: float) -> Hashes:
    if config.is_cluster:
        # redis-py takes a third of a second to import.
        from scorer.redis_cluster import ClusterHashes

        return ClusterHashes(config, answer_seconds)
    return ServerHashes(config, answer_seconds)


def _cells(wanted: Wanted, row: Sequence[bytes | None]) -> Cells:
    if row[0] is None:
        return Cells(None, [None] * len(wanted.features))
    try:
        time_us = decode_timestamp(row[0])
    except ValueError as error:
        raise StoreUnavailableError(
            f"event time of view {wanted.view} cannot be read: {error}"
        ) from error
    return Cells(time_us, list(row[1:]))
