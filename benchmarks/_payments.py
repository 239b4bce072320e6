"""Card payments for benchmarks on Kafka and Redis: a Feast repository, its topic, and services.

Nine windowed features of a card: count, sum and max over 10 minutes, an hour and a day.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kafka.admin import KafkaAdminClient

from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka, OutsideRedis
from tests.services.redis import KEEP_NOTHING, RedisServer

TOPIC = "payments"
VIEW = "cards"
JOIN_KEY = "card"
DEFINITIONS = """
from datetime import timedelta

from feast import Entity, FeatureService, Field, FileSource, KafkaSource, StreamFeatureView
from feast import ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, Int64, String

card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
payments = KafkaSource(
    name="payments", topic="TOPIC", kafka_bootstrap_servers="SERVERS",
    timestamp_field="event_timestamp",
    message_format=JsonFormat(
        schema_json="card string not null, amount double not null, "
        "event_timestamp timestamp not null"
    ),
    watermark_delay_threshold=timedelta(0),
    batch_source=FileSource(
        name="cards_files", path="data/offline/cards", timestamp_field="event_timestamp"
    ),
)
WINDOWS = {"10m": (600, 60), "1h": (3_600, 300), "24h": (86_400, 7_200)}
TYPES = {"count": Int64, "sum": Float64, "max": Float64}
cards = StreamFeatureView(
    name="cards", entities=[card], source=payments, mode="python",
    timestamp_field="event_timestamp", tags={"headwater.offline": "false"},
    aggregations=[
        Aggregation(
            column="amount", function=function, name=f"{function}_{window}",
            time_window=timedelta(seconds=length), slide_interval=timedelta(seconds=hop),
        )
        for window, (length, hop) in WINDOWS.items()
        for function in TYPES
    ],
    schema=[Field(name="card", dtype=String)]
    + [Field(name=f"{f}_{w}", dtype=t) for w in WINDOWS for f, t in TYPES.items()],
)
service = FeatureService(name="cards", features=[cards])
"""
STORE = """
project: PROJECT
provider: local
registry: data/registry.db
online_store: {type: redis, connection_string: "REDIS"}
offline_store: {type: file}
entity_key_serialization_version: 3
"""
_PADDING = "x" * 70


@dataclass(frozen=True)
class Payments:
    """A repository with a topic and a project of its own.

    Attributes:
        folder: the Feast repository.
        servers: of Kafka.
        redis: ``host:port``.
        topic: name of the topic, with ``partitions`` partitions.
        project: Feast project.
        partitions: of the topic.
    """

    folder: Path
    servers: str
    redis: str
    topic: str
    project: str
    partitions: int

    @property
    def log_url(self) -> str:
        """For ``HEADWATER_LOG_URL``."""
        return f"kafka://{self.servers}"


@contextmanager
def services(folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses of Kafka and Redis: the environment's, or new ones as long as the context."""
    outside_kafka = OutsideKafka.named_in(os.environ)
    outside_redis = OutsideRedis.named_in(os.environ)
    broker, server = KafkaBroker(folder / "kafka"), RedisServer(folder / "redis", *KEEP_NOTHING)
    try:
        if outside_kafka is None:
            broker.start()
        if outside_redis is None:
            server.start()
        yield (outside_kafka or broker).bootstrap_servers, (outside_redis or server).address
    finally:
        broker.kill()
        server.kill()


def make_payments(folder: Path, servers: str, redis: str, partitions: int) -> Payments:
    """A new repository; its topic is there and empty."""
    topic = f"{TOPIC}-{uuid.uuid4().hex[:12]}"
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics({topic: {"num_partitions": partitions}}, wait_for_metadata=True)
    admin.close()
    return _written(Payments(folder, servers, redis, topic, _new_project(), partitions))


def with_new_project(made: Payments, folder: Path) -> Payments:
    """A repository that reads the same topic; what other state folders filled is not its own."""
    return _written(replace(made, folder=folder, project=_new_project()))


def _new_project() -> str:
    return f"bench_{uuid.uuid4().hex[:12]}"


def _written(made: Payments) -> Payments:
    made.folder.mkdir(parents=True)
    definitions = DEFINITIONS.replace("TOPIC", made.topic).replace("SERVERS", made.servers)
    (made.folder / "definitions.py").write_text(definitions)
    (made.folder / "feature_store.yaml").write_text(
        STORE.replace("PROJECT", made.project).replace("REDIS", made.redis)
    )
    return made


def payment(card: str, amount: float, time_us: int) -> bytes:
    """A record of 200 bytes or a little more, most of which nobody asks for."""
    seconds, micros = divmod(time_us, 1_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return (
        f'{{"card":"{card}","amount":{amount},"event_timestamp":"{stamp}.{micros:06d}Z",'
        f'"merchant":"{_PADDING}","currency":"EUR"}}'
    ).encode()
