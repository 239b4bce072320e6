"""The scorer on what a real dataflow wrote, while Redis goes and comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import grpc
import pytest

from scorer.client import (
    Scalar,
    Scored,
    ScoreOptions,
    ScorerCallError,
    ScorerClient,
    UnavailableError,
)
from tests.flow import shop
from tests.integration.commands import wait_for
from tests.integration.conftest import NewShop
from tests.services.redis import RedisServer
from tests.services.server import free_ports

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 1.0
# Between the scorer's answer and ours, on a machine with much else to do.
SLACK_SECONDS = 0.5
BACK_SECONDS_MAX = 10.0
ROWS: list[dict[str, Scalar]] = [{"user": f"u{n}", "shop": n % 3, "amount": 5.0} for n in range(9)]


def _answer(client: ScorerClient, at_us: int) -> Scored:
    options = ScoreOptions(event_time_us=at_us, include_features=True)
    return client.score("late_order", ROWS, options)


def test_the_scorer_outlives_redis(
    new_shop: NewShop, records: list[shop.Record], new_redis_server: Callable[..., RedisServer]
) -> None:
    """Without Redis it answers UNAVAILABLE in time; with it again the same scores as before."""
    redis = new_redis_server("--appendfsync", "always")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    made = new_shop(redis=redis, scorer_address=address)
    made.produce(records)
    made.run_to_end()
    at_us = max(record.at_us for record in records)
    server = made.start("serve")
    wait_for("the scorer", lambda: f"serving on {address}" in server.output, server)
    with ScorerClient(address, DEADLINE_SECONDS) as client:

        def is_back() -> bool:
            try:
                return _answer(client, at_us) == before
            except ScorerCallError:
                return False

        before = _answer(client, at_us)
        assert any(not missing for missing in before.missing)
        for end in (redis.kill, redis.pause):
            end()
            for _ in range(5):
                began = time.monotonic()
                with pytest.raises(UnavailableError) as failed:
                    _answer(client, at_us)
                assert time.monotonic() - began < DEADLINE_SECONDS + SLACK_SECONDS
                assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            if redis.is_running:
                redis.resume()
            else:
                redis.start()
            wait_for("scores", is_back, server, BACK_SECONDS_MAX)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0, server.output
