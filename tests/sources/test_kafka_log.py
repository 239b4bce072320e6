"""Reading a real Kafka: the same records as stock ``poll``, bounds, lag, and errors."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kafka.codec
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import RetriableError

from dataflows.sources import kafka_fetch, kafka_silence
from dataflows.sources.kafka_topics import bounds
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka
from tests.sources.kafka_reading import (
    failure_of,
    opened,
    polled,
    read_to,
    records_of,
    settings_for,
    wait_until,
)

pytestmark = pytest.mark.services

Broker = KafkaBroker | OutsideKafka


@pytest.fixture
def admin(kafka_broker: Broker) -> Iterator[Any]:
    """An admin client of the shared broker."""
    client = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    yield client
    client.close()


@pytest.fixture
def produce(kafka_broker: Broker) -> Callable[..., None]:
    """Writes values to partition 0 of a topic, with keys and headers."""

    def write(topic: str, values: list[bytes | None], batch_bytes: int = 1 << 20) -> None:
        with KafkaProducer(
            bootstrap_servers=kafka_broker.bootstrap_servers,
            linger_ms=50,
            batch_size=batch_bytes,
        ) as producer:
            for number, value in enumerate(values):
                headers = [("name", b"x" * (number % 3))] * (number % 2)
                producer.send(topic, value, b"key" * (number % 4), headers, 0)
            producer.flush()

    return write


@pytest.fixture(params=["hook", "stock"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of reading: whole batches, and what there is without kafka-python's insides."""
    if request.param == "stock":
        monkeypatch.setattr(kafka_fetch, "missing_hook", lambda consumer: "that of this test")
    return str(request.param)


def _write_anything(servers: str, topic: str, seed: int) -> None:
    """Batches of many sizes, plain, compressed, in transactions that end well or do not."""
    chance = random.Random(seed)
    options = {"bootstrap_servers": servers, "linger_ms": 20}
    producers = [
        KafkaProducer(compression_type=codec, batch_size=size, **options)
        for codec, size in ((None, 500), (None, 1 << 20), ("gzip", 1 << 16))
    ]
    careful = KafkaProducer(transactional_id=f"{topic}-careful", **options)
    careful.init_transactions()
    for _ in range(12):
        values = [
            chance.choice([None, b"", b"\n", chance.randbytes(chance.randrange(400))])
            for _ in range(chance.randrange(1, 60))
        ]
        producer = chance.choice([*producers, careful, careful])
        if producer is careful:
            careful.begin_transaction()
        for value in values:
            producer.send(topic, value, key=b"" if value is None else None, partition=0)
        producer.flush()
        if producer is careful:
            chance.choice([careful.commit_transaction, careful.abort_transaction])()
    for producer in [*producers, careful]:
        producer.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_records_are_those_of_stock_poll(
    kafka_broker: Broker, new_topic: Callable[..., str], reading: str, seed: int
) -> None:
    """Batches of all kinds, aborted transactions left out, come as kafka-python's poll has them."""
    topic = new_topic()
    servers = kafka_broker.bootstrap_servers
    _write_anything(servers, topic, seed)
    settings = settings_for(servers, kafka_fetch_bytes=20_000)
    first, end = bounds(settings, [(topic, 0)])[topic, 0]
    wanted = polled(servers, topic, 0, first, end)
    assert len({record[2] for record in wanted}) > 50
    with opened(settings) as log:
        reader = log.open(topic, 0, first)
        assert read_to(reader, end, bytes_max=3_000) == wanted
        wait_until(reader.is_at_end)
        assert reader.offset == end, "control records at the end are read past"
        reader.close()
        middle = random.Random(seed).randrange(first, end)
        again = log.open(topic, 0, middle)
        until = (middle + end) // 2
        wait_until(lambda: again.has_news() or again.is_at_end(until))
        found = []
        while not again.is_at_end(until):
            chunk = again.read(5_000, until)
            found += [] if chunk is None else records_of(chunk)
        assert found == [record for record in wanted if middle <= record[0] < until]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_compression_is_read_or_named(
    kafka_broker: Broker,
    new_topic: Callable[..., str],
    produce: Callable[..., None],
    admin: Any,
    codec: str,
) -> None:
    """What a broker compresses is read if the library is there, else an error names it."""
    topic = new_topic()
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, {"compression.type": codec})]
    )
    values: list[bytes | None] = [b"%06d" % number * 20 for number in range(20_000)]
    produce(topic, values)
    with opened(settings_for(kafka_broker.bootstrap_servers)) as log:
        reader = log.open(topic, 0, 0)
        if getattr(kafka.codec, f"has_{codec}")():
            assert [record[2] for record in read_to(reader, len(values))] == values
        else:
            assert re.search(rf"{topic}/0: .*'kafka-python\[{codec}\]'", failure_of(reader))


def test_several_partitions_are_read_by_one_thread(
    kafka_broker: Broker, new_topic: Callable[..., str]
) -> None:
    """Partitions opened by several threads, some once reading has begun, all come whole."""
    topic = new_topic(partitions=4)
    settings = settings_for(kafka_broker.bootstrap_servers)
    with KafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
        for number in range(400):
            producer.send(topic, b"%d" % number, partition=number % 4)
    before = threading.active_count()
    with opened(settings) as log:
        first = log.open(topic, 0, 0)
        assert len(read_to(first, 100)) == 100
        found: dict[int, list[bytes]] = {}

        def read(partition: int) -> None:
            reader = log.open(topic, partition, 10)
            found[partition] = [record[2] for record in read_to(reader, 100)]

        threads = [threading.Thread(target=read, args=(partition,)) for partition in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = {p: [b"%d" % n for n in range(p + 40, 400, 4)] for p in (1, 2, 3)}
        assert found == wanted
        with pytest.raises(ValueError, match="open already"):
            log.open(topic, 0, 0)
    wait_until(lambda: threading.active_count() <= before)
    with pytest.raises(ValueError, match="the log is closed"):
        log.open(topic, 0, 0)


def test_a_reader_that_waits_is_not_flooded(
    kafka_broker: Broker, new_topic: Callable[..., str], produce: Callable[..., None]
) -> None:
    """What is not read stays in Kafka: the buffer holds two fetches and one more at the most."""
    topic, other = new_topic(), new_topic()
    produce(topic, [b"%05d" % number * 40 for number in range(10_000)], 16_000)
    produce(other, [b"x"])
    fetch_bytes = 100_000
    settings = settings_for(kafka_broker.bootstrap_servers, kafka_fetch_bytes=fetch_bytes)
    with opened(settings) as log:
        reader, lively = log.open(topic, 0, 0), log.open(other, 0, 0)
        largest = 0
        found = []
        while reader.offset < 10_000:
            wait_until(lambda: reader.is_paused or reader.fetched_offset == 10_000)
            largest = max(largest, reader.buffered_bytes)
            # Others are read while this one waits.
            if reader.offset == 0:
                assert read_to(lively, 1)[0][2] == b"x"
            chunk = reader.read(70_000)
            found += [] if chunk is None else records_of(chunk)
        assert [record[0] for record in found] == list(range(10_000))
        assert {record[2] for record in found} == {b"%05d" % n * 40 for n in range(10_000)}
        # What is fetched has keys and headers as well, the buffer has starts, offsets and times.
        assert fetch_bytes < largest < 3.3 * fetch_bytes


def test_a_partition_can_be_opened_again(
    kafka_broker: Broker, new_topic: Callable[..., str], produce: Callable[..., None]
) -> None:
    """One that was closed while its buffer was full is read anew from any offset."""
    topic = new_topic()
    produce(topic, [b"%05d" % number * 40 for number in range(10_000)], 16_000)
    settings = settings_for(kafka_broker.bootstrap_servers, kafka_fetch_bytes=50_000)
    with opened(settings) as log:
        first = log.open(topic, 0, 0)
        wait_until(lambda: first.is_paused)
        first.close()
        again = log.open(topic, 0, 9_000)
        assert [record[0] for record in read_to(again, 10_000)] == list(range(9_000, 10_000))
        assert not first.has_news()


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_transaction_that_is_open_is_seen(
    kafka_broker: Broker, new_topic: Callable[..., str], reading: str, ends_well: bool
) -> None:
    """Before it the partition is at its end but not silent; at its end its records come, or not."""
    topic = new_topic()
    settings = settings_for(kafka_broker.bootstrap_servers)
    with (
        KafkaProducer(
            bootstrap_servers=kafka_broker.bootstrap_servers, transactional_id=f"{topic}-open"
        ) as producer,
        opened(settings) as log,
    ):
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"not yet", partition=0)
        producer.flush()
        assert bounds(settings, [(topic, 0)])[topic, 0] == (0, 0)
        reader = log.open(topic, 0, 0)
        wait_until(reader.is_at_end)
        assert reader.has_withheld()
        assert reader.read(100) is None
        if ends_well:
            producer.commit_transaction()
            assert [record[2] for record in read_to(reader, 1)] == [b"not yet"]
        else:
            producer.abort_transaction()
        wait_until(lambda: reader.offset == 2)
        wait_until(reader.is_at_end)
        assert not reader.has_withheld()


def test_new_records_come_at_once(
    kafka_broker: Broker, new_topic: Callable[..., str], reading: str
) -> None:
    """A record that is written while the reader waits is there long before the next time-out."""
    topic = new_topic()
    waits = []
    with (
        opened(settings_for(kafka_broker.bootstrap_servers)) as log,
        KafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer,
    ):
        reader = log.open(topic, 0, 0)
        wait_until(reader.is_at_end)
        for number in range(20):
            producer.send(topic, b"%d" % number, partition=0).get(10)
            begin = time.monotonic()
            wait_until(reader.has_news)
            waits.append(time.monotonic() - begin)
            assert len(read_to(reader, number + 1)) == 1
    assert sorted(waits)[10] < 0.05


def test_what_retention_has_removed_is_told(
    kafka_broker: Broker, new_topic: Callable[..., str], produce: Callable[..., None], admin: Any
) -> None:
    """A position that is gone is an error with what was lost and how to go on; never a jump."""
    topic, sound = new_topic(), new_topic()
    produce(topic, [b"x"] * 50)
    produce(sound, [b"y"] * 5)
    admin.delete_records({TopicPartition(topic, 0): 30})
    with opened(settings_for(kafka_broker.bootstrap_servers)) as log:
        lost, other = log.open(topic, 0, 10), log.open(sound, 0, 0)
        told = failure_of(lost)
        assert told.startswith(
            f"{topic}/0: we have read to offset 10, but Kafka keeps only 30 to 50: "
            "20 records were lost"
        )
        assert "retention" in told
        assert "headwater replay" in told
        assert failure_of(other) == told
        other.close()
        assert failure_of(log.open(sound, 0, 0)) == told


def test_a_position_behind_the_end_is_told(
    kafka_broker: Broker, new_topic: Callable[..., str], produce: Callable[..., None]
) -> None:
    """A topic that was made anew, so that it ends before our position, is an error."""
    topic = new_topic()
    produce(topic, [b"x"] * 5)
    with opened(settings_for(kafka_broker.bootstrap_servers)) as log:
        reader = log.open(topic, 0, 6)
        assert "Kafka has only 0 to 5: the topic was made anew" in failure_of(reader)


def test_a_topic_that_is_deleted_is_told(
    kafka_broker: Broker,
    new_topic: Callable[..., str],
    admin: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A topic that vanishes while it is read is an error, not a wait for ever."""
    monkeypatch.setattr(kafka_silence, "MISSING_SECONDS", 0.5)
    topic = new_topic()
    with opened(settings_for(kafka_broker.bootstrap_servers)) as log:
        reader = log.open(topic, 0, 0)
        wait_until(reader.is_at_end)
        admin.delete_topics([topic])
        assert f"{topic}/0 is no longer there: the topic was deleted" in failure_of(reader)


@pytest.mark.parametrize("ending", ["while reading", "at close"])
def test_offsets_are_told_to_kafka(
    kafka_broker: Broker, new_topic: Callable[..., str], admin: Any, ending: str
) -> None:
    """What is done can be seen as the group's offset, soon and at the latest after the end."""
    topic = new_topic(partitions=2)
    group = f"{topic}-lag"

    def seen() -> dict[int, int]:
        try:
            found = admin.list_group_offsets({group: None})[group]
        except RetriableError:
            # The first group of a broker waits until there is a topic for offsets.
            return {}
        return {name.partition: offset.offset for name, offset in found.items()}

    with opened(settings_for(kafka_broker.bootstrap_servers), group) as log:
        readers = [log.open(topic, partition, 0) for partition in (0, 1)]
        if ending == "while reading":
            wait_until(readers[0].is_at_end)
            readers[0].committed(3)
            wait_until(lambda: seen() == {0: 3})
        readers[0].committed(4)
        readers[1].committed(7)
        readers[1].close()
    assert seen() == {0: 4, 1: 7}


def test_a_group_with_members_only_costs_the_lag(
    kafka_broker: Broker,
    new_topic: Callable[..., str],
    produce: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If others are members of the group its offsets are refused; that is said, reading goes on."""
    topic = new_topic()
    group = f"{topic}-taken"
    member = KafkaConsumer(topic, bootstrap_servers=kafka_broker.bootstrap_servers, group_id=group)
    wait_until(lambda: bool(member.poll(4_000) or member.assignment()))
    with opened(settings_for(kafka_broker.bootstrap_servers), group) as log:
        reader = log.open(topic, 0, 0)
        reader.committed(0)
        produce(topic, [b"x"])
        assert len(read_to(reader, 1)) == 1
        reader.committed(1)
    member.close()
    lines = [record.message for record in caplog.records if group in record.message]
    assert any("HEADWATER_KAFKA_GROUP" in line for line in lines)
