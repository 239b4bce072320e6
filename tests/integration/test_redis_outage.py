"""Redis goes away under a running dataflow, or loses everything while none runs."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
import redis

from dataflows.replay.places import fresh_places
from dataflows.stores.handover import journal_path
from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.load import Load
from tests.integration.real_shop import RealShop, run_on_files
from tests.services.redis import KEEP_NOTHING, RedisServer
from tests.services.server import free_ports

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
    with Load(made, records, LOAD_SECONDS, begin=200) as load:
        wait_for("events", lambda: made.events(command) > 100, command)
        load.go()
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
        assert made.start("replay").wait() == 0
        assert {key: client.get(key) for key in others} == others
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters
    assert made.run_to_end() == {"events": 0, "bad": 0}


def _is_killed_in_the_swap(made: RealShop, server: RedisServer) -> bool:
    """Kill a replay while it fills Redis; False if it was done before we could."""
    journal = journal_path(made.settings.state_dir)
    command = made.start("replay")
    while not journal.exists():
        assert command.poll() is None, command.output
    server.pause()
    fresh = fresh_places(made.places)
    folders = [fresh.examples, *fresh.offline.values()]
    # Then what is next needs Redis, which gives no answer.
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
    assert not journal_path(made.settings.state_dir).exists()


def test_redis_that_comes_back_empty_under_a_run(
    new_shop: NewShop, records: list[shop.Record], new_redis_server: Callable[..., RedisServer]
) -> None:
    """A Redis restarted without its data is not filled with the rest; a replay mends it."""
    server = new_redis_server(*KEEP_NOTHING)
    made = new_shop(redis=server)
    expected = run_on_files(made, records)
    half = len(records) // 2
    made.produce(records[:half])
    command = made.start("run")
    wait_for("events", lambda: made.events(command) > 0, command)
    server.kill()
    server.start()
    made.produce(records[half:])
    refused = command.refuse()
    assert f"Redis at {server.address} has lost what it held" in refused
    assert "headwater replay" in refused
    with closing(redis.Redis(port=server.port)) as client:
        assert client.dbsize() == 0
    assert made.start("replay").wait() == 0
    assert made.digests() == expected.digests
    assert made.run_to_end() == {"events": 0, "bad": 0}


def test_another_state_folder_does_not_take_the_store_over(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer
) -> None:
    """An empty state folder is refused at a store that another one filled, until a replay."""
    made = new_shop(redis=server)
    state = made.settings.state_dir
    expected = run_on_files(made, records)
    made.produce(records[:10])
    made.run_to_end()
    # As one that was begun and killed before its first snapshot: its mark is there already.
    for path in state.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    assert made.run_to_end()["events"] > 0
    made.produce(records[10:])
    made.run_to_end()
    assert made.digests()["online"] == expected.digests["online"]
    state.rename(state.with_name("kept"))
    refused = made.start("run").refuse()
    assert f"Redis at {server.address} was filled from another state folder" in refused
    assert "HEADWATER_STATE_DIR" in refused
    assert "headwater replay" in refused
    assert made.start("replay").wait() == 0
    assert made.digests() == expected.digests
    assert made.run_to_end() == {"events": 0, "bad": 0}


def _is_waiting(made: RealShop, command: Command, address: str) -> bool:
    """Whether this very command says that it waits for that address."""
    said = made.progress()
    return said is not None and said.pid == command.pid and address in said.waiting_for


@pytest.mark.parametrize("has_state", [False, True])
def test_redis_away_at_the_start_is_waited_for(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer, has_state: bool
) -> None:
    """A run that begins while Redis is away says so as its own, and goes on when it is back."""
    made = new_shop(redis=server)
    expected = run_on_files(made, records)
    made.produce(records[:100])
    if has_state:
        made.run_to_end()
    made.produce(records[100:])
    server.kill()
    stopped = made.start("run")
    wait_for("the waiting", lambda: _is_waiting(made, stopped, server.address), stopped)
    said = made.progress()
    assert said
    assert (said.events, said.partitions) == (0, {})
    assert stopped.stop() == 0
    impatient = made.start("run", outage_seconds=0.5)
    refused = impatient.refuse()
    assert f"Redis at {server.address}" in refused
    assert "see that it runs, then start again; nothing is lost" in refused
    command = made.start("run", "--until-end")
    wait_for("the waiting", lambda: _is_waiting(made, command, server.address), command)
    server.start()
    command.succeed()
    assert made.digests()["online"] == expected.digests["online"]


def test_redis_away_at_the_swap_of_a_replay(
    new_shop: NewShop, records: list[shop.Record], server: RedisServer
) -> None:
    """The replay waits, then says how it is finished; the next run waits too, and finishes it."""
    made = new_shop(redis=server)
    expected = run_on_files(made, records)
    made.produce(records)
    made.run_to_end()
    with closing(redis.Redis(port=server.port)) as client:
        client.flushall()
    server.kill()
    command = made.start("replay", outage_seconds=0.5)
    assert command.wait() == 1
    last = command.output.splitlines()[-1]
    assert f"Redis at {server.address}" in last
    assert "is done by the next `headwater run` or `headwater replay`" in last
    run = made.start("run", "--until-end")
    wait_for("the waiting", lambda: _is_waiting(made, run, server.address), run)
    said = made.progress()
    assert said
    assert (said.pid, said.events, said.partitions) == (run.pid, 0, {})
    server.start()
    assert run.succeed() == {"events": 0, "bad": 0}
    assert made.digests() == expected.digests


def test_a_run_that_waits_for_kafka_at_its_start_says_so(
    new_shop: NewShop, records: list[shop.Record]
) -> None:
    """`headwater status` shows the run that waits, and nothing of the one before it."""
    made = new_shop()
    made.produce(records[:100])
    made.run_to_end()
    nowhere = replace(made, servers=f"127.0.0.1:{free_ports(1)[0]}")
    command = nowhere.start("run")
    wait_for("the waiting", lambda: _is_waiting(nowhere, command, nowhere.servers), command)
    asked = nowhere.start("status", "--json")
    assert asked.wait() == 0
    report = json.loads(asked.output)
    assert report["dataflow"]["running"] is True
    assert report["dataflow"]["pid"] == command.pid
    assert report["dataflow"]["waiting_for"] == f"Kafka at {nowhere.servers} to answer"
    assert report["partitions"] == []
    assert command.stop() == 0
