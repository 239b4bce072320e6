"""Reads current feature values from Redis as Feast keeps them there, without Feast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.feast_redis import decode_timestamp
from contracts.online_store import RedisConfig
from scorer.errors import ConfigurationError, StoreUnavailableError, UnreadableEntityError
from scorer.online_store import Cells, Wanted
from scorer.redis_hashes import Hashes, HashRead, RowFields, ServerHashes, row_fields
from scorer.redis_wire import explain

# Redis answers a read in well under a millisecond; a call that says nothing has a second.
ANSWER_SECONDS = 0.5
_TIMES_MAX = 65_536


class RedisReader:
    """An ``OnlineReader`` on a Redis server or cluster; one round trip for all of a read.

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
        # What contracts.feast_redis.redis_key puts behind an entity's key.
        self._suffix = project.encode()
        self._times: dict[bytes, int] = {}
        self._address = config.label
        try:
            self._hashes = _hashes(config, project, answer_seconds)
        except OSError as error:
            raise ConfigurationError(
                f"connection_string of feature_store.yaml: its certificates fail: {error}"
            ) from error

    async def read_cells(self, wanted: Sequence[Wanted]) -> list[Cells]:
        """One ``Cells`` for each ``Wanted``; all of an entity is from one moment.

        All is from one generation, except in a cluster, where each node changes at its own moment.

        Raises:
            StoreUnavailableError: the server is away or refused the read, or the reader is closed.
        """
        if not wanted:
            return []
        suffix = self._suffix
        fields = [row_fields(source) for source, _ in wanted]
        if len({key for _, key in wanted}) == len(wanted):
            return await self._one_each(wanted, fields)
        hashes: dict[bytes, list[int]] = {}
        for position, one in enumerate(wanted):
            hashes.setdefault(one.entity_key, []).append(position)
        reads = [
            HashRead(key + suffix, [fields[position] for position in positions])
            for key, positions in hashes.items()
        ]
        answers = await self._hashes.read(reads) if reads else []
        found: dict[int, Cells] = {}
        for positions, answer in zip(hashes.values(), answers, strict=True):
            count = sum(fields[position].count for position in positions)
            self._check(answers, answer, count)
            start = 0
            for position in positions:
                end = start + fields[position].count
                found[position] = self._cells(wanted[position], answer, start, end)
                start = end
        return [found[position] for position in range(len(wanted))]

    async def _one_each(self, wanted: Sequence[Wanted], fields: Sequence[RowFields]) -> list[Cells]:
        """As ``read_cells``, where no entity is wanted of two views."""
        suffix, times = self._suffix, self._times
        answers = await self._hashes.read_each([key + suffix for _, key in wanted], fields)
        try:
            return [
                Cells(None, [None] * (len(answer) - 1))
                if answer[0] is None
                else Cells(times[answer[0]], answer[1:])
                for answer in answers
            ]
        except (KeyError, IndexError, TypeError):
            # An event time that was not seen before, or an error in the place of an answer.
            found = []
            for one, row, answer in zip(wanted, fields, answers, strict=True):
                self._check(answers, answer, row.count)
                found.append(self._cells(one, answer, 0, row.count))
            return found

    def _cells(self, wanted: Wanted, answer: Sequence[bytes | None], start: int, end: int) -> Cells:
        stamp = answer[start]
        if stamp is None:
            return Cells(None, [None] * (end - start - 1))
        time_us = self._times.get(stamp)
        if time_us is None:
            time_us = self._time(wanted, stamp)
        return Cells(time_us, answer[start + 1 : end])

    def _time(self, wanted: Wanted, stamp: bytes) -> int:
        try:
            time_us = decode_timestamp(stamp)
        except ValueError as error:
            raise UnreadableEntityError(
                f"event time of view {wanted.view} cannot be read: {error}"
            ) from error
        # Rows of one moment share their bytes.
        if len(self._times) >= _TIMES_MAX:
            self._times.clear()
        self._times[stamp] = time_us
        return time_us

    def _check(self, answers: Sequence[Any], answer: Any, count: int) -> None:
        """Raise StoreUnavailableError if an answer is not so many values: of some, or of all."""
        if isinstance(answer, Exception):
            is_all = all(isinstance(one, Exception) for one in answers)
            kind = StoreUnavailableError if is_all else UnreadableEntityError
            raise kind(explain(self._address, answer))
        if not isinstance(answer, list) or len(answer) != count:
            raise StoreUnavailableError(
                f"{self._address} does not answer HMGET as Redis does: check the connection_string"
                " of feature_store.yaml"
            )

    async def close(self) -> None:
        """End the connections; reading afterwards is an error."""
        await self._hashes.close()


def _hashes(config: RedisConfig, project: str, answer_seconds: float) -> Hashes:
    if config.is_cluster:
        # redis-py takes a third of a second to import.
        from scorer.redis_cluster import ClusterHashes

        return ClusterHashes(config, answer_seconds)
    return ServerHashes(config, project, answer_seconds)
