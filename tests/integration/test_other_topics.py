"""Positions belong to one topic, not to all that ever have its name."""

from __future__ import annotations

from contextlib import closing

import pytest
from kafka import KafkaAdminClient

from dataflows.sources.kafka_topics import missing
from tests.flow import shop
from tests.integration.commands import wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, run_on_files

pytestmark = pytest.mark.services


def _make_anew(made: RealShop, name: str, partitions: int) -> None:
    topic = made.topic(name)
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        admin.delete_topics([topic])
        wait_for("a deleted topic", lambda: bool(missing(made.settings, [(topic, 0)])))
        admin.create_topics({topic: {"num_partitions": partitions}}, wait_for_metadata=True)


def test_a_topic_made_anew_is_refused(new_shop: NewShop, records: list[shop.Record]) -> None:
    """Its records are not taken for those behind our position; a replay reads all of them."""
    made = new_shop()
    made.produce(records[:500])
    made.run_to_end()
    _make_anew(made, "visits", 1)
    # So many that all positions exist in the new topic, too.
    made.produce([one for one in records if one.topic == "visits"])
    before = made.digests()
    refused = made.start("run", "--until-end").refuse()
    assert f"topic {made.topic('visits')} was made anew, or HEADWATER_LOG_URL names" in refused
    assert "headwater replay" in refused
    assert made.digests() == before
    assert made.start("replay").wait() == 0
    rest = [one for one in records[500:] if one.topic != "visits"]
    made.produce(rest)
    made.run_to_end()
    visits = [one for one in records if one.topic == "visits"]
    others = [one for one in records if one.topic != "visits"]
    expected = run_on_files(made, others + visits)
    assert made.digests()["user_visits"] == expected.digests["user_visits"]


def test_a_topic_that_a_run_makes_is_its_own(new_shop: NewShop, records: list[shop.Record]) -> None:
    """A topic that is missing at the first start is made, and the next start goes on with it."""
    made = new_shop()
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        admin.delete_topics([made.topic("visits")])
    place = (made.topic("visits"), 0)
    wait_for("a deleted topic", lambda: bool(missing(made.settings, [place])))
    expected = run_on_files(made, records)
    assert made.run_to_end() == {"events": 0, "bad": 0}
    made.produce(records)
    assert made.run_to_end() == expected.counts
    assert made.digests() == expected.digests
