"""A broker that goes away while it is read, and what is said if it does not come back."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from dataflows.sources.kafka_errors import not_answering
from tests.services.kafka import KafkaBroker
from tests.sources.kafka_reading import failure_of, opened, read_to, settings_for, wait_until

pytestmark = [
    pytest.mark.services,
    # kafka-python leaves sockets open that were refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TOPIC = "flights"


def _write(broker: KafkaBroker, first: int, last: int) -> None:
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for number in range(first, last):
            producer.send(TOPIC, b"%d" % number, partition=0)
        producer.flush()


def _make_topic(broker: KafkaBroker, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    admin.create_topics({name: {"num_partitions": 1}}, wait_for_metadata=True)
    admin.close()


@pytest.mark.timeout(240)
def test_reading_goes_on_when_the_broker_comes_back(own_broker: KafkaBroker) -> None:
    """Stopped or killed, a broker that is gone is no silence; nothing is lost or read twice."""
    _make_topic(own_broker, TOPIC)
    _write(own_broker, 0, 100)
    found: list[bytes] = []
    with opened(settings_for(own_broker.bootstrap_servers, outage_seconds=120)) as log:
        reader = log.open(TOPIC, 0, 0)
        for end, go in ((100, own_broker.stop), (200, own_broker.kill)):
            found += [record[2] for record in read_to(reader, end)]
            reader.committed(end)
            wait_until(reader.is_at_end)
            go()
            wait_until(lambda: not reader.is_at_end())
            assert not reader.has_news()
            assert reader.is_at_end(end), "what was read needs no broker"
            own_broker.start()
            _write(own_broker, end, end + 100)
        found += [record[2] for record in read_to(reader, 300)]
        wait_until(reader.is_at_end)
        assert reader.read(1_000) is None
    assert found == [b"%d" % number for number in range(300)]


@pytest.mark.timeout(240)
def test_a_broker_that_stays_away_is_told(own_broker: KafkaBroker) -> None:
    """After the outage time reading fails with who does not answer; so does a later start."""
    topic = "others"
    _make_topic(own_broker, topic)
    settings = settings_for(own_broker.bootstrap_servers, outage_seconds=2, kafka_timeout_seconds=1)
    with opened(settings) as log:
        reader = log.open(topic, 0, 0)
        wait_until(reader.is_at_end)
        own_broker.stop()
        told = failure_of(reader)
    start, end = str(not_answering(settings, 2, f"for {topic}/0")).split(" 2 s")
    assert told.startswith(start)
    assert told.endswith(end)
    with opened(settings) as log:
        told = failure_of(log.open(topic, 0, 0))
        assert told.startswith(f"Kafka at {own_broker.bootstrap_servers} did not answer")
        assert "HEADWATER_OUTAGE_SECONDS" in told
        assert failure_of(log.open(topic, 1, 0)) == told, "opened after the failure"
