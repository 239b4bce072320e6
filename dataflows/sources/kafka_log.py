"""The thread that reads Kafka for all partitions of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import kafka.errors
from kafka import KafkaConsumer, TopicPartition

from contracts.kafka_client import connection_options
from contracts.log import LogError
from contracts.settings import DataflowSettings
from dataflows.sources import kafka_batches
from dataflows.sources.kafka_batches import BatchError
from dataflows.sources.kafka_commits import OffsetCommits
from dataflows.sources.kafka_errors import explain, is_passing, out_of_range
from dataflows.sources.kafka_fetch import (
    FETCH_WAIT_SECONDS,
    FETCH_WAIT_SHORT_SECONDS,
    Answers,
    Poller,
    make_poller,
)
from dataflows.sources.kafka_partition import KafkaPartition
from dataflows.sources.kafka_silence import SilenceWatch
from dataflows.sources.kafka_topics import CLIENT_ID, GivenUpError, bounds, connect

# What a broker has told counts for this long: two answers and some.
FRESH_SECONDS = 2 * FETCH_WAIT_SECONDS + 0.5
POLL_SECONDS = 0.1
# After a poll that gave little: brokers answer for every single record otherwise. At 5,000 records
# a second 3 ms gave values that were older (p50 43 ms, not 29): the answers held up the flow.
REST_SECONDS = 0.01
REST_BYTES_MAX = 64 * 1024
CLOSE_SECONDS_MAX = 15.0
# A partition is paused when so many fetches wait to be read, and goes on at half of it.
BUFFERED_FETCHES = 2


class KafkaLog:
    """Reads partitions of Kafka in one thread, through one consumer. One per process.

    The thread begins with the first partition that is opened. Memory: for each partition
    ``BUFFERED_FETCHES + 1`` fetches of ``kafka_fetch_bytes`` (or of one batch, if that is larger),
    as large as they come out of their compression.

    Raises:
        SettingsError: the settings contradict each other, or name a file that cannot be used.
    """

    def __init__(
        self,
        settings: DataflowSettings,
        group: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        # Here and not in the thread, so that wrong settings are told at once.
        connection_options(settings, CLIENT_ID)
        self._fetch_wait_seconds = min(FETCH_WAIT_SECONDS, settings.kafka_timeout_seconds / 2)
        self._commits = OffsetCommits(settings, group, monotonic)
        self._bytes_max = BUFFERED_FETCHES * settings.kafka_fetch_bytes
        self._partitions: dict[TopicPartition, KafkaPartition] = {}
        self._assigned: dict[TopicPartition, KafkaPartition] = {}
        self._silence = SilenceWatch(settings, monotonic)
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._is_closing = False
        self._failure: LogError | None = None
        self._thread: threading.Thread | None = None

    def open(self, topic: str, partition: int, offset: int) -> KafkaPartition:
        """Begin to read a partition at an offset; does not wait.

        Raises:
            ValueError: it is open already, or the log is closed.
        """
        opened = KafkaPartition(
            topic, partition, offset, FRESH_SECONDS, self._awake.set, self._monotonic
        )
        name = TopicPartition(topic, partition)
        with self._lock:
            known = self._partitions.get(name)
            if self._is_closing or (known is not None and not known.is_closed):
                raise ValueError(f"{opened.name} is open already, or the log is closed")
            self._partitions[name] = opened
            if self._failure is not None:
                opened.fail(self._failure)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)
                self._thread.start()
        self._awake.set()
        return opened

    def close(self) -> None:
        """End the thread; what was said to be committed is sent. Waits some seconds at most."""
        with self._lock:
            self._is_closing = True
            thread = self._thread
        self._awake.set()
        if thread is not None:
            thread.join(CLOSE_SECONDS_MAX)

    def _run(self) -> None:
        try:
            # Before the loop, so that compiling does not look like silence.
            kafka_batches.warm_up()
            consumer: Any = connect(
                KafkaConsumer,
                self._settings,
                lambda: self._is_closing,
                self._monotonic,
                **self._consumer_options(),
            )
            try:
                self._read_on(consumer, make_poller(consumer))
            finally:
                consumer.close(timeout_ms=1_000)
        except GivenUpError:
            pass
        except LogError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the flow must hear of it
            failure = explain(error, self._settings)
            failure.__cause__ = error
            self._fail(failure)
        finally:
            self._commits.close(self._committed())

    def _read_on(self, consumer: Any, poller: Poller) -> None:
        for partition in self._partitions.copy().values():
            partition.answered_at = self._monotonic()
        has_rested = False
        while not self._is_closing:
            self._awake.clear()
            self._assign(consumer)
            reading = self._make_room(consumer, poller)
            self._commits.commit(self._committed())
            if not reading:
                self._awake.wait(POLL_SECONDS)
                continue
            is_any_paused = len(reading) < len(self._assigned)
            answers = self._poll(
                poller, FETCH_WAIT_SHORT_SECONDS if is_any_paused else POLL_SECONDS
            )
            size = self._take(answers)
            self._silence.look(reading.values())
            # What was answered during a rest is old by as much, and kafka-python has sent the next
            # fetch: that one would be answered with the first record to come, and be as old by the
            # end of another rest. It is taken first, so that all fetches are sent after a rest.
            has_rested = 0 < size < REST_BYTES_MAX and not (answers.have_waited and has_rested)
            if has_rested:
                time.sleep(REST_SECONDS)

    def _assign(self, consumer: Any) -> None:
        """Have the consumer read what is open, each from its own offset on."""
        with self._lock:
            wanted = {
                name: partition
                for name, partition in self._partitions.items()
                if not partition.is_closed
            }
        if wanted == self._assigned:
            return
        consumer.assign(list(wanted))
        for name, partition in wanted.items():
            if self._assigned.get(name) is not partition:
                consumer.seek(name, partition.offset)
                # It may be paused for the one that was open before.
                consumer.resume(name)
                partition.answered_at = self._monotonic()
        self._assigned = wanted

    def _make_room(self, consumer: Any, poller: Poller) -> dict[TopicPartition, KafkaPartition]:
        """Pause those that have enough to be read, resume others; those that are being read."""
        changed = False
        for name, partition in self._assigned.items():
            buffered = partition.buffered_bytes
            if not partition.is_paused and buffered >= self._bytes_max:
                partition.is_paused = changed = True
                consumer.pause(name)
            elif partition.is_paused and buffered <= self._bytes_max // 2:
                partition.is_paused, changed = False, True
                partition.answered_at = self._monotonic()
                consumer.resume(name)
        reading = {name: part for name, part in self._assigned.items() if not part.is_paused}
        if changed:
            has_all = len(reading) == len(self._assigned)
            poller.hurry(self._fetch_wait_seconds if has_all else FETCH_WAIT_SHORT_SECONDS)
        return reading

    def _poll(self, poller: Poller, timeout_seconds: float) -> Answers:
        try:
            return poller.poll(timeout_seconds)
        except kafka.errors.OffsetOutOfRangeError as error:
            raise self._out_of_range(error) from error
        except kafka.errors.LogTruncationError as error:
            raise self._out_of_range(error) from error
        except BatchError as error:
            raise LogError(f"Kafka: {error}") from error
        except kafka.errors.KafkaError as error:
            if not is_passing(error):
                raise explain(error, self._settings) from error
            time.sleep(POLL_SECONDS)
            return Answers()

    def _take(self, answers: Answers) -> int:
        """Put what came into the buffers; how many bytes of records that was."""
        size = 0
        for name, chunks in answers.chunks.items():
            for chunk in chunks:
                size += len(chunk.records)
                self._assigned[name].add(chunk)
        now = self._monotonic()
        for name, end in answers.ends.items():
            if name in self._assigned:
                self._assigned[name].told(end.readable, end.written, now)
        return size

    def _out_of_range(self, error: Any) -> LogError:
        """What was lost of the first partition that the error names."""
        lost = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        lost = lost or getattr(error, "divergent_offsets", {})
        for name in lost:
            partition = self._assigned[name]
            first, end = bounds(self._settings, [tuple(name)])[tuple(name)]
            return out_of_range(partition.name, partition.fetched_offset, first, end)
        return explain(error, self._settings)

    def _committed(self) -> dict[TopicPartition, int]:
        return {
            name: partition.committed_offset
            for name, partition in self._partitions.copy().items()
            if partition.committed_offset is not None
        }

    def _fail(self, error: LogError) -> None:
        with self._lock:
            self._failure = error
            for partition in self._partitions.values():
                partition.fail(error)

    def _consumer_options(self) -> dict[str, Any]:
        return {
            "group_id": None,
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "metrics_enabled": False,
            "allow_auto_create_topics": False,
            "max_partition_fetch_bytes": self._settings.kafka_fetch_bytes,
            "fetch_min_bytes": 1,
            "fetch_max_wait_ms": int(self._fetch_wait_seconds * 1000),
            # Every answer then names every partition, so we know which of them have no news.
            "enable_incremental_fetch_sessions": False,
        }
