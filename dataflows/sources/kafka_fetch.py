"""A consumer that gives chunks: whole batches by a hook into kafka-python, or its stock ``poll``.

The hook is private to kafka-python (3.0.x): its fetcher makes an object of its class
``PartitionRecords`` for every answer to a fetch. Ours reads all batches of the answer at once.
Positions, seeks, pauses, and what it does when leaders change stay kafka-python's.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import kafka.errors
import numpy as np
from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatch

from contracts.log import Chunk
from dataflows.sources.kafka_batches import BatchError, parse

# How long a broker waits for news before it answers a fetch that there are none.
FETCH_WAIT_SECONDS = 0.25
# The same while a partition waits for room: its next fetch waits for the answer to this one.
FETCH_WAIT_SHORT_SECONDS = 0.01
ASK_END_SECONDS = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class End:
    """Where a partition ends.

    Attributes:
        readable: the offset behind the last record that may be read.
        written: the offset behind the last record; later than ``readable`` while a transaction is
            open.
    """

    readable: int
    written: int


@dataclass
class Answers:
    """What one poll gave.

    Attributes:
        chunks: what was read, in order.
        ends: where each partition ends that a broker has answered for.
        have_waited: whether a broker had answered before it was asked for: what was written since
            is not among it, and the next fetch is under way already.
    """

    chunks: dict[TopicPartition, list[Chunk]] = field(default_factory=dict)
    ends: dict[TopicPartition, End] = field(default_factory=dict)
    have_waited: bool = False


class Poller(Protocol):
    """Reads from an assigned consumer."""

    def poll(self, timeout_seconds: float) -> Answers:
        """What came, waiting for it if nothing did."""
        ...

    def hurry(self, wait_seconds: float) -> None:
        """How long a broker may wait for news before it answers the fetches to come."""
        ...


def make_poller(consumer: Any) -> Poller:
    """By whole batches if this kafka-python has what that needs; a warning if not."""
    # kafka-python 3.0 does not hand its option on, so brokers would make a topic anew, and empty,
    # as soon as it is deleted.
    cluster_config = getattr(getattr(consumer, "_cluster", None), "config", {})
    if "allow_auto_create_topics" in cluster_config:
        cluster_config["allow_auto_create_topics"] = False
    missing = missing_hook(consumer)
    if missing is None:
        return BatchPoller(consumer)
    _log.warning(
        "this kafka-python has no %s: records are read one by one, several times slower; "
        "install 'kafka-python>=3.0,<3.1'",
        missing,
    )
    return StockPoller(consumer)


def missing_hook(consumer: Any) -> str | None:
    """The first part of kafka-python that reading whole batches needs and that is not there."""
    fetcher = getattr(consumer, "_fetcher", None)
    for name in ("PartitionRecords", "_parse_fetched_data", "config"):
        if not hasattr(fetcher, name):
            return f"Fetcher.{name}"
    records = getattr(fetcher, "PartitionRecords", None)
    needed = {
        "_unpack_records": ["self", "tp", "records", "key_deserializer", "value_deserializer"],
        "_maybe_skip_record": ["self", "record"],
        "_consume_aborted_transactions_up_to": ["self", "offset"],
        "_is_batch_aborted": ["self", "batch"],
        "_contains_abort_marker": ["self", "batch"],
        "drain": ["self"],
    }
    for name, parameters in needed.items():
        method = getattr(records, name, None)
        if method is None or list(inspect.signature(method).parameters) != parameters:
            return f"PartitionRecords.{name}({', '.join(parameters)})"
    return None


def _whole_fetches(stock: type[Any]) -> type[Any]:
    """``stock``, kafka-python's ``PartitionRecords``, with all records of a fetch as one item."""

    class WholeFetch(stock):  # type: ignore[misc]  # kafka-python has no types
        def _maybe_skip_record(self, record: Chunk) -> bool:
            return False

        def _unpack_records(
            self, tp: TopicPartition, records: Any, key_deserializer: Any, value_deserializer: Any
        ) -> Iterator[Chunk]:
            if records.has_next():
                try:
                    parsed = parse(records._buffer, self.fetch_offset, self._is_skipped)
                except BatchError as error:
                    raise BatchError(f"{tp.topic}/{tp.partition}: {error}") from error
                self.leader_epoch = parsed.leader_epoch
                self.next_fetch_offset = parsed.chunk.next_offset
                self.bytes_read += records.size_in_bytes()
                self.records_read += len(parsed.chunk.starts)
                yield parsed.chunk
            self.drain()

        def _is_skipped(self, batch_bytes: memoryview) -> bool:
            """Whether a batch has control records, or belongs to an aborted transaction."""
            batch = DefaultRecordBatch(batch_bytes)
            if batch.has_producer_id():
                self._consume_aborted_transactions_up_to(batch.last_offset)
                if self._contains_abort_marker(batch):
                    self.aborted_producer_ids.discard(batch.producer_id)
                elif self._is_batch_aborted(batch):
                    return True
            return bool(batch.is_control_batch)

    return WholeFetch


class BatchPoller:
    """Reads whole answers to fetches."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._fetcher = consumer._fetcher
        self._ends: dict[TopicPartition, End] = {}
        stock = self._fetcher._parse_fetched_data

        def parse_and_note(completed: Any) -> Any:
            parsed = stock(completed)
            answer = completed.partition_data
            if answer.error_code == 0:
                readable, written = answer.last_stable_offset, answer.high_watermark
                if readable is None or readable < 0:
                    readable = written
                self._ends[completed.topic_partition] = End(readable, written)
            return parsed

        self._fetcher.PartitionRecords = _whole_fetches(self._fetcher.PartitionRecords)
        self._fetcher._parse_fetched_data = parse_and_note

    def poll(self, timeout_seconds: float) -> Answers:
        """As ``Poller``.

        Raises:
            BatchError: a batch is damaged or cannot be read here.
            kafka.errors.KafkaError: as ``KafkaConsumer.poll``.
        """
        # Without it answers that have waited are not told from others, and no worse.
        have_waited = bool(getattr(self._fetcher, "_completed_fetches", ()))
        chunks = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000))
        ends, self._ends = self._ends, {}
        return Answers(chunks, ends, have_waited)

    def hurry(self, wait_seconds: float) -> None:
        """As ``Poller``."""
        self._fetcher.config["fetch_max_wait_ms"] = int(wait_seconds * 1000)


class StockPoller:
    """Reads record by record, by nothing but what kafka-python makes public."""

    def __init__(self, consumer: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._monotonic = monotonic
        self._asked_at = 0.0
        self._positions: dict[TopicPartition, int] = {}

    def poll(self, timeout_seconds: float) -> Answers:
        """As ``Poller``.

        Raises:
            BatchError: a batch is damaged or cannot be read here.
            kafka.errors.KafkaError: as ``KafkaConsumer.poll``.
        """
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000))
        except (kafka.errors.CorruptRecordError, kafka.errors.UnsupportedCodecError) as error:
            raise BatchError(str(error)) from error
        answers = Answers()
        partitions = self._consumer.assignment() - self._consumer.paused()
        for partition in partitions:
            position = self._consumer.position(partition, timeout_ms=0)
            records = found.get(partition, [])
            if position is not None and (records or position != self._positions.get(partition)):
                self._positions[partition] = position
                answers.chunks[partition] = [_chunk_of(records, position)]
        if partitions and not found and self._monotonic() - self._asked_at > ASK_END_SECONDS:
            self._asked_at = self._monotonic()
            try:
                found_ends = self._consumer.end_offsets(list(partitions), timeout_ms=500)
                for partition, end in found_ends.items():
                    # None before the first answer to a fetch.
                    written = self._consumer.highwater(partition)
                    if written is not None:
                        answers.ends[partition] = End(end, max(end, written))
            except kafka.errors.KafkaTimeoutError:
                answers.ends = {}
        return answers

    def hurry(self, wait_seconds: float) -> None:
        """Nothing public to set it by: reading goes on a little later."""


def _chunk_of(records: list[Any], next_offset: int) -> Chunk:
    values = [(record.value or b"") + b"\n" for record in records]
    ends = np.cumsum([0] + [len(value) for value in values])
    return Chunk(
        records=b"".join(values),
        starts=ends[:-1].astype(np.int64),
        offsets=np.array([record.offset for record in records], np.int64),
        next_offset=next_offset,
        times_ms=np.array([record.timestamp for record in records], np.int64),
    )
