"""On Kafka and Redis a run comes to what it comes to on files, and Kafka knows how far it is."""

from __future__ import annotations

from functools import partial

import pytest

from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, run_on_files

pytestmark = pytest.mark.services


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_equals_one_on_files(
    new_shop: NewShop, records: list[shop.Record], workers: int
) -> None:
    """Stores, examples, models and dead letters are those of files; then nothing is left to do."""
    made = new_shop(workers=workers)
    expected = run_on_files(made, records)
    made.produce(records)
    assert made.run_to_end() == expected.counts
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters
    assert made.run_to_end() == {"events": 0, "bad": 0}
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def _has_read(made: RealShop, command: Command) -> bool:
    return made.events(command) > 200


def test_workers_may_change_between_runs(new_shop: NewShop, records: list[shop.Record]) -> None:
    """Each run goes on where the last one stopped, with more workers or fewer."""
    made = new_shop(batch_bytes=3_000, epoch_seconds=0.05)
    made.produce(records)
    read = 0
    for workers in (1, 3, 2):
        command = made.start("run", workers=workers)
        wait_for("events", partial(_has_read, made, command), command)
        assert command.stop() == 0, command.output
        read += command.counts["events"]
    expected = run_on_files(made, records)
    rest = made.run_to_end(workers=1)["events"]
    assert rest > 0
    assert read + rest == expected.counts["events"]
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def test_kafka_knows_how_far_a_run_is(new_shop: NewShop, records: list[shop.Record]) -> None:
    """While it runs the group's offsets follow what is durable."""
    made = new_shop(epoch_seconds=0.1)
    half = len(records) // 2
    made.produce(records[:half])
    first = run_on_files(made, records[:half])
    wait_for("offsets to be kept", lambda: made.committed() is not None)
    command = made.start("run")
    wait_for("offsets of the first half", lambda: made.committed() == first.ends, command, 20)
    made.produce(records[half:])
    assert command.poll() is None
    ends = {
        place: sum((one.topic, one.partition) == place for one in records) for place in first.ends
    }
    durable = made.committed()
    assert durable
    assert all(at <= ends[place] for place, at in durable.items())
    wait_for("offsets of the rest", lambda: made.committed() == ends, command, 20)
    assert command.stop() == 0


def test_kafka_knows_how_far_a_run_was(new_shop: NewShop, records: list[shop.Record]) -> None:
    """What the last epoch made durable is told too, also if it was the only one."""
    made = new_shop(batch_bytes=3_000, epoch_seconds=60)
    expected = run_on_files(made, records)
    made.produce(records)
    wait_for("offsets to be kept", lambda: made.committed() is not None)
    command = made.start("run")
    wait_for("events", partial(_has_read, made, command), command)
    assert command.stop() == 0, command.output
    told = made.committed()
    assert told
    assert sum(told.values()) == sum(command.counts.values())
    made.run_to_end()
    assert made.committed() == expected.ends
