"""The real services of the tests: what stop, kill and pause do to them and to their data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka, OutsideRedis
from tests.services.redis import RedisServer
from tests.services.server import Server, ServerError, free_ports

pytestmark = pytest.mark.services


def _value(server: RedisServer) -> bytes | None:
    with Redis(host=server.host, port=server.port) as client:
        found = client.get("key")
    assert found is None or isinstance(found, bytes)
    return found


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
def test_redis_keeps_its_data(
    new_redis_server: Callable[..., RedisServer], end: Callable[[RedisServer], None]
) -> None:
    """A Redis that was stopped or killed comes back on the same port with what it had."""
    server = new_redis_server()
    with Redis(host=server.host, port=server.port) as client:
        client.set("key", "value")
    end(server)
    assert not server.is_running
    server.start()
    assert _value(server) == b"value"


def test_a_paused_redis_hangs(new_redis_server: Callable[..., RedisServer]) -> None:
    """A paused server takes connections and gives no answer until it is resumed."""
    server = new_redis_server()
    server.pause()
    hurried = Redis(
        host=server.host, port=server.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)
    )
    with hurried, pytest.raises(RedisTimeoutError):
        hurried.ping()
    assert server.is_running
    server.resume()
    assert _value(server) is None


def test_redis_takes_options(new_redis_server: Callable[..., RedisServer]) -> None:
    """Options of a test go before ours."""
    server = new_redis_server("--maxmemory", "10mb", "--appendonly", "no")
    with Redis(host=server.host, port=server.port, decode_responses=True) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(10 * 1024 * 1024)}
        assert client.config_get("appendonly") == {"appendonly": "no"}


def test_a_broker_of_ones_own(new_kafka_broker: Callable[..., KafkaBroker]) -> None:
    """A broker that was killed comes back with its records, and speaks SASL where it is told to."""
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    broker = new_kafka_broker(
        listeners={"SAFE": "SASL_PLAINTEXT"},
        scram_users={"ada": "her password"},
        **{
            "sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "listener.name.safe.scram-sha-256.sasl.jaas.config": login,
        },
    )
    producer = KafkaProducer(
        bootstrap_servers=broker.address("SAFE"),
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username="ada",
        sasl_plain_password="her password",
    )
    producer.send("new", b"kept").get(timeout=30)
    producer.close()
    broker.kill()
    broker.start()
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition("new", 0)])
    assert next(consumer).value == b"kept"
    consumer.close()


def test_topics_are_ready_and_new(
    kafka_broker: KafkaBroker | OutsideKafka, new_topic: Callable[..., str]
) -> None:
    """A new topic has its partitions, each with a leader, when the fixture gives its name."""
    topics = [new_topic(partitions=3), new_topic()]
    consumer = KafkaConsumer(bootstrap_servers=kafka_broker.bootstrap_servers)
    assert [consumer.partitions_for_topic(topic) for topic in topics] == [{0, 1, 2}, {0}]
    consumer.close()


class _Talker(Server):
    """Says something and ends."""

    def command(self) -> list[str]:
        return ["sh", "-c", "echo no memory left; exit 3"]

    def answers(self) -> bool:
        return False


def test_a_server_that_ends_shows_its_log(tmp_path: Path) -> None:
    """The error of a server that does not start has its exit code and its last words."""
    talker = _Talker(tmp_path)
    with pytest.raises(ServerError, match=r"ended with 3\nno memory left"):
        talker.start()
    with pytest.raises(ServerError, match="does not run"):
        talker.pause()


def test_free_ports_differ() -> None:
    """Ports that are asked for together are different ones."""
    assert len(set(free_ports(50))) == 50


def test_outside_services_are_named_by_two_variables() -> None:
    """What the two variables name is used as it is; an address that we cannot use is refused."""
    named = {"KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2", "REDIS_URL": "redis://c:3/0"}
    assert OutsideKafka.named_in(named) == OutsideKafka("a:1,b:2")
    assert OutsideRedis.named_in(named) == OutsideRedis("c", 3)
    assert OutsideKafka.named_in({}) is None
    assert OutsideRedis.named_in({}) is None
    with pytest.raises(ValueError, match="REDIS_URL"):
        OutsideRedis.named_in({"REDIS_URL": "rediss://:secret@c:3/1"})
