"""A dataflow on real services that is killed or told to stop goes on as if nothing had been."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, run_on_files
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services
STOP_SECONDS_MAX = 5.0
# Small steps, so that there are many moments to be killed at.
SMALL = {"batch_bytes": 2_000, "kafka_fetch_bytes": 4_000, "epoch_seconds": 0.02}


def _kill_somewhere(made: RealShop, command: Command, rng: random.Random) -> bool:
    """Kill a run while it starts or at some record; False if it was at its end before."""
    if rng.random() < 0.2:
        time.sleep(rng.random() * 0.5)
        return command.kill() == -signal.SIGKILL
    events = rng.randrange(1, 200)
    while made.events(command) < events:
        if command.poll() is not None:
            return False
        time.sleep(0.002)
    time.sleep(rng.random() * 0.03)
    return command.kill() == -signal.SIGKILL


@pytest.mark.parametrize(("workers", "kills"), [(1, 10), (2, 4)])
def test_kills_leave_no_trace(
    new_shop: NewShop, records: list[shop.Record], workers: int, kills: int
) -> None:
    """Killed many times at random points, it ends with the bytes of a run without a kill."""
    rng = random.Random(workers)
    made = new_shop(workers=workers, **SMALL)
    expected = run_on_files(made, records)
    made.produce(records)
    for _ in range(kills):
        assert _kill_somewhere(made, made.start("run", "--until-end"), rng)
    made.run_to_end()
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def test_told_to_stop_while_catching_up(new_shop: NewShop, records: list[shop.Record]) -> None:
    """SIGTERM ends it with exit 0 and a snapshot: the next run reads the rest and nothing twice."""
    made = new_shop(**{**SMALL, "epoch_seconds": 60.0})
    expected = run_on_files(made, records)
    made.produce(records)
    command = made.start("run")
    wait_for("events", lambda: made.events(command) > 300, command)
    assert command.stop(STOP_SECONDS_MAX) == 0
    rest = made.run_to_end()
    assert rest["events"] > 0
    both = {name: count + rest[name] for name, count in command.counts.items()}
    assert both == expected.counts
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters


def test_told_to_stop_while_all_is_silent(new_shop: NewShop, records: list[shop.Record]) -> None:
    """SIGTERM while Kafka has nothing new ends it as quickly, and all is kept."""
    made = new_shop(epoch_seconds=60.0)
    expected = run_on_files(made, records)
    made.produce(records)
    command = made.start("run")

    def is_silent() -> bool:
        said = made.progress()
        return made.has_read(expected) and all(
            partition.is_idle for partition in (said.partitions.values() if said else ())
        )

    wait_for("silence", is_silent, command)
    assert command.stop(STOP_SECONDS_MAX) == 0
    assert command.counts == expected.counts
    assert made.run_to_end() == {"events": 0, "bad": 0}
    assert made.digests() == expected.digests


def test_told_to_stop_while_redis_is_gone(
    new_shop: NewShop, records: list[shop.Record], new_redis_server: Callable[..., RedisServer]
) -> None:
    """SIGTERM ends the waiting with one line about Redis; the next run writes what was missing."""
    redis = new_redis_server("--appendfsync", "always")
    made = new_shop(redis=redis)
    expected = run_on_files(made, records)
    half = len(records) // 2
    made.produce(records[:half])
    command = made.start("run")
    wait_for("events", lambda: made.events(command) > 0, command)
    redis.kill()
    made.produce(records[half:])
    wait_for("the waiting", made.is_waiting, command)
    command.signal(signal.SIGTERM)
    assert f"Redis at {redis.address}" in command.refuse(STOP_SECONDS_MAX)
    redis.start()
    made.run_to_end()
    assert made.digests() == expected.digests
    assert made.dead_letters() == expected.letters
