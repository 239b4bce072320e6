"""`headwater forget` on Kafka and Redis, beside a running dataflow."""

from __future__ import annotations

import json

import pytest

from contracts.feast_redis import redis_key
from dataflows.erasure.tombstones import read_tombstones
from dataflows.erasure.wanted import Wanted
from dataflows.flow.run_context import Places
from dataflows.stores.redis_client import open_client
from dataflows.stores.redis_scan import entity_keys
from tests.flow import shop
from tests.integration.commands import wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, digests

pytestmark = pytest.mark.services
WHO = Wanted(("user",), ("string",), (("u3",),))
# What does not depend on what was learned from the person before.
STORES = ("online", "user_orders", "user_shop", "shop_orders", "user_visits")


def _of_user(made: RealShop) -> list[bytes]:
    client = open_client(made.config, 10.0)
    try:
        chunks = list(entity_keys(client, made.project))
        # Of a batch view of Feast's, which the plan does not know.
        return [key for chunk in chunks for key in chunk if WHO.is_meant(key)]
    finally:
        client.close()


def _stores(made: RealShop, places: Places) -> dict[str, str]:
    found = digests(made.repository, places)
    return {name: found[name] for name in STORES}


def test_a_running_dataflow_ends_and_a_replay_honours_it(
    new_shop: NewShop, records: list[shop.Record]
) -> None:
    """The dataflow ends with a reason, Redis forgets, and what goes on is what a replay gives."""
    made, cut = new_shop(idle_timeout_seconds=0.5), len(records) // 2
    made.produce(records[:cut])
    run = made.start("run")
    wait_for("the online store", lambda: len(_of_user(made)) == 4, run)
    client = open_client(made.config, 10.0)
    (key,) = WHO.keys
    client.hset(redis_key(made.project, key), mapping={"_ts:batch_view": b"", "abcd": b"x"})
    done = made.start("forget", "user", "u3", "--json")
    assert done.wait() == 0, done.output
    report = json.loads(done.output[done.output.index("{\n") :])
    removed = {(one["where"], one["name"]): one["rows"] for one in report["removed"]}
    assert removed["online", "user_shop"] == 3
    assert removed["online", "user_orders"] == removed["online", "batch_view"] == 1
    assert removed["examples", "late_order"] > 30
    assert "an erasure takes over from this dataflow" in run.refuse()
    assert _of_user(made) == []
    found = read_tombstones(made.settings.state_dir)
    assert found is not None
    assert found.tombstones[0].log == "kafka"
    assert set(found.tombstones[0].topics) == {
        made.topic(name) for name in ("orders", "outcomes", "visits")
    }
    made.run_to_end()
    assert _of_user(made) == []
    live = _stores(made, made.places)
    replayed = made.start("replay")
    assert replayed.wait() == 0, replayed.output
    assert _stores(made, made.places) == live
    # Who comes back is somebody new.
    made.produce(records[cut:])
    made.run_to_end()
    assert len(_of_user(made)) == 4
    client.close()
