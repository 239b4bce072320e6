"""Data sets of a log in Kafka: as of one in files, until records or topics are gone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from dataflows.datasets.errors import DatasetError
from dataflows.sources.kafka_topics import missing
from tests.datasets.world import World
from tests.flow import shop
from tests.integration.commands import wait_for
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka

pytestmark = pytest.mark.services

PATIENCE_SECONDS = 60.0
TOPICS = {"orders": 2, "visits": 1, "outcomes": 1}


class InKafka:
    """The world's log, in topics of its own."""

    def __init__(self, servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prefix = f"datasets-{uuid.uuid4().hex[:8]}"
        self._servers = servers
        self.admin = KafkaAdminClient(bootstrap_servers=servers)
        self.admin.create_topics(
            {self.topic(name): {"num_partitions": count} for name, count in TOPICS.items()},
            wait_for_metadata=True,
        )
        monkeypatch.setenv("HEADWATER_LOG_URL", f"kafka://{servers}")

    def topic(self, name: str) -> str:
        """Its name in Kafka."""
        return f"{self.prefix}.{name}"

    @property
    def definitions(self) -> str:
        """The shop's, of these topics."""
        text = shop.DEFINITIONS
        for name in TOPICS:
            text = text.replace(f'("{name}", "', f'("{self.topic(name)}", "')
        return text

    def produce(self, records: list[shop.Record]) -> None:
        """Write records to the partitions that they name, in order."""
        with closing(KafkaProducer(bootstrap_servers=self._servers, linger_ms=5)) as producer:
            for one in records:
                producer.send(self.topic(one.topic), one.line, partition=one.partition)
            producer.flush(PATIENCE_SECONDS)


@pytest.fixture
def in_kafka(
    kafka_broker: KafkaBroker | OutsideKafka, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InKafka]:
    """Topics of the test's own."""
    made = InKafka(kafka_broker.bootstrap_servers, monkeypatch)
    with closing(made.admin):
        yield made


def test_ranges_in_kafka(world: World, in_kafka: InKafka, records: list[shop.Record]) -> None:
    """A range comes out again under new records; past retention, or in new topics, it cannot."""
    world.commit(in_kafka.definitions)
    in_kafka.produce(records[:1500])
    made = world.build("kafka")
    assert made.log.kind == "kafka"
    assert set(made.log.topic_ids) == {in_kafka.topic(name) for name in TOPICS}
    assert sum(one.end - one.first for one in made.log.partitions) == 1500
    assert made.figures.labelled > 200
    in_kafka.produce(records[1500:])
    assert world.check("kafka").differences == ()
    _check_nothing_is_told(in_kafka)
    place = TopicPartition(in_kafka.topic("orders"), 1)
    in_kafka.admin.delete_records({place: 10})
    with pytest.raises(DatasetError, match=r"orders/1 from offset 10 on only.*retention"):
        world.check("kafka")
    later = world.build("later")
    assert {one.first for one in later.log.partitions} == {0, 10}
    assert world.check("later").differences == ()
    topic = in_kafka.topic("visits")
    in_kafka.admin.delete_topics([topic])
    wait_for("a deleted topic", lambda: bool(missing(world.settings, [(topic, 0)])))
    with pytest.raises(DatasetError, match=rf"topic '{topic}' was made anew"):
        world.check("later")


def _check_nothing_is_told(in_kafka: InKafka) -> None:
    """No dead letters, no alerts: bad records are the dataflow's business."""
    names = in_kafka.admin.list_topics()
    mine = {str(name) for name in names if str(name).startswith(in_kafka.prefix)}
    assert mine == {in_kafka.topic(name) for name in TOPICS}
