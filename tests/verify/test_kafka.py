"""What was served, verified against Kafka: verdicts as of files, and what it no longer has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from contracts.kafka_producer import KafkaLogWriter
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import load_repository
from tests.flow import shop
from tests.integration.real_shop import TOPICS, RealShop, make_real_shop
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka
from tests.verify.test_served_rows import requests
from tests.verify.world import MODEL, SECOND_US, Oracle, Request, World, counts

pytestmark = pytest.mark.services
HOUR_US = 3_600 * SECOND_US


@pytest.fixture
def in_kafka(
    tmp_path: Path, kafka_broker: KafkaBroker | OutsideKafka, records: list[shop.Record]
) -> Iterator[RealShop]:
    """The shop's log in Kafka; nothing reads or writes its online store."""
    made = make_real_shop(tmp_path / "shop", kafka_broker.bootstrap_servers, "127.0.0.1:1")
    made.produce(records)
    yield made
    names = [made.topic(name) for name in (*TOPICS, "predictions")]
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        admin.delete_topics([name for name in names if name in admin.list_topics()])


def world_of(made: RealShop, **given: str) -> World:
    """The same, to be verified."""
    repository = load_repository(made.folder)
    settings = made.settings.model_copy(
        update={"prediction_topic": made.topic("predictions"), **given}
    )
    return World(repository, made.folder, settings)


def serve(world: World, served: list[Request]) -> None:
    """Write what was served to Kafka, as the scorer does."""
    settings: DataflowSettings = world.settings
    writer = KafkaLogWriter(settings, settings.prediction_topic, "test")
    writer.append([(one.name, one.record(world.schema)) for one in served])
    writer.close()


def test_the_verdicts_are_those_of_files(in_kafka: RealShop, world: World, oracle: Oracle) -> None:
    """Stale, equal and different values of the same log in Kafka are found as in files."""
    served = [
        replace(one, vector=oracle.vector(one.at_us, one.inputs, one.at_us - 60 * SECOND_US))
        for one in requests(oracle, 60)
    ]
    served[5] = served[5].with_value(4, -7.0)
    world.serve(served)
    expected = world.verify().to_json()
    real = world_of(in_kafka)
    serve(real, served)
    assert real.verify().to_json() == expected
    group = f"headwater-{in_kafka.project}-verify"
    with closing(KafkaAdminClient(bootstrap_servers=in_kafka.servers)) as admin:
        assert group not in str(admin.list_groups())


def test_what_the_log_no_longer_has_is_not_judged(in_kafka: RealShop, oracle: Oracle) -> None:
    """Windows that begin before what is kept, and what is over the whole history, are not compared.

    With the removed records in an archive, all is.
    """
    archive = in_kafka.folder / "archive"
    archive.mkdir()
    with closing(KafkaAdminClient(bootstrap_servers=in_kafka.servers)) as admin:
        for partition in (0, 1):
            place = TopicPartition(in_kafka.topic("orders"), partition)
            half = keep_archive(archive, in_kafka, partition)
            admin.delete_records({place: half})
    served = [one for one in requests(oracle, 150) if one.at_us > oracle.last_us - 600 * SECOND_US]
    assert len(served) > 15
    real = world_of(in_kafka)
    serve(real, served)
    report = real.verify()
    assert report.is_good
    found = report.models[MODEL].features
    for name in ("user_orders:spent", "user_orders:last"):
        assert (found[name].compared, found[name].gone) == (0, len(served))
    assert counts(report, "user_visits:seconds")["equal"] == len(served)
    short = found["shop_orders:orders_15m"]
    assert short.equal == short.compared > 0
    with_archive = world_of(in_kafka, archive_url=archive.as_uri()).verify()
    for one in with_archive.models[MODEL].features.values():
        assert one.equal == one.compared == len(served)


def keep_archive(folder: Path, made: RealShop, partition: int) -> int:
    """A file with the first half of a partition of orders; how many records that are."""
    lines = [
        one.line
        for one in shop.make_records(seed=11, orders=200)
        if (one.topic, one.partition) == ("orders", partition)
    ]
    half = lines[: len(lines) // 2]
    name = f"{made.topic('orders')}+{partition}+0000000000.ndjson"
    (folder / name).write_bytes(b"".join(line + b"\n" for line in half))
    return len(half)
