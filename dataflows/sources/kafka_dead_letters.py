"""Dead letters in Kafka: ``TOPIC.dlq``, the original bytes with headers on where and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import kafka.errors
from kafka import KafkaConsumer, TopicPartition

from contracts.kafka_producer import KafkaLogWriter, ensure_topic
from contracts.log import RECORD_BYTES_MAX, LogError, RecordTooLargeError
from contracts.settings import DataflowSettings
from dataflows.batches import DeadLetter
from dataflows.sources.kafka_errors import explain, is_passing
from dataflows.sources.kafka_topics import CLIENT_ID, bounds, connect

# All letters of a topic stand in one partition, so that one number says where they end.
PARTITION = 0
TOPIC, PARTITION_HEADER, OFFSET, TIMESTAMP, ERROR, CUT_FROM = (
    f"headwater.{name}"
    for name in ("topic", "partition", "offset", "timestamp", "error", "cut_from_bytes")
)
_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_SECONDS_MAX = 5.0
_POLL_MS = 500
_ERROR_CHARACTERS_MAX = 1_000
# The largest record that a topic takes does not fit into another one with the headers around it.
_NEW_TOPIC = {"max.message.bytes": str(RECORD_BYTES_MAX + 64 * 1024)}
# What is left of a record that a dead-letter topic of somebody's own making does not take.
CUT_BYTES = 512 * 1024

# Where a record stood (partition, offset) and what it was.
_Origin = tuple[int, int, int]


class KafkaDeadLetters:
    """The dead letters of one topic.

    Nothing is asked of Kafka before the first letter. Then those that stand there already, since
    the last snapshot, are read once: an epoch that was killed brings its letters again.
    """

    def __init__(
        self,
        settings: DataflowSettings,
        topic: str,
        resume_state: int | None,
        stop: threading.Event,
    ) -> None:
        """``resume_state`` is the latest durable ``snapshot``, None if there is none.

        ``stop`` ends the waiting for brokers that are gone.
        """
        self._settings = settings
        self._topic = f"{topic}.dlq"
        self._end = resume_state or 0
        self._stop = stop
        self._known: set[_Origin] | None = None
        self._writer: KafkaLogWriter | None = None
        self._has_grown = False
        self._bytes_max = RECORD_BYTES_MAX

    def append(self, letters: list[DeadLetter]) -> None:
        """Append those that are not there yet; wait for brokers that are gone.

        Records that the topic does not take are cut, and a header says so: the whole record stands
        where the other headers say.

        Raises:
            LogError: they are gone for too long, or refuse.
        """
        began = time.monotonic()
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._append(letters)
            except RecordTooLargeError:
                self._forget()
                if self._bytes_max == CUT_BYTES:
                    raise
                self._bytes_max = CUT_BYTES
            except LogError as error:
                self._forget()
                waited = time.monotonic() - began
                if not _may_pass(error) or waited > self._settings.outage_seconds:
                    raise
                if self._stop.wait(pause_seconds):
                    raise
                pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
            else:
                return

    def snapshot(self) -> int:
        """Where the dead letters end now; all that were appended are acknowledged."""
        if self._has_grown:
            place = (self._topic, PARTITION)
            self._end = bounds(self._settings, [place])[place][1]
            self._has_grown = False
            self._known = set()
        return self._end

    def close(self) -> None:
        """Disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _append(self, letters: list[DeadLetter]) -> None:
        if self._writer is None:
            ensure_topic(self._settings, self._topic, CLIENT_ID, _NEW_TOPIC)
            self._writer = KafkaLogWriter(self._settings, self._topic, CLIENT_ID)
        if self._known is None:
            self._known = set(self._read_origins())
        for letter in letters:
            origin = (letter.partition, letter.offset, hash(letter.record[:CUT_BYTES]))
            if origin not in self._known:
                record, headers = letter.record, _headers(letter)
                if len(record) > self._bytes_max:
                    headers.append((CUT_FROM, str(len(record)).encode()))
                    record = record[:CUT_BYTES]
                self._writer.send(None, record, headers, PARTITION, None)
                self._known.add(origin)
                self._has_grown = True
        self._writer.flush(self._settings.kafka_timeout_seconds)

    def _forget(self) -> None:
        """After a failure nobody knows what was written: look anew."""
        writer, self._writer, self._known = self._writer, None, None
        if writer is not None:
            with suppress(LogError):
                writer.close()

    def _read_origins(self) -> Iterator[_Origin]:
        place = TopicPartition(self._topic, PARTITION)
        first, end = bounds(self._settings, [place])[place]
        position = min(max(first, self._end), end)
        if position == end:
            return
        consumer: Any = connect(
            KafkaConsumer,
            self._settings,
            self._stop.is_set,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            metrics_enabled=False,
        )
        deadline = time.monotonic() + self._settings.outage_seconds
        with closing(consumer):
            try:
                consumer.assign([place])
                consumer.seek(place, position)
                while position < end and time.monotonic() < deadline:
                    for records in consumer.poll(_POLL_MS).values():
                        yield from filter(None, (_origin(record) for record in records))
                    position = consumer.position(place)
            except kafka.errors.KafkaError as error:
                raise explain(error, self._settings) from error


def _may_pass(error: LogError) -> bool:
    cause = error.__cause__
    return isinstance(cause, kafka.errors.KafkaError) and is_passing(cause)


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    headers = [
        (TOPIC, letter.topic.encode()),
        (PARTITION_HEADER, str(letter.partition).encode()),
        (OFFSET, str(letter.offset).encode()),
    ]
    if letter.time_ms is not None:
        headers.append((TIMESTAMP, str(letter.time_ms).encode()))
    headers.append((ERROR, letter.reason[:_ERROR_CHARACTERS_MAX].encode()))
    return headers


def _origin(record: Any) -> _Origin | None:
    """Where a letter came from; None for what is no letter of ours."""
    headers = dict(record.headers)
    try:
        place = int(headers[PARTITION_HEADER]), int(headers[OFFSET])
    except (KeyError, ValueError, TypeError):
        return None
    return (*place, hash((record.value or b"")[:CUT_BYTES]))
