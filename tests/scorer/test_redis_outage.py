"""A whole scorer on Redis, under load, while Redis goes and comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import grpc
import pytest
import redis

from scorer.client import AsyncScorerClient, ScoreOptions
from tests.scorer.redis_rows import Rows
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    VECTOR,
    Shop,
    bias_of,
    feast_key,
    linear_score,
)
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services
CALLERS = 8
CARDS = 6
DEADLINE_SECONDS = 1.0


@pytest.fixture
def server(new_redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A server that the test may stop."""
    return new_redis_server()


@pytest.fixture
def redis_shop(scorer_shop: Shop, server: RedisServer) -> Shop:
    """The shop with its online store in Redis; each card has spent a sum of its own."""
    (scorer_shop.folder / "feature_store.yaml").write_text(
        "project: shop\nprovider: local\nregistry: data/registry.db\n"
        f"online_store:\n  type: redis\n  connection_string: {server.address}\n"
    )
    with closing(redis.Redis(port=server.port)) as client:
        rows = Rows(client, "shop")
        for card in range(CARDS):
            rows.write("card_1h", feast_key({"card": card}), {"spent": card * 10.0, "visits": 4.0})
        rows.write("route_1h", feast_key({"origin": "JFK", "dest": "LAX"}), {"delay": 7.5}, NOON_US)
    return scorer_shop


class Load:
    """Callers that ask on and on, each for a card of its own; counts how their calls end."""

    def __init__(self, client: AsyncScorerClient) -> None:
        self._client = client
        self._ended: Counter[grpc.StatusCode] = Counter()
        self.seconds_max = 0.0
        self.texts: set[str] = set()

    async def ask_on(self, caller: int) -> None:
        """Ask until cancelled; a score must be that of the caller's card."""
        card = caller % CARDS
        vector = [*VECTOR[:3], card * 10.0, *VECTOR[4:]]
        expected = linear_score(vector, bias_of("1"))
        options = ScoreOptions(event_time_us=NOON_US)
        while True:
            started = time.monotonic()
            try:
                answer = await self._client.score(MODEL, [{**ROW, "card": card}], options)
                assert answer.scores[0] == pytest.approx(expected, abs=1e-15)
                self._ended[grpc.StatusCode.OK] += 1
            except grpc.aio.AioRpcError as error:
                self.texts.add(str(error.details()))
                self._ended[error.code()] += 1
            self.seconds_max = max(self.seconds_max, time.monotonic() - started)

    async def wait_for(self, code: grpc.StatusCode, calls: int) -> Counter[grpc.StatusCode]:
        """Until so many more calls end so; gives how all calls since then have ended."""
        before = self._ended.copy()
        end = time.monotonic() + 30
        while self._ended[code] < before[code] + calls:
            assert time.monotonic() < end, self._ended - before
            await asyncio.sleep(0.005)
        return self._ended - before


@asynccontextmanager
async def load_on(shop: Shop) -> AsyncIterator[Load]:
    """A scorer with callers."""
    async with shop.client(default_deadline_seconds=DEADLINE_SECONDS) as client:
        load = Load(client)
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(load.ask_on(number)) for number in range(CALLERS)]
            try:
                yield load
            finally:
                for one in callers:
                    one.cancel()


def outage(
    shop: Shop, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
) -> None:
    """Scores before, UNAVAILABLE during and scores after an outage, always within the deadline."""

    async def story() -> None:
        async with load_on(shop) as load:
            only_scores = await load.wait_for(grpc.StatusCode.OK, 50)
            assert set(only_scores) == {grpc.StatusCode.OK}
            for _ in range(2):
                await begin()
                ended = await load.wait_for(grpc.StatusCode.UNAVAILABLE, 100)
                assert set(ended) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK}
                later = await load.wait_for(grpc.StatusCode.UNAVAILABLE, 100)
                assert set(later) == {grpc.StatusCode.UNAVAILABLE}
                await end()
                await load.wait_for(grpc.StatusCode.OK, 3 * CALLERS)
                after = await load.wait_for(grpc.StatusCode.OK, 100)
                assert set(after) == {grpc.StatusCode.OK}
        assert load.seconds_max < DEADLINE_SECONDS
        assert all("Redis at 127.0.0.1" in text for text in load.texts), load.texts

    asyncio.run(story())


def test_redis_stopped_under_load(redis_shop: Shop, server: RedisServer) -> None:
    """With Redis stopped every call ends UNAVAILABLE in time; with it back, in a score again."""
    outage(
        redis_shop,
        lambda: asyncio.to_thread(server.stop),
        lambda: asyncio.to_thread(server.start),
    )


def test_redis_hanging_under_load(redis_shop: Shop, server: RedisServer) -> None:
    """A Redis that accepts but does not answer is the same, and its late answers go to nobody."""
    outage(
        redis_shop,
        lambda: asyncio.to_thread(server.pause),
        lambda: asyncio.to_thread(server.resume),
    )


def test_a_scorer_starts_without_redis(redis_shop: Shop, server: RedisServer) -> None:
    """A scorer that starts before Redis does says UNAVAILABLE, and scores once Redis is there."""
    server.stop()

    async def story() -> None:
        async with load_on(redis_shop) as load:
            ended = await load.wait_for(grpc.StatusCode.UNAVAILABLE, 50)
            assert set(ended) == {grpc.StatusCode.UNAVAILABLE}
            await asyncio.to_thread(server.start)
            await load.wait_for(grpc.StatusCode.OK, 50)

    asyncio.run(story())
