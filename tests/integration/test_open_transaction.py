"""Records that nobody may read yet are no silence."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer

from tests.flow import shop
from tests.integration.commands import wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, run_on_files

pytestmark = pytest.mark.services
IDLE_SECONDS = 0.3
PLACE = ("orders", 0)


def _idle(made: RealShop) -> set[str]:
    """The partitions that the run says are idle."""
    said = made.progress()
    return set() if said is None else {name for name, at in said.partitions.items() if at.is_idle}


def test_an_open_transaction_holds_the_watermark(
    new_shop: NewShop, records: list[shop.Record]
) -> None:
    """Its partition is not idle before it ends, so what it brings is not late."""
    made = new_shop(idle_timeout_seconds=IDLE_SECONDS, epoch_seconds=0.05)
    expected = run_on_files(made, records)
    held = [one for one in records if (one.topic, one.partition) == PLACE]
    # One of them can be read, so that all others come within HEADWATER_ALIGNMENT_SECONDS of it.
    made.produce([held[0], *(one for one in records if (one.topic, one.partition) != PLACE)])
    others = {f"{made.topic(name)}/{number}" for name, number in expected.ends} - {
        f"{made.topic(PLACE[0])}/{PLACE[1]}"
    }
    with KafkaProducer(
        bootstrap_servers=made.servers, transactional_id=f"{made.prefix}-open"
    ) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for one in held[1:]:
            producer.send(made.topic(one.topic), one.line, partition=one.partition)
        producer.flush()
        command = made.start("run")
        wait_for("idle partitions", lambda: _idle(made) >= others, command)
        wait_for("the waiting", made.is_waiting, command)
        said = made.progress()
        assert said
        assert said.waiting_for == f"an open transaction to end in {made.topic('orders')}/0"
        assert _idle(made) == others, "some have been silent for long, this one never"
        producer.commit_transaction()
    wait_for("all read", lambda: made.has_read(expected), command)
    assert command.stop() == 0, command.output
    made.run_to_end()
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters
