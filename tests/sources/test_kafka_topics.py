"""Which partitions there are, where they begin and end, and topics that are missing."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import SaslAuthenticationFailedError, TopicAuthorizationFailedError

from contracts.log import LogError
from dataflows.sources.kafka_errors import explain, out_of_range
from dataflows.sources.kafka_topics import bounds, list_topics, missing
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka
from tests.services.server import free_ports
from tests.sources.kafka_reading import settings_for, wait_until

Broker = KafkaBroker | OutsideKafka


@pytest.mark.services
def test_missing_topics_are_made(kafka_broker: Broker, new_topic: Callable[..., str]) -> None:
    """A topic that is there is listed as it is; one that is not is made with one partition."""
    settings = settings_for(kafka_broker.bootstrap_servers)
    wide, new = new_topic(partitions=3), f"test-{uuid.uuid4().hex}"
    assert missing(settings, [(wide, 2), (new, 0)]) == {(new, 0)}
    found = list_topics(settings, [wide, new])
    assert {name: topic.partitions for name, topic in found.items()} == {wide: [0, 1, 2], new: [0]}
    assert list_topics(settings, [new, wide]) == found
    assert list_topics(settings, []) == {}
    assert missing(settings, [(wide, 2), (new, 0), (new, 1)]) == {(new, 1)}
    assert bounds(settings, [(new, 0), (wide, 2)]) == {(new, 0): (0, 0), (wide, 2): (0, 0)}
    assert bounds(settings, []) == {}


@pytest.mark.services
def test_a_topic_made_anew_has_another_id(
    kafka_broker: Broker, new_topic: Callable[..., str]
) -> None:
    """The id of a topic stays while it lives, also from when we made it; a new one has its own."""
    settings = settings_for(kafka_broker.bootstrap_servers)
    topic, other = f"test-{uuid.uuid4().hex}", new_topic()
    first = list_topics(settings, [topic, other])
    assert list_topics(settings, [topic, other]) == first
    assert first[topic].topic_id != first[other].topic_id
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    admin.delete_topics([topic])
    admin.close()
    wait_until(lambda: missing(settings, [(topic, 0)]) == {(topic, 0)})
    assert list_topics(settings, [topic])[topic].topic_id not in ("", first[topic].topic_id)


@pytest.mark.services
def test_bounds_are_what_can_be_read(kafka_broker: Broker, new_topic: Callable[..., str]) -> None:
    """A partition begins at the first record kept and ends behind the last; others do not count."""
    settings = settings_for(kafka_broker.bootstrap_servers)
    topic = new_topic(partitions=2)
    with KafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
        for number in range(10):
            producer.send(topic, b"%d" % number, partition=number % 2)
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 1): 2})
    admin.close()
    assert bounds(settings, [(topic, 0), (topic, 1)]) == {(topic, 0): (0, 5), (topic, 1): (2, 5)}


@pytest.mark.services
def test_a_name_that_kafka_refuses_is_told(kafka_broker: Broker) -> None:
    """A topic that cannot be made, and one without bounds, are errors of one line."""
    settings = settings_for(kafka_broker.bootstrap_servers)
    with pytest.raises(LogError, match=r"InvalidTopicError.*not/a/name"):
        list_topics(settings, ["not/a/name"])
    with pytest.raises(LogError, match="does not know a topic that was there before"):
        bounds(settings, [(f"test-{uuid.uuid4().hex}", 0)])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_there_is_told() -> None:
    """Without a broker the question ends in an error once the outage time is over."""
    settings = settings_for(f"127.0.0.1:{free_ports(1)[0]}", outage_seconds=0)
    with pytest.raises(LogError, match=r"did not answer.*HEADWATER_OUTAGE_SECONDS"):
        list_topics(settings, ["t"])
    assert missing(settings, [("t", 0)]) == set()


def test_errors_say_what_to_do() -> None:
    """A refusal names the setting or the right that is missing; a lost position what was lost."""
    settings = settings_for(
        "kafka.example:9092",
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_username="ada",
        kafka_sasl_password="secret",
    )
    login = str(explain(SaslAuthenticationFailedError("no"), settings))
    assert "HEADWATER_KAFKA_SASL_PASSWORD" in login
    assert "'ada'" in login
    denied = str(explain(TopicAuthorizationFailedError({"t"}), settings))
    assert "user 'ada' must be granted Read and Describe" in denied
    assert "secret" not in login + denied
    assert "20 records were lost" in str(out_of_range("t/0", 10, 30, 50))
    assert "has only 30 to 50" in str(out_of_range("t/0", 60, 30, 50))
