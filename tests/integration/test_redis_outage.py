"""Redis goes away under a running dataflow, or loses everything while none runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing

import pytest
import redis

from dataflows.flow.engine import swap_journal
from dataflows.replay import fresh_places
from tests.flow import shop
from tests.integration.commands import wait_for
from tests.integration.conftest import NewShop
from tests.integration.load import Load
from tests.integration.real_shop import RealShop, run_on_files
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services
OUTAGE_SECONDS = 10.0
LOAD_SECONDS = 13.0
CATCH_UP_SECONDS = 20.0
TRIES = 5


@pytest.fixture
def server(new_redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of the test's own that has on disk whatever it has acknowledged."""
    return new_redis_server("--appendfsync", "always")


def test_redis_gone_for_ten_seconds_under_load(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer
) -> None:
    """The flow waits, says so, catches up when Redis is back, and has lost nothing."""
    made = new_shop(redis=server, idle_timeout_seconds=30.0, epoch_seconds=0.2)
    expected = run_on_files(made, records)
    wait_for("offsets to be kept", lambda: made.committed() is not None)
    command = made.start("run")
    with Load(made, records, LOAD_SECONDS) as load:
        wait_for("events", lambda: made.events(command) > 100, command)
        server.kill()
        gone_until = time.monotonic() + OUTAGE_SECONDS
        wait_for("the waiting", made.is_waiting, command)
        said = made.progress()
        assert said
        assert f"Redis at {server.address}" in said.waiting_for
        before = load.sent
        wait_for("the end of the outage", lambda: time.monotonic() > gone_until, command)
        assert load.sent > before + 1_000
        server.start()
        load.join()
    wait_for("all read", lambda: made.has_read(expected), command, CATCH_UP_SECONDS)
    wait_for("no lag", lambda: made.committed() == expected.ends, command, CATCH_UP_SECONDS)
    assert command.stop() == 0
    made.run_to_end()
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def test_redis_that_hangs_and_wakes(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer
) -> None:
    """A Redis that answers nobody is waited for as one that is gone."""
    made = new_shop(redis=server)
    expected = run_on_files(made, records)
    half = len(records) // 2
    made.produce(records[:half])
    command = made.start("run")
    wait_for("events", lambda: made.events(command) > 0, command)
    server.pause()
    made.produce(records[half:])
    wait_for("the waiting", made.is_waiting, command)
    server.resume()
    wait_for("all read", lambda: made.has_read(expected), command)
    assert command.stop() == 0
    made.run_to_end()
    assert made.digests() == expected.digests


def test_a_wiped_redis_is_rebuilt_by_a_replay(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer
) -> None:
    """A run refuses an empty store; a replay fills it as it was and leaves other projects alone."""
    made = new_shop(redis=server)
    expected = run_on_files(made, records)
    made.produce(records)
    made.run_to_end()
    with closing(redis.Redis(port=server.port)) as client:
        client.flushall()
        others = {f"somebody_{made.project}": b"1", "headwater:other:generation": b"2"}
        for key, value in others.items():
            client.set(key, value)
        refused = made.start("run").refuse()
        assert f"{server.address} was wiped" in refused
        assert "headwater replay" in refused
        made.start("replay").succeed()
        assert {key: client.get(key) for key in others} == others
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters
    assert made.run_to_end() == {"events": 0, "bad": 0}


def _is_killed_in_the_swap(made: RealShop, server: RedisServer) -> bool:
    """Kill a replay while it fills Redis; False if it was done before we could."""
    journal = swap_journal(made.settings.state_dir)
    command = made.start("replay")
    while not journal.exists():
        assert command.poll() is None, command.output
    server.pause()
    fresh = fresh_places(made.places)
    folders = [fresh.state, fresh.examples, fresh.models, *fresh.offline.values()]
    # Then nothing is left to do but what needs Redis, which gives no answer.
    wait_for("folders", lambda: not any(folder.exists() for folder in folders))
    is_in_time = journal.exists()
    assert not is_in_time or command.kill() == -signal.SIGKILL
    server.resume()
    command.wait()
    return is_in_time


def test_a_replay_killed_while_it_fills_redis(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer
) -> None:
    """What a replay was killed at is done by the next run, before it begins."""
    made = new_shop(redis=server)
    expected = run_on_files(made, records)
    made.produce(records)
    made.run_to_end()
    for _ in range(TRIES):
        with closing(redis.Redis(port=server.port)) as client:
            client.flushall()
        if _is_killed_in_the_swap(made, server):
            break
    assert made.digests() != expected.digests
    assert made.run_to_end() == {"events": 0, "bad": 0}
    assert made.digests() == expected.digests
    assert not swap_journal(made.settings.state_dir).exists()
