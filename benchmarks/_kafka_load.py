"""Sends records to Kafka with little CPU, for loads that share the machine with what is measured.

kafka-python's producer takes 120 µs of CPU for each of 5,000 records a second, which is as much as
the whole dataflow does. This one makes one request of all records of a moment.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

from kafka.record.default_records import DefaultRecordBatchBuilder

# Version 3 of a Produce request: the last one in which a record batch is the newest kind of batch
# and nothing else is new.
_PRODUCE, _VERSION, _ACKS_ALL = 0, 3, -1
_CLIENT = b"load"
_BATCH_BYTES_MAX = 1_000_000
_NO_PRODUCER = -1
_ANSWER_SECONDS_MAX = 60.0


class LoadProducer:
    """One connection to the broker that leads all partitions of a topic. Not safe for threads."""

    def __init__(self, servers: str, topic: str) -> None:
        """Connect to the first of ``servers`` (``host:port,...``)."""
        host, _, port = servers.partition(",")[0].rpartition(":")
        self._topic = topic
        self._socket = socket.create_connection((host, int(port)), _ANSWER_SECONDS_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._under_way = 0
        name = topic.encode()
        self._head = struct.pack(">hhih", _PRODUCE, _VERSION, 0, len(_CLIENT)) + _CLIENT
        # No transaction, who must have the records, for how long we wait, one topic.
        self._head += struct.pack(">hhii", -1, _ACKS_ALL, int(_ANSWER_SECONDS_MAX * 1000), 1)
        self._head += struct.pack(">h", len(name)) + name

    def send(self, values: Mapping[int, Sequence[bytes]], time_ms: int) -> None:
        """Send records, by partition, in one request, once the one before is answered.

        Raises:
            RuntimeError: Kafka did not take the records of the request before.
        """
        self.settle()
        if not values:
            return
        parts = [self._head, struct.pack(">i", len(values))]
        for partition, some in values.items():
            batch = _batch(some, time_ms)
            parts += [struct.pack(">ii", partition, len(batch)), batch]
        request = b"".join(parts)
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        self._under_way = len(values)

    def settle(self) -> None:
        """Wait until Kafka has all that was sent; raises as ``send`` does."""
        count, self._under_way = self._under_way, 0
        if not count:
            return
        (size,) = struct.unpack(">i", self._answers.read(4))
        answer = self._answers.read(size)
        # Correlation, number of topics, the topic's name, number of partitions.
        at = 4 + 4 + 2 + len(self._topic.encode()) + 4
        for _ in range(count):
            partition, code, _, _ = struct.unpack_from(">ihqq", answer, at)
            if code:
                raise RuntimeError(
                    f"{self._topic}/{partition}: Kafka answers with error {code}; the first "
                    "server of KAFKA_BOOTSTRAP_SERVERS must lead all partitions"
                )
            at += 22

    def close(self) -> None:
        """Let go of the connection."""
        self._answers.close()
        self._socket.close()


def _batch(values: Sequence[bytes], time_ms: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, 0, False, _NO_PRODUCER, _NO_PRODUCER, _NO_PRODUCER, _BATCH_BYTES_MAX
    )
    for place, value in enumerate(values):
        if builder.append(place, time_ms, None, value, []) is None:
            raise RuntimeError(f"{len(values)} records are too many for one batch: lower --rate")
    return bytes(builder.build())
