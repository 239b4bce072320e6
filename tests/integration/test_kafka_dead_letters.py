"""Dead letters in Kafka: each once, whatever is killed, gone or too large."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from contracts.log import LogError
from contracts.settings import DataflowSettings
from dataflows.batches import DeadLetter
from dataflows.sources.kafka_dead_letters import CUT_BYTES, KafkaDeadLetters
from tests.integration.commands import wait_for
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka

pytestmark = pytest.mark.services
STOP_SECONDS_MAX = 5.0


@pytest.fixture
def settings(tmp_path: Path, kafka_broker: KafkaBroker | OutsideKafka) -> DataflowSettings:
    """Those of a dataflow on the shared broker."""
    return _settings(tmp_path, kafka_broker.bootstrap_servers)


def _settings(folder: Path, servers: str) -> DataflowSettings:
    return DataflowSettings.for_repo(folder, log_url=f"kafka://{servers}")


def _letters(topic: str, partition: int, offsets: Sequence[int]) -> list[DeadLetter]:
    return [
        DeadLetter(topic, partition, offset, b"%d/%d" % (partition, offset), "why", 17)
        for offset in offsets
    ]


@contextmanager
def _opened(
    settings: DataflowSettings, topic: str, resume_state: int | None = None
) -> Iterator[KafkaDeadLetters]:
    with closing(KafkaDeadLetters(settings, topic, resume_state, threading.Event())) as opened:
        yield opened


def _records(settings: DataflowSettings, topic: str) -> list[tuple[dict[str, bytes], bytes]]:
    """Headers and value of all dead letters of a topic."""
    place = TopicPartition(f"{topic}.dlq", 0)
    found: list[tuple[dict[str, bytes], bytes]] = []
    with closing(
        KafkaConsumer(
            bootstrap_servers=settings.log.bootstrap_servers, auto_offset_reset="earliest"
        )
    ) as consumer:
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            records = consumer.poll(1_000).get(place, ())
            found.extend((dict(record.headers), record.value) for record in records)
    return found


def test_a_letter_says_where_it_stood(
    settings: DataflowSettings, new_topic: Callable[[], str]
) -> None:
    """The record as it was; topic, partition, offset, time and error as headers."""
    topic = new_topic()
    with _opened(settings, topic) as letters:
        letters.append(_letters(topic, 3, [42]))
    assert _records(settings, topic) == [
        (
            {
                "headwater.topic": topic.encode(),
                "headwater.partition": b"3",
                "headwater.offset": b"42",
                "headwater.timestamp": b"17",
                "headwater.error": b"why",
            },
            b"3/42",
        )
    ]


def test_letters_of_a_killed_epoch_come_again_over_several(
    settings: DataflowSettings, new_topic: Callable[[], str]
) -> None:
    """Partitions come again at a pace of their own; snapshots between do not forget the slow."""
    topic = new_topic()
    with _opened(settings, topic) as letters:
        letters.append(_letters(topic, 0, range(3)))
        durable = letters.snapshot()
        letters.append(_letters(topic, 0, range(3, 9)))
        letters.append(_letters(topic, 1, range(5)))
        letters.snapshot()
    with _opened(settings, topic, durable) as letters:
        letters.append(_letters(topic, 0, range(3, 12)))
        durable = letters.snapshot()
        letters.append(_letters(topic, 0, range(12, 14)))
        letters.append(_letters(topic, 1, range(2)))
        durable = letters.snapshot()
    with _opened(settings, topic, durable) as letters:
        letters.append(_letters(topic, 1, range(2, 6)))
        letters.append(_letters(topic, 0, [14]))
        durable = letters.snapshot()
    found = sorted(
        (int(h["headwater.partition"]), int(h["headwater.offset"]))
        for h, _ in _records(settings, topic)
    )
    assert found == [*((0, offset) for offset in range(15)), *((1, offset) for offset in range(6))]
    assert durable == len(found)


def test_a_topic_of_somebody_elses_making(
    settings: DataflowSettings, new_topic: Callable[[], str]
) -> None:
    """A record that the dead-letter topic does not take is cut, and says so; it is there once."""
    topic = new_topic()
    with closing(KafkaAdminClient(bootstrap_servers=settings.log.bootstrap_servers)) as admin:
        admin.create_topics([f"{topic}.dlq"], wait_for_metadata=True)
    large = DeadLetter(topic, 0, 1, bytes(range(256)) * 8_000, "large", None)
    small = _letters(topic, 0, [0, 2])
    for _ in range(2):
        with _opened(settings, topic) as letters:
            letters.append([small[0], large, small[1]])
    found = sorted(_records(settings, topic), key=lambda one: one[0]["headwater.offset"])
    assert [value for _, value in found] == [
        small[0].record,
        large.record[:CUT_BYTES],
        small[1].record,
    ]
    cut = [headers.get("headwater.cut_from_bytes") for headers, _ in found]
    assert cut == [None, str(len(large.record)).encode(), None]


def test_brokers_that_go_and_come_back(
    tmp_path: Path, new_kafka_broker: Callable[..., KafkaBroker]
) -> None:
    """Letters wait for brokers that are gone; told to stop meanwhile, it gives up soon."""
    broker = new_kafka_broker()
    settings = _settings(tmp_path, broker.bootstrap_servers)
    stop = threading.Event()
    told: list[str] = []
    with closing(KafkaDeadLetters(settings, "topic", None, stop, told.append)) as letters:
        letters.append(_letters("topic", 0, [0]))
        durable = letters.snapshot()
        broker.kill()
        with ThreadPoolExecutor(1) as pool:
            appended = pool.submit(letters.append, _letters("topic", 0, [1]))
            broker.start()
            appended.result(60)
            assert told[-1] == "", "nobody waits any more"
            told.clear()
            broker.kill()
            appended = pool.submit(letters.append, _letters("topic", 0, [2]))
            wait_for("the waiting", lambda: bool(told))
            assert told[0] == f"Kafka at {broker.bootstrap_servers} to answer"
            assert not appended.done()
            began = time.monotonic()
            stop.set()
            with pytest.raises(LogError, match=r"topic\.dlq of Kafka at|no broker"):
                appended.result(60)
            assert time.monotonic() - began < STOP_SECONDS_MAX
    broker.start()
    with _opened(settings, "topic", durable) as letters:
        letters.append(_letters("topic", 0, [1, 2]))
    assert sorted(value for _, value in _records(settings, "topic")) == [b"0/0", b"0/1", b"0/2"]
