"""Asks Kafka which partitions there are and where they begin and end; makes missing topics."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import kafka.errors
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.protocol.consumer import IsolationLevel

from contracts.kafka_client import create_topics, open_client
from contracts.log import LogError
from contracts.settings import DataflowSettings
from dataflows.sources.kafka_errors import explain, is_passing, not_answering

CLIENT_ID = "headwater-dataflow"
# One look for a broker; between two of them we see whether we are to stop.
ATTEMPT_SECONDS = 5.0
PAUSE_SECONDS = 0.2
NEWS_SECONDS = 3.0
REPORT_SECONDS = 30.0

# What stands in the place of an id where there is none.
_NO_ID = str(uuid.UUID(int=0))

IsStopping = Callable[[], bool]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class GivenUpError(LogError):
    """We were told to stop while waiting for Kafka."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class FoundTopic:
    """A topic as brokers describe it.

    Attributes:
        topic_id: given when it was made: one that is made anew gets another. Empty if the brokers
            give none (older than Kafka 2.8).
        partitions: their numbers, in order.
    """

    topic_id: str
    partitions: list[int]


def list_topics(
    settings: DataflowSettings, topics: Sequence[str], is_stopping: IsStopping = _never
) -> dict[str, FoundTopic]:
    """Each topic by its name; those that are missing are made, with one partition.

    Raises:
        LogError: Kafka is gone for too long, refuses us, or does not make a topic.
        GivenUpError: ``is_stopping`` says so while Kafka is waited for.
    """

    def ask(admin: Any) -> dict[str, FoundTopic]:
        found = _described(admin, topics)
        missing = [topic for topic in topics if topic not in found]
        if missing:
            create_topics(admin, missing)
            admin.wait_for_topics(missing, timeout_ms=_timeout_ms(settings))
            found = _described(admin, topics)
        if any(topic not in found for topic in topics):
            # What has just been made may be unknown to the broker that was asked.
            raise kafka.errors.LeaderNotAvailableError(f"{missing} are being made")
        return {topic: found[topic] for topic in topics}

    return _asked(settings, ask, is_stopping) if topics else {}


def existing_topics(settings: DataflowSettings, topics: Sequence[str]) -> dict[str, FoundTopic]:
    """Those of the topics that there are, by name; none is made. Raise LogError as above."""
    return _asked(settings, lambda admin: _described(admin, topics)) if topics else {}


def bounds(
    settings: DataflowSettings,
    partitions: Sequence[tuple[str, int]],
    is_stopping: IsStopping = _never,
) -> dict[tuple[str, int], tuple[int, int]]:
    """First offset kept and next offset to be written of each partition.

    Records of a transaction that is still open are not yet written: all behind its begin is left
    out, as it is when reading.

    Raises:
        LogError: Kafka is gone for too long, refuses us, or does not know a partition.
        GivenUpError: as above.
    """
    names = [TopicPartition(topic, partition) for topic, partition in partitions]

    def ask(admin: Any) -> dict[tuple[str, int], tuple[int, int]]:
        first, end = (
            admin.list_partition_offsets(
                dict.fromkeys(names, spec),
                isolation_level=IsolationLevel.READ_COMMITTED,
                timeout_ms=_timeout_ms(settings),
            )
            for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
        )
        return {(name[0], name[1]): (first[name].offset, end[name].offset) for name in names}

    return _asked(settings, ask, is_stopping) if names else {}


def missing(
    settings: DataflowSettings, partitions: Iterable[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Those that do not exist; none if no broker answers within a second or two."""
    partitions = set(partitions)
    try:
        admin = open_briefly(KafkaAdminClient, settings, 1.0)
    except LogError:
        return set()
    try:
        found = _described(admin, {topic for topic, _ in partitions})
    except kafka.errors.KafkaError:
        return set()
    finally:
        admin.close()
    return {
        (topic, number)
        for topic, number in partitions
        if topic not in found or number not in found[topic].partitions
    }


def connect(
    kind: Callable[..., _T],
    settings: DataflowSettings,
    is_stopping: IsStopping = _never,
    monotonic: Callable[[], float] = time.monotonic,
    **options: Any,
) -> _T:
    """A client of kafka-python, as soon as a broker answers.

    Raises:
        LogError: none did for ``outage_seconds``, or we are refused.
        GivenUpError: ``is_stopping`` says so.
        SettingsError: the settings contradict each other, or name a file that cannot be used.
    """
    begin, reported = monotonic(), float("-inf")
    while not is_stopping():
        try:
            return open_briefly(kind, settings, ATTEMPT_SECONDS, **options)
        except LogError as error:
            if not isinstance(error.__cause__, kafka.errors.KafkaTimeoutError):
                raise
            waited = monotonic() - begin
            if waited > settings.outage_seconds:
                raise LogError(
                    f"{error} Asked for {waited:.0f} s (HEADWATER_OUTAGE_SECONDS); nothing is lost"
                ) from error
            if monotonic() - reported > REPORT_SECONDS:
                reported = monotonic()
                _log.warning("%s Asking on", error)
    raise _given_up(settings)


def open_briefly(
    kind: Callable[..., _T], settings: DataflowSettings, seconds: float, **options: Any
) -> _T:
    """A client of kafka-python, or a LogError after ``seconds``."""
    timeout_ms = int(settings.kafka_timeout_seconds * 1000)
    given = {
        "request_timeout_ms": timeout_ms,
        "connections_max_idle_ms": timeout_ms + 540_000,
        **options,
    }
    briefly = settings.model_copy(update={"kafka_timeout_seconds": seconds})
    return open_client(kind, briefly, CLIENT_ID, **given)


def _given_up(settings: DataflowSettings) -> GivenUpError:
    return GivenUpError(f"told to stop before Kafka at {settings.log.servers} answered")


def _asked(
    settings: DataflowSettings, ask: Callable[[Any], _T], is_stopping: IsStopping = _never
) -> _T:
    """The answer, asked for again while Kafka is gone; LogError after ``outage_seconds``."""
    admin: Any = connect(KafkaAdminClient, settings, is_stopping)
    begin = time.monotonic()
    try:
        while True:
            try:
                return ask(admin)
            except kafka.errors.UnknownTopicOrPartitionError as error:
                # Not every broker knows at once what has just been made.
                if time.monotonic() - begin > NEWS_SECONDS:
                    raise LogError(
                        f"Kafka at {settings.log.servers} does not know a topic that was there "
                        f"before: {error}; was it deleted?"
                    ) from error
            except kafka.errors.KafkaError as error:
                if not is_passing(error):
                    raise explain(error, settings) from error
                waited = time.monotonic() - begin
                if waited > settings.outage_seconds:
                    raise not_answering(settings, waited) from error
            if is_stopping():
                raise _given_up(settings)
            time.sleep(PAUSE_SECONDS)
    finally:
        admin.close()


def _described(admin: Any, topics: Iterable[str]) -> dict[str, FoundTopic]:
    """Those topics that are there."""
    found = {}
    for topic in admin.describe_topics(list(topics)):
        error = kafka.errors.for_code(topic["error_code"])
        if error is kafka.errors.UnknownTopicOrPartitionError:
            continue
        if error is not kafka.errors.NoError:
            raise error(f"topic {topic['name']}")
        numbers = sorted(part["partition_index"] for part in topic["partitions"])
        topic_id = str(topic.get("topic_id") or "")
        found[topic["name"]] = FoundTopic("" if topic_id == _NO_ID else topic_id, numbers)
    return found


def _timeout_ms(settings: DataflowSettings) -> int:
    return int(settings.kafka_timeout_seconds * 1000)
