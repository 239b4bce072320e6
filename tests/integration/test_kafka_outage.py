"""Kafka goes away under a running dataflow and comes back, or has thrown records away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest
from kafka import KafkaAdminClient, TopicPartition

from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.load import Load
from tests.integration.real_shop import Expected, RealShop, run_on_files
from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.services
OUTAGE_SECONDS = 10.0
LOAD_SECONDS = 13.0
# Far shorter than the outage: if that were taken for silence, records would come late.
IDLE_SECONDS = 2.5
STOP_SECONDS_MAX = 5.0
CATCH_UP_SECONDS = 30.0


@pytest.mark.parametrize("end", [KafkaBroker.stop, KafkaBroker.kill])
def test_kafka_gone_for_ten_seconds_under_load(
    new_shop: NewShop,
    records: list[shop.Record],
    own_broker: KafkaBroker,
    end: Callable[[KafkaBroker], None],
) -> None:
    """The flow waits for brokers that were stopped or killed; what they say later is not late."""
    made = new_shop(kafka=own_broker, idle_timeout_seconds=IDLE_SECONDS, epoch_seconds=0.2)
    expected = run_on_files(made, records)
    wait_for("offsets to be kept", lambda: made.committed() is not None)
    with Load(made, records, LOAD_SECONDS, begin=200) as load:
        wait_for("records of every topic", lambda: load.sent >= 200)
        command = made.start("run")
        wait_for("events", lambda: made.events(command) > 100, command)
        load.go()
        wait_for("the load", lambda: load.sent > 220, command)
        gone_until = time.monotonic() + OUTAGE_SECONDS
        end(own_broker)
        wait_for("the waiting", made.is_waiting, command)
        wait_for("the end of the outage", lambda: time.monotonic() > gone_until, command)
        said = made.progress()
        assert said
        assert said.waiting_for == f"Kafka at {made.servers} to answer"
        assert not any(partition.is_idle for partition in said.partitions.values())
        read = said.events
        assert read < len(records) - 500
        own_broker.start()
        load.join()
    wait_for("all read", lambda: made.has_read(expected), command, CATCH_UP_SECONDS)
    wait_for("no lag", lambda: made.committed() == expected.ends, command, CATCH_UP_SECONDS)
    assert command.stop(STOP_SECONDS_MAX) == 0
    assert command.counts == expected.counts
    made.run_to_end()
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def test_told_to_stop_while_kafka_is_gone(
    new_shop: NewShop, records: list[shop.Record], own_broker: KafkaBroker
) -> None:
    """SIGTERM needs no Kafka: a run that reads, and one that just begins, end with exit 0."""
    made = new_shop(kafka=own_broker)
    expected = run_on_files(made, records)
    half = len(records) // 2
    made.produce(records[:half])
    command = made.start("run")
    first = _ends(expected, records[:half])
    wait_for("the first half", lambda: made.committed() == first, command)
    own_broker.kill()
    assert command.stop(STOP_SECONDS_MAX) == 0, command.output
    command = made.start("run")
    wait_for("the waiting", partial(_waits, made, command), command)
    assert command.stop(STOP_SECONDS_MAX) == 0, command.output
    own_broker.start()
    made.produce(records[half:])
    made.run_to_end()
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def _waits(made: RealShop, command: Command) -> bool:
    said = made.progress()
    return said is not None and said.pid == command.pid and bool(said.waiting_for)


def _delete(made: RealShop, until: dict[tuple[str, int], int]) -> None:
    """Have Kafka forget records, as its retention does."""
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        admin.delete_records(
            {TopicPartition(made.topic(name), number): at for (name, number), at in until.items()}
        )


def _ends(expected: Expected, records: list[shop.Record]) -> dict[tuple[str, int], int]:
    return {
        place: sum((one.topic, one.partition) == place for one in records)
        for place in expected.ends
    }


def test_retention_behind_and_ahead_of_us(new_shop: NewShop, records: list[shop.Record]) -> None:
    """Records that were read may go; those that were not are an error that says what was lost."""
    made = new_shop()
    expected = run_on_files(made, records)
    third = len(records) // 3
    first, second = records[:third], records[: 2 * third]
    made.produce(first)
    made.run_to_end()
    _delete(made, _ends(expected, first))
    made.produce(second[third:])
    made.run_to_end()
    made.produce(records[2 * third :])
    place, position = ("orders", 1), _ends(expected, second)["orders", 1]
    _delete(made, {place: position + 7})
    refused = made.start("run", "--until-end").refuse()
    assert f"{made.topic('orders')}/1: we have read to offset {position}" in refused
    assert f"Kafka keeps only {position + 7} to {expected.ends[place]}" in refused
    assert "7 records were lost" in refused
    assert "headwater replay" in refused
