"""For tests of the Kafka reader: waiting, reading to an offset, and what stock ``poll`` gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from contracts.log import Chunk, LogError
from contracts.settings import DataflowSettings
from dataflows.sources.kafka_log import KafkaLog
from dataflows.sources.kafka_partition import KafkaPartition

WAIT_SECONDS = 20.0

# Offset, time and value of a record.
Record = tuple[int, int, bytes]


def settings_for(servers: str, **given: Any) -> DataflowSettings:
    """Settings of a dataflow that reads from these brokers."""
    return DataflowSettings(log_url=f"kafka://{servers}", **given)


@contextmanager
def opened(settings: DataflowSettings, group: str = "test-readers") -> Iterator[KafkaLog]:
    """A log that is closed in the end."""
    log = KafkaLog(settings, group)
    try:
        yield log
    finally:
        log.close()


def wait_until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Look again and again; fails if it is still not so after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def read_to(
    reader: KafkaPartition, end: int, bytes_max: int = 1 << 20, until: int | None = None
) -> list[Record]:
    """All records from where the reader is, until it has come to offset ``end``."""
    found: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while reader.offset < end:
        before = reader.offset
        chunk = reader.read(bytes_max, until)
        if chunk is None:
            assert time.monotonic() < deadline, f"{reader.offset} of {end}"
            time.sleep(0.001)
            continue
        assert len(chunk.records) <= bytes_max or len(chunk.starts) == 1
        assert before <= chunk.offsets[0]
        assert chunk.offsets[-1] < chunk.next_offset == reader.offset
        found += records_of(chunk)
    return found


def failure_of(reader: KafkaPartition) -> str:
    """What reading fails with; records before it are thrown away."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            reader.read(1 << 20)
        except LogError as error:
            return str(error)
        time.sleep(0.001)
    raise AssertionError(f"{reader.name} does not fail")


def records_of(chunk: Chunk) -> list[Record]:
    """The records of a chunk, one by one."""
    assert chunk.times_ms is not None
    assert chunk.starts.dtype == chunk.offsets.dtype == chunk.times_ms.dtype == np.int64
    values = [chunk.record(index) for index in range(len(chunk.starts))]
    return list(zip(chunk.offsets.tolist(), chunk.times_ms.tolist(), values, strict=True))


def polled(servers: str, topic: str, partition: int, offset: int, end: int) -> list[Record]:
    """What kafka-python's own ``poll`` gives from ``offset`` to ``end``."""
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="none",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    name = TopicPartition(topic, partition)
    consumer.assign([name])
    consumer.seek(name, offset)
    found: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while consumer.position(name) < end:
        assert time.monotonic() < deadline
        found += [
            (record.offset, record.timestamp, record.value or b"")
            for record in consumer.poll(100).get(name, [])
        ]
    consumer.close()
    return [record for record in found if record[0] < end]
