"""The writer to Kafka, against a real broker: what arrives, and what is told if it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.partitioner import murmur2

from contracts import kafka_producer
from contracts.kafka_producer import KafkaLogWriter
from contracts.log import LogError, RecordTooLargeError
from contracts.settings import ClientSettings
from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.services
READ_SECONDS_MAX = 30.0


def settings_for(servers: str, **given: object) -> ClientSettings:
    """Settings of a client of these brokers."""
    return ClientSettings.for_repo(
        Path(), **{"log_url": f"kafka://{servers}", "kafka_timeout_seconds": 10.0, **given}
    )


@contextmanager
def writing(servers: str, topic: str, **given: object) -> Iterator[KafkaLogWriter]:
    """A writer, closed at the end whatever became of it."""
    writer = KafkaLogWriter(settings_for(servers, **given), topic, "test")
    try:
        yield writer
    finally:
        writer.close()


def read_all(servers: str, topic: str) -> dict[int, list[Any]]:
    """All messages of the topic's partitions, in order."""
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, one) for one in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found: dict[int, list[Any]] = {place.partition: [] for place in places}
        deadline = time.monotonic() + READ_SECONDS_MAX
        while any(consumer.position(place) < ends[place] for place in places):
            assert time.monotonic() < deadline
            for place, messages in consumer.poll(timeout_ms=200).items():
                found[place.partition] += messages
        return found
    finally:
        consumer.close()


def test_records_arrive_in_the_partition_of_their_key(
    kafka_broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    """Every record is there once, in order, where murmur2 of its key says; the count is right."""
    topic = new_topic(3)
    records = [(f"key {i % 7}", b'{"i":%d}' % i) for i in range(5_000)]
    with writing(kafka_broker.bootstrap_servers, topic) as writer:
        assert writer.append(records[:3_000]) == 3_000
        assert writer.append(iter(records[3_000:])) == 2_000
        assert writer.acknowledged == 5_000
        # Acknowledged means that it can be read, before the writer is closed.
        found = read_all(kafka_broker.bootstrap_servers, topic)
    for number, messages in found.items():
        expected = [
            (key.encode(), record)
            for key, record in records
            if (murmur2(key.encode()) & 0x7FFFFFFF) % 3 == number
        ]
        assert [(message.key, message.value) for message in messages] == expected


def test_a_letter_arrives_with_all_it_has(
    kafka_broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    """Headers, time, partition, no key and no value come out as they went in."""
    topic = new_topic(2)
    headers = [("topic", b"t"), ("error", b"\xff\n"), ("error", b"")]
    with writing(kafka_broker.bootstrap_servers, topic) as writer:
        writer.send(None, b"\x00\xff\n", headers, 1, 1_700_000_000_123)
        writer.send(b"gone", None, (), 1, 1_700_000_000_124)
        writer.flush(10.0)
        assert writer.acknowledged == 2
    found = read_all(kafka_broker.bootstrap_servers, topic)
    assert not found[0]
    letter, tombstone = found[1]
    assert (letter.key, letter.value) == (None, b"\x00\xff\n")
    assert (letter.headers, letter.timestamp) == (headers, 1_700_000_000_123)
    assert (tombstone.key, tombstone.value, tombstone.timestamp) == (
        b"gone",
        None,
        1_700_000_000_124,
    )


def test_what_is_queued_is_bounded(
    kafka_broker: KafkaBroker, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is appended at once, no more than the limit waits for acknowledgement."""
    limit = 1024 * 1024
    monkeypatch.setattr(kafka_producer, "_UNACKNOWLEDGED_BYTES_MAX", limit)
    most = 0
    with writing(kafka_broker.bootstrap_servers, new_topic()) as writer:

        def records() -> Iterator[tuple[str, bytes]]:
            nonlocal most
            for sent in range(4_000):
                most = max(most, sent - writer.acknowledged)
                yield "k", b"x" * 1_000

        assert writer.append(records()) == 4_000
    assert 0 < most <= limit // 1_000


def test_a_record_too_large_is_named(
    kafka_broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    """The error tells topic, size and the broker's setting; the writer stays of no use after it."""
    topic = new_topic()
    with writing(kafka_broker.bootstrap_servers, topic) as writer:
        assert writer.append([("k", b"small")]) == 1
        with pytest.raises(RecordTooLargeError) as caught:
            writer.append([("k", b"y" * 3_000_000)])
        text = str(caught.value)
        assert topic in text
        assert "3,000,001 bytes" in text
        assert "message.max.bytes" in text
        assert writer.acknowledged == 1
        with pytest.raises(RecordTooLargeError):
            writer.append([("k", b"small")])
    values = [one.value for one in read_all(kafka_broker.bootstrap_servers, topic)[0]]
    assert values == [b"small"]


def test_batches_too_large_for_the_topic_are_split(
    kafka_broker: KafkaBroker, new_topic: Callable[..., str]
) -> None:
    """A topic that takes only small batches gets all records all the same, once and in order."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    topic = new_topic() + "-small"
    configs = {"max.message.bytes": "20000"}
    admin.create_topics({topic: {"num_partitions": 1, "configs": configs}}, wait_for_metadata=True)
    admin.close()
    records = [("k", b"%d" % i + b" " * 150) for i in range(3_000)]
    with writing(kafka_broker.bootstrap_servers, topic) as writer:
        assert writer.append(records) == 3_000
    found = read_all(kafka_broker.bootstrap_servers, topic)[0]
    assert [one.value for one in found] == [record for _, record in records]


@pytest.fixture(scope="module")
def _own_broker(
    _kafka_to_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaBroker]:
    properties = {"auto.create.topics.enable": "false"}
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"), properties=properties)
    yield broker
    broker.kill()


def test_a_topic_is_made_even_where_brokers_make_none(own_broker: KafkaBroker) -> None:
    """With auto.create.topics.enable=false a new topic is there, with one partition.

    When somebody deletes it while we write, that is an error that names it, not a new topic.
    """
    servers = own_broker.bootstrap_servers
    with writing(servers, "new", kafka_timeout_seconds=3.0) as writer:
        assert writer.append([("k", b"1")]) == 1
        assert list(read_all(servers, "new")) == [0]
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.delete_topics(["new"])
        with pytest.raises(LogError, match="topic new "):
            writer.append([("k", b"2")])
        assert "new" not in admin.list_topics()
        admin.close()


def test_a_broker_that_is_gone_and_back(own_broker: KafkaBroker) -> None:
    """A short outage is waited out, without loss, doubles or disorder; a long one is an error."""
    servers = own_broker.bootstrap_servers
    before, during = ([("k", b"%d" % (i + start)) for i in range(500)] for start in (0, 500))
    with writing(servers, "t", kafka_timeout_seconds=60.0) as writer:
        writer.append(before)
        own_broker.kill()
        waiting = threading.Thread(target=writer.append, args=(during,))
        waiting.start()
        own_broker.start()
        waiting.join(90)
        assert not waiting.is_alive()
        assert writer.acknowledged == 1_000
    values = [one.value for one in read_all(servers, "t")[0]]
    assert values == [record for _, record in before + during]
    with writing(servers, "t", kafka_timeout_seconds=2.0) as writer:
        own_broker.stop()
        begun = time.monotonic()
        with pytest.raises(LogError, match=r"topic t .*not acknowledged within 2 seconds"):
            writer.append(before)
        assert time.monotonic() - begun < 10
        assert writer.acknowledged == 0
    assert not [one for one in threading.enumerate() if one.name.startswith("test-network")]


def test_abort_ends_a_wait(own_broker: KafkaBroker) -> None:
    """Another thread can end a wait for a broker that is gone, long before its time is up."""
    told: list[str] = []
    sent = threading.Event()
    with writing(own_broker.bootstrap_servers, "given-up", kafka_timeout_seconds=300.0) as writer:
        own_broker.stop()

        def append() -> None:
            try:
                writer.send(b"k", b"lost", (), None, None)
                sent.set()
                writer.flush(300.0)
            except LogError as error:
                told.append(str(error))

        waiting = threading.Thread(target=append)
        waiting.start()
        assert sent.wait(READ_SECONDS_MAX)
        writer.abort()
        waiting.join(30)
        assert not waiting.is_alive()
    assert len(told) == 1
