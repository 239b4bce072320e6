"""What is lost, or was written wrongly, comes back from the log: the cases of docs/operations.md.

All on real Kafka and Redis, each compared with a run that nothing happened to.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import RetriableError

from tests.flow import shop
from tests.integration.commands import wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import TOPICS, Expected, RealShop, run_on_files
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def few(records: list[shop.Record]) -> list[shop.Record]:
    """Records of an hour and a half, over midnight."""
    return records[:1_800]


@pytest.fixture
def made(new_shop: NewShop, redis_of_our_own: RedisServer, few: list[shop.Record]) -> RealShop:
    """A shop whose dataflow has come to the end of its log."""
    made = new_shop(redis=redis_of_our_own)
    made.produce(few)
    made.run_to_end()
    return made


@pytest.fixture
def redis_of_our_own(new_redis_server: object) -> RedisServer:
    """One that may be wiped."""
    assert callable(new_redis_server)
    server = new_redis_server()
    assert isinstance(server, RedisServer)
    return server


def test_the_online_store_was_wiped(made: RealShop, redis_of_our_own: RedisServer) -> None:
    """The dataflow notices; only online values are replayed, all else stays to the last byte."""
    before, files = made.digests(), _files(made.places.state / "shards")
    with closing(redis.Redis(port=redis_of_our_own.port)) as client:
        client.flushall()
    assert "was wiped" in made.start("run").refuse()
    assert made.start("replay", "--online").wait() == 0
    assert made.digests() == before
    assert _files(made.places.state / "shards") == files
    assert made.run_to_end() == {"events": 0, "bad": 0}


def test_the_state_folder_was_lost(made: RealShop) -> None:
    """The dataflow refuses to write into a store of another state; a replay heals it."""
    before = made.digests()
    shutil.rmtree(made.places.state)
    assert "was filled from another state folder" in made.start("run").refuse()
    assert made.start("replay").wait() == 0
    assert made.digests() == before
    assert made.run_to_end() == {"events": 0, "bad": 0}


def test_the_model_repository_was_lost(made: RealShop) -> None:
    """A replay learns every version anew, each to the same SHA-256."""
    before, files = made.digests(), _models(made)
    assert files
    shutil.rmtree(made.places.models)
    assert made.start("replay", "--model", "late_order").wait() == 0
    assert made.digests() == before
    assert _models(made) == files


def test_a_view_is_served_until_its_replay(made: RealShop) -> None:
    """Applying definitions without a view leaves its values in Redis until a replay."""
    before = made.digests()
    definitions = made.folder / "definitions.py"
    text = definitions.read_text()
    assert made.start("apply").wait() == 0
    fewer = text[: text.index("user_visits = view(")] + text[text.index("service = ") :]
    definitions.write_text(fewer.replace("user_orders, user_visits, user", "user_orders, user"))
    assert made.start("apply").wait() == 0
    assert made.digests() == before


def test_a_bad_deploy(made: RealShop, few: list[shop.Record], records: list[shop.Record]) -> None:
    """Wrong features were written for an hour of records: the right definitions and a replay."""
    later = records[1_800:2_400]
    expected = run_on_files(made, [*few, *later])
    definitions = made.folder / "definitions.py"
    right = definitions.read_text()
    definitions.write_text(right.replace('over("max", 10, 10', 'over("min", 10, 10'))
    assert made.start("apply").wait() == 0
    assert made.start("replay").wait() == 0
    made.produce(later)
    made.run_to_end()
    assert made.digests()["user_orders"] != expected.digests["user_orders"]
    definitions.write_text(right)
    assert made.start("apply").wait() == 0
    assert "changed since the state" in made.start("run").refuse()
    assert made.start("replay").wait() == 0
    assert made.digests() == expected.digests
    assert made.run_to_end() == {"events": 0, "bad": 0}


def test_records_that_kafka_no_longer_has(made: RealShop, few: list[shop.Record]) -> None:
    """A replay of what is left says nothing and takes it; with an archive it takes everything."""
    before = made.digests()
    archive = made.folder / "archive"
    _archive(made, archive)
    _forget_first(made, 100)
    assert made.start("replay").wait() == 0
    assert made.digests() != before
    again = made.start("replay", archive_url=str(archive))
    assert again.wait() == 0, again.output
    assert made.digests() == before
    assert made.run_to_end() == {"events": 0, "bad": 0}


def test_a_topic_that_was_made_anew(made: RealShop, few: list[shop.Record]) -> None:
    """Offsets of the old one mean nothing: the dataflow refuses, a replay takes the new one."""
    expected: Expected = run_on_files(made, few)
    topic = made.topic("visits")
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        admin.delete_topics([topic])
        wait_for("its end", lambda: topic not in admin.list_topics())
        wait_for("a new one", lambda: _is_made(admin, topic))
    assert "made anew" in made.start("run").refuse()
    made.produce([record for record in few if record.topic == "visits"])
    assert made.start("replay").wait() == 0
    assert made.digests() == expected.digests


def _is_made(admin: KafkaAdminClient, topic: str) -> bool:
    try:
        admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    except RetriableError:
        return False
    return True


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _models(made: RealShop) -> dict[str, bytes]:
    return {
        name: content
        for name, content in _files(made.places.models / "late_order").items()
        if name.endswith(".onnx")
    }


def _archive(made: RealShop, folder: Path) -> None:
    """Write all records as a sink of Kafka Connect would."""
    folder.mkdir()
    with closing(KafkaConsumer(bootstrap_servers=made.servers)) as consumer:
        for name, count in TOPICS.items():
            for number in range(count):
                place = TopicPartition(made.topic(name), number)
                consumer.assign([place])
                consumer.seek_to_beginning(place)
                end = consumer.end_offsets([place])[place]
                lines = []
                while consumer.position(place) < end:
                    lines += [one.value for one in consumer.poll(1_000).get(place, ())]
                path = folder / f"{place.topic}+{number}+{0:010d}.json"
                path.write_bytes(b"".join(line + b"\n" for line in lines))


def _forget_first(made: RealShop, count: int) -> None:
    """Have Kafka let go of the first records of each partition."""
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        admin.delete_records(
            {
                TopicPartition(made.topic(name), number): count
                for name, partitions in TOPICS.items()
                for number in range(partitions)
            }
        )
