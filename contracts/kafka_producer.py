"""Writes to a topic of Kafka: whole, in order, and with every failure told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import kafka.errors as kafka_errors
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from contracts.kafka_client import create_topics, open_client
from contracts.log import RECORD_BYTES_MAX, LogError, RecordTooLargeError
from contracts.settings import Settings

# Fewer, larger batches: half a megabyte is twice as fast as the default of 16 KiB, and still less
# than the megabyte that brokers take by default.
_BATCH_BYTES = 512 * 1024
_LINGER_MS = 5
# kafka-python 3.0 queues without a limit of its own.
_UNACKNOWLEDGED_BYTES_MAX = 32 * 1024 * 1024
# What a queued record takes beside its bytes, about.
_RECORD_OVERHEAD_BYTES = 512
_FORCED_SECONDS = 1.0
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class KafkaLogWriter:
    """Appends to one topic, as an idempotent producer. Not safe for threads.

    A topic that does not exist is made, with one partition. The partition of a record is chosen by
    the hash of its key that other Kafka clients use too (murmur2). After an error the writer is of
    no more use but to be closed: what was sent behind the lost record may or may not be there.

    Attributes:
        acknowledged: records that brokers have confirmed, since the writer was made.
    """

    def __init__(self, settings: Settings, topic: str, client_id: str) -> None:
        """Connect, and make the topic if need be.

        Raises:
            LogError: no broker answers, they refuse us, or the topic cannot be made.
            SettingsError: the settings of Kafka cannot be used.
        """
        self.acknowledged = 0
        self._settings = settings
        self._topic = topic
        self._timeout_seconds = settings.kafka_timeout_seconds
        self._pending: deque[tuple[Any, int]] = deque()
        self._pending_bytes = 0
        self._failure: LogError | None = None
        timeout_ms = int(self._timeout_seconds * 1000)
        self._producer = open_client(
            KafkaProducer,
            settings,
            client_id,
            acks="all",
            enable_idempotence=True,
            batch_size=_BATCH_BYTES,
            linger_ms=_LINGER_MS,
            max_block_ms=timeout_ms,
            delivery_timeout_ms=timeout_ms + _LINGER_MS,
            # Which records are too large is for the brokers to say.
            max_request_size=2 * RECORD_BYTES_MAX,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            ensure_topic(settings, topic, client_id)
            self._producer.partitions_for(topic)
        except kafka_errors.KafkaError as error:
            self._stop()
            raise LogError(self._problem(error, 0)) from error
        except BaseException:
            self._stop()
            raise

    def append(self, records: Iterable[tuple[str | None, bytes]]) -> int:
        """Append (key, record) pairs; return how many when all of them are acknowledged.

        Records without a key go to any partition.

        Raises:
            LogError: a record could not be delivered; ``acknowledged`` says how many were.
        """
        count = 0
        for key, record in records:
            self.send(None if key is None else key.encode(), record, (), None, None)
            count += 1
        self.flush(self._timeout_seconds)
        return count

    def send(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        partition: int | None,
        time_ms: int | None,
    ) -> None:
        """Queue one record; waits only while too much is queued.

        Args:
            key: chooses the partition where ``partition`` is None.
            value: the record; None is a tombstone, which needs a key.
            headers: name and value of each.
            partition: where to; None lets the key choose.
            time_ms: the record's time, milliseconds since 1970; None is now.

        Raises:
            LogError: this record, or one before it, could not be delivered.
        """
        self._raise_failure()
        size = _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        size += sum(len(name) + len(one) for name, one in headers)
        try:
            future = self._producer.send(
                self._topic,
                value=value,
                key=key,
                headers=list(headers),
                partition=partition,
                timestamp_ms=time_ms,
            )
        except (kafka_errors.KafkaError, ValueError) as error:
            raise self._failed(error, size) from error
        self._pending.append((future, size))
        self._pending_bytes += size
        deadline = time.monotonic() + self._timeout_seconds
        while self._pending_bytes > _UNACKNOWLEDGED_BYTES_MAX:
            self._settle_oldest(deadline)

    def flush(self, timeout_seconds: float) -> None:
        """Wait until everything that was sent is acknowledged.

        Raises:
            LogError: something could not be delivered, or not within the time.
        """
        self._raise_failure()
        if not self._pending:
            return
        deadline = time.monotonic() + timeout_seconds
        # What goes wrong here is told by the records themselves, below.
        with suppress(kafka_errors.KafkaError):
            self._producer.flush(timeout_seconds)
        while self._pending:
            self._settle_oldest(deadline)

    def close(self) -> None:
        """Wait until all is acknowledged, no longer than the setting says, and disconnect.

        Raises:
            LogError: something was not delivered, and this was not raised before.
        """
        try:
            if self._failure is None:
                self.flush(self._timeout_seconds)
        finally:
            self._stop()

    def abort(self) -> None:
        """Give up what is not acknowledged yet: whoever waits for it gets LogError.

        The one thing that another thread may call.
        """
        self._producer._sender.force_close()

    def _settle_oldest(self, deadline: float) -> None:
        future, size = self._pending[0]
        try:
            future.get(max(0.0, deadline - time.monotonic()))
        except kafka_errors.KafkaError as error:
            raise self._failed(error, size) from error
        self._pending.popleft()
        self._pending_bytes -= size
        self.acknowledged += 1

    def _failed(self, error: Exception, size: int) -> LogError:
        """Count what arrived all the same, and remember that the writer is of no more use."""
        self.acknowledged += sum(future.succeeded() for future, _ in self._pending)
        self._pending.clear()
        kind = RecordTooLargeError if isinstance(error, _TOO_LARGE) else LogError
        self._failure = kind(self._problem(error, size - _RECORD_OVERHEAD_BYTES))
        return self._failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure)) from self._failure

    def _problem(self, error: Exception, size: int) -> str:
        text = f"topic {self._topic} of Kafka at {self._settings.log.servers}: "
        if isinstance(error, _TOO_LARGE):
            return (
                f"{text}a record of {size:,} bytes is larger than it takes; raise the topic's "
                "`max.message.bytes` (or the brokers' `message.max.bytes`), or make it smaller"
            )
        if isinstance(error, kafka_errors.AuthorizationError):
            user = self._settings.kafka_sasl_username or "nobody"
            return f"{text}user {user!r} may not write there; ask for WRITE and DESCRIBE on it"
        if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
            return f"{text}it is gone; make it again, or run this once more, which does so"
        if isinstance(error, kafka_errors.RetriableError):
            return (
                f"{text}not acknowledged within {self._timeout_seconds:g} seconds; "
                "see that the brokers run and the topic is there, then write the rest again"
            )
        return f"{text}{' '.join(str(error).split())[:300]}"

    def _stop(self) -> None:
        if self._failure is not None or self._pending:
            # Its close waits for what is queued, gives up, and then leaves its thread behind.
            self.abort()
            self._producer._sender.join(_FORCED_SECONDS)
        with suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=_FORCED_SECONDS)


def ensure_topic(
    settings: Settings, topic: str, client_id: str, configs: Mapping[str, str] | None = None
) -> None:
    """Make the topic, with one partition and as many replicas as brokers make by default.

    ``configs`` are the properties that a new one gets; a topic that is there keeps its own.

    Raises:
        LogError: it does not exist and cannot be made.
    """
    with closing(open_client(KafkaAdminClient, settings, client_id)) as admin:
        try:
            (found,) = admin.describe_topics([topic])
            if found["error_code"] != kafka_errors.UnknownTopicOrPartitionError.errno:
                return
            create_topics(admin, [topic], configs)
            admin.wait_for_topics([topic], timeout_ms=int(settings.kafka_timeout_seconds * 1000))
        except kafka_errors.KafkaError as error:
            raise LogError(
                f"topic {topic} of Kafka at {settings.log.servers} does not exist and cannot be "
                f"made ({' '.join(str(error).split())[:200]}): make it with `kafka-topics.sh "
                "--create`, or ask for the right to CREATE it"
            ) from error
