"""Dead letters in Kafka: ``TOPIC.dlq``, the original bytes with headers on where and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import kafka.errors
from kafka import KafkaConsumer, TopicPartition

from contracts.kafka_producer import KafkaLogWriter, ensure_topic
from contracts.log import RECORD_BYTES_MAX, LogError, RecordTooLargeError
from contracts.settings import DataflowSettings
from dataflows.batches import DeadLetter
from dataflows.sources.kafka_errors import explain, is_passing, not_answering
from dataflows.sources.kafka_topics import CLIENT_ID, open_briefly

# All letters of a topic stand in one partition, so that one number says where they end.
PARTITION = 0
TOPIC, PARTITION_HEADER, OFFSET, TIMESTAMP, ERROR, CUT_FROM = (
    f"headwater.{name}"
    for name in ("topic", "partition", "offset", "timestamp", "error", "cut_from_bytes")
)
_ATTEMPT_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_SECONDS_MAX = 5.0
_POLL_MS = 500
_STOP_SECONDS_MAX = 1.0
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
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``resume_state`` is the latest durable ``snapshot``, None if there is none.

        ``stop`` ends the waiting for brokers that are gone; ``tell`` is called with what is waited
        for, and with an empty text when that is over.
        """
        # Whoever is told to stop must not wait for long for an answer that will not come.
        seconds = min(settings.kafka_timeout_seconds, _ATTEMPT_SECONDS)
        self._settings = settings.model_copy(update={"kafka_timeout_seconds": seconds})
        self._topic = f"{topic}.dlq"
        self._stop = stop
        self._tell = tell
        self._writer: KafkaLogWriter | None = None
        self._bytes_max = RECORD_BYTES_MAX
        # Where to look from, where the topic ends, what stands between and may come again: origin
        # -> offset in the topic.
        self._begin = self._end = resume_state or 0
        self._written: dict[_Origin, int] | None = None
        # Partition -> offset of the latest letter: those before it will not come again.
        self._latest: dict[int, int] = {}

    def append(self, letters: list[DeadLetter]) -> None:
        """Append those that are not there yet; wait for brokers that are gone.

        Records that the topic does not take are cut, and a header says so: the whole record stands
        where the other headers say.

        Raises:
            LogError: they are gone for too long, or refuse, or we are told to stop meanwhile.
        """
        try:
            self._append_patiently(letters)
        finally:
            self._tell("")

    def _append_patiently(self, letters: list[DeadLetter]) -> None:
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
                self._tell(f"Kafka at {self._settings.log.servers} to answer")
                if self._stop.wait(pause_seconds):
                    raise
                pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
            else:
                return

    def snapshot(self) -> int:
        """From where on letters that may come again stand; all appended are acknowledged.

        Letters of a killed epoch need not all come again within the first epoch after it.
        """
        if self._written is not None:
            self._written = {
                origin: offset
                for origin, offset in self._written.items()
                if origin[1] > self._latest.get(origin[0], -1)
            }
            self._begin = min(self._written.values(), default=self._end)
        return self._begin

    def close(self) -> None:
        """Disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _append(self, letters: list[DeadLetter]) -> None:
        if self._writer is None:
            ensure_topic(self._settings, self._topic, CLIENT_ID, _NEW_TOPIC)
            self._writer = KafkaLogWriter(self._settings, self._topic, CLIENT_ID)
        if self._written is None:
            self._written = self._read_written()
        sent = 0
        for letter in letters:
            record = letter.record
            if (letter.partition, letter.offset, hash(record[:CUT_BYTES])) not in self._written:
                headers = _headers(letter)
                if len(record) > self._bytes_max:
                    headers.append((CUT_FROM, str(len(record)).encode()))
                    record = record[:CUT_BYTES]
                self._writer.send(None, record, headers, PARTITION, None)
                sent += 1
        self._writer.flush(self._settings.kafka_timeout_seconds)
        # Others may write there too: then it ends behind this, and we look at some too many.
        self._end += sent
        for letter in letters:
            self._latest[letter.partition] = letter.offset

    def _forget(self) -> None:
        """After a failure nobody knows what was written: look anew."""
        writer, self._writer, self._written = self._writer, None, None
        if writer is not None:
            with suppress(LogError):
                writer.close()

    def _read_written(self) -> dict[_Origin, int]:
        """Letters that the topic holds since the last snapshot, and where it ends."""
        place = TopicPartition(self._topic, PARTITION)
        found: dict[_Origin, int] = {}
        # One attempt, also when we are to stop: ``append`` sees to the others.
        consumer: Any = open_briefly(
            KafkaConsumer,
            self._settings,
            self._settings.kafka_timeout_seconds,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            metrics_enabled=False,
        )
        with closing(consumer):
            try:
                consumer.assign([place])
                first = consumer.beginning_offsets([place])[place]
                end = consumer.end_offsets([place])[place]
                position = min(max(first, self._begin), end)
                consumer.seek(place, position)
                heard_at = time.monotonic()
                stop_at: float | None = None
                while position < end:
                    for record in consumer.poll(_POLL_MS).get(place, ()):
                        origin = _origin(record)
                        if origin is not None:
                            found[origin] = record.offset
                    before, position = position, consumer.position(place)
                    now = time.monotonic()
                    if position > before:
                        heard_at = now
                    if self._stop.is_set():
                        # What is nearly read need not fail a run that ends in order.
                        stop_at = now + _STOP_SECONDS_MAX if stop_at is None else stop_at
                        if position == before or now > stop_at:
                            raise self._told_to_stop()
                    if now - heard_at > self._settings.outage_seconds:
                        raise not_answering(self._settings, now - heard_at)
            except kafka.errors.KafkaError as error:
                raise explain(error, self._settings) from error
        self._end = end
        return found

    def _told_to_stop(self) -> LogError:
        return LogError(
            f"topic {self._topic} of Kafka at {self._settings.log.servers}: told to stop before "
            "its letters were read; nothing is lost, the next run writes the dead letters"
        )


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
