"""Writes feature rows to Redis, so that Feast reads them as its own.

Keys, fields and values are byte for byte those of Feast's SDK. A row replaces what is there without
a look at its event time (Feast's SDK looks, in a round trip of its own): the dataflow is the one
writer, gives the last row of an entity, and after a crash writes again what it wrote. That it is
the one writer is seen to with every chunk of rows: see ``redis_fence``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import RedisError
from redis.cluster import RedisCluster

from contracts.online_store import RedisConfig
from contracts.plan import View
from contracts.redis_mark import mark_key
from dataflows.stores.redis_client import open_cluster, open_server, store_errors
from dataflows.stores.redis_commands import RowLayout
from dataflows.stores.redis_fence import Fence
from dataflows.stores.redis_mark import mark_in
from dataflows.stores.redis_protocol import Strings
from dataflows.stores.store_mark import check_mark, where_is

# Two chunks are under way at a time, so that Redis has one to work on while the next is made. While
# it takes a fenced one, about 2 µs a row, it answers nobody else.
_ROWS_AT_ONCE = 500
# Long texts make smaller chunks.
_TEXT_BYTES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class _Rows:
    """Staged rows of one view, in arrays of their own."""

    layout: RowLayout
    keys: Sequence[bytes]
    stamps_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    strings: Strings

    def chunks(self) -> Iterator[_Rows]:
        """The same rows, some at a time."""
        text_bytes = self.layout.text_bytes(self.values, self.strings)
        ends = None if text_bytes is None else np.cumsum(text_bytes)
        start = 0
        while start < len(self.keys):
            end = start + _ROWS_AT_ONCE
            if ends is not None:
                before = ends[start - 1] if start else 0
                fitting = int(np.searchsorted(ends, before + _TEXT_BYTES_AT_ONCE, side="right"))
                end = min(end, max(start + 1, fitting))
            part = slice(start, end)
            keys, stamps_us, values = self.keys[part], self.stamps_us[part], self.values[part]
            yield _Rows(self.layout, keys, stamps_us, values, self.strings)
            start = end


class RedisOnlineWriter:
    """Writes the current values of entities. One thread.

    Readers see rows while ``commit`` is at work, each of them whole.
    """

    def __init__(
        self, config: RedisConfig, project: str, timeout_seconds: float, mark: str | None = None
    ) -> None:
        """Remember where to write; ``commit`` connects.

        Args:
            config: from ``contracts.online_store``.
            project: Feast project; stands at the end of every key.
            timeout_seconds: longest wait for a connection, for a chunk to be taken, or an answer.
            mark: what the store must bear, as ``redis_mark`` leaves it: each chunk of rows takes
                effect only if the store bears it at that very moment, so that a writer whose
                store was lost or taken over writes nothing more, whatever was under way. In a
                cluster the mark is on one node, and no step is atomic over two: it is looked at
                before each chunk, so of a chunk that was under way at the takeover the rest may
                arrive after it. None: no look.
        """
        self._config = config
        self._project = project
        self._timeout_seconds = timeout_seconds
        self._mark = mark
        self._fence = None if mark is None else Fence(config, project, mark)
        self._layouts: dict[View, RowLayout] = {}
        self._staged: list[_Rows] = []
        # How many replies what ``send`` sent has; all that is staged then is under way.
        self._under_way = 0
        self._connection: Any = None
        self._cluster: RedisCluster | None = None

    def ensure_table(self, view: View) -> None:
        """Prepare the bytes that all rows of the view share; Redis has no tables."""
        if view not in self._layouts:
            ttl = self._config.key_ttl_seconds
            self._layouts[view] = RowLayout(self._project, view, ttl)

    def write(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        texts: Sequence[str] = (),
    ) -> int:
        """Stage rows of one view; ``commit`` sends them, in the order of these calls.

        Args:
            view: whose values these are.
            keys: n serialized entity keys; of an entity that comes twice the later row stays.
            stamps_us: int64[n], from when on the values hold, microseconds since 1970 UTC.
            values: float64[n, F], column i is ``view.aggregates[i]``; NaN is null.
            texts: what the values of string features are places in; those that occur are copied.

        Returns:
            The number of rows given, n.

        Raises:
            ValueError: shapes do not match, or a value does not fit the feature's type.
        """
        count = len(keys)
        if stamps_us.shape != (count,) or values.shape != (count, len(view.aggregates)):
            raise ValueError(
                f"view {view.name!r}: {count} keys, stamps {stamps_us.shape}, values"
                f" {values.shape}; wanted ({count},) and ({count}, {len(view.aggregates)})"
            )
        if count:
            assert not self._under_way, "what was sent is to be committed first"
            self.ensure_table(view)
            layout = self._layouts[view]
            staged, strings = layout.stage(values, texts)
            self._staged.append(_Rows(layout, list(keys), stamps_us.copy(), staged, strings))
        return count

    def send(self) -> None:
        """As ``LiveWriter``. In a cluster, and before the first ``commit``, it does nothing."""
        connection = self._connection
        # A question whether the connection is alive would be waited for.
        if connection is None or connection.health_check_interval or self._under_way:
            return
        sendings = list(islice(self._sendings(), 2))
        if len(sendings) != 1:
            return
        ((data, replies),) = sendings
        sent = data if self._fence is None else self._fence.around(data)
        try:
            connection.send_packed_command([sent], check_health=False)
        except (RedisError, OSError):
            # ``commit`` sends it again over a new connection, or says what is wrong.
            self._disconnect()
        else:
            self._under_way = replies

    def commit(self) -> None:
        """Send everything staged and wait until Redis has taken all of it.

        Raises:
            OnlineStoreGoneError: Redis does not answer or takes no writes now. Everything stays
                staged, and the next call sends all of it again over a new connection.
            OnlineStoreError: it refuses, or bears the mark no more; the message says what to do.
        """
        if not self._staged:
            return
        try:
            with store_errors(self._config):
                if self._config.is_cluster:
                    self._send_to_cluster()
                else:
                    self._send_to_server()
        except BaseException:
            # Answers may be under way still: what comes next needs another connection.
            self._disconnect()
            raise
        self._staged.clear()
        self._under_way = 0

    def close(self) -> None:
        """Drop what is not committed and let go of the connection."""
        self._staged.clear()
        self._disconnect()

    def _send_to_server(self) -> None:
        if self._under_way:
            self._read(self._under_way)
            return
        if self._connection is None:
            client = open_server(self._config, self._timeout_seconds)
            self._connection = client.connection_pool.make_connection()
        connection = self._connection
        # Only between commits may redis-py see to it that the connection is alive
        # (health_check_interval): its question would get the answer to one of ours.
        connection.connect()
        connection.check_health()
        fence = self._fence
        under_way = 0
        for data, replies in self._sendings():
            sent = data if fence is None else fence.around(data)
            connection.send_packed_command([sent], check_health=False)
            self._read(under_way)
            under_way = replies
        self._read(under_way)

    def _read(self, replies: int) -> None:
        """Read what Redis says to one sending; 0 for none."""
        if not replies:
            return
        if self._fence is not None:
            self._fence.read(self._connection, replies)
            return
        for _ in range(replies):
            self._connection.read_response()

    def _sendings(self) -> Iterator[tuple[bytes, int]]:
        """What is sent at a time, and how many replies it has.

        Live rows come in crumbs, a few of each shard: they go together, since each time that is
        waited for Redis is a time that is waited for the interpreter too.
        """
        together: list[memoryview] = []
        count = size = replies = 0
        for rows in self._staged:
            for part in rows.chunks():
                data = rows.layout.encode(part.keys, part.stamps_us, part.values, part.strings)
                together.append(data)
                count, size = count + len(part.keys), size + len(data)
                replies += len(part.keys) * rows.layout.replies_per_row
                if count >= _ROWS_AT_ONCE or size >= _TEXT_BYTES_AT_ONCE:
                    yield b"".join(together), replies
                    together, count, size, replies = [], 0, 0, 0
        if together:
            yield b"".join(together), replies

    def _send_to_cluster(self) -> None:
        if self._cluster is None:
            self._cluster = open_cluster(self._config, self._timeout_seconds)
        for rows in self._staged:
            for part in rows.chunks():
                if self._mark is not None:
                    found = mark_in(self._cluster.get(mark_key(self._project)))
                    check_mark(where_is(self._config), self._mark, found)
                data = part.keys, part.stamps_us, part.values, part.strings
                with self._cluster.pipeline() as pipe:  # type: ignore[no-untyped-call]
                    for command in rows.layout.commands(*data):
                        pipe.execute_command(*command)
                    pipe.execute()

    def _disconnect(self) -> None:
        self._under_way = 0
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
