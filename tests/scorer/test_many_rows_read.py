"""Reads of many rows from a real Redis: values are those of small reads, whatever way is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis

from contracts.feast_bytes import encode_value, entity_key
from contracts.feast_redis import redis_field
from scorer.framed_rows import FramedDoubles
from scorer.online_store import wanted as want
from tests.scorer.found import Found, read_found
from tests.scorer.redis_rows import NOON_US, Rows, config_of, reading
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services
PROJECT = "shop"
VIEWS = {"card_1h": ("a", "b", "c"), "card_1d": ("d",)}


@pytest.fixture
def server(new_redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A server of the test's own."""
    return new_redis_server()


@pytest.fixture
def rows(server: RedisServer) -> Iterator[Rows]:
    """Writes into that server."""
    with closing(redis.Redis(port=server.port)) as client:
        yield Rows(client, PROJECT)


def key(number: int) -> bytes:
    """The entity key of a card."""
    return entity_key(("card",), ("int64",), (number,))


@pytest.mark.parametrize("count", [20, 300])
def test_many_rows_are_read_as_few_are(server: RedisServer, rows: Rows, count: int) -> None:
    """Rows of doubles of two widths, rows that are not there, then one number of another type."""
    wanted, expected = [], []
    for number in range(count):
        view = ("card_1h", "card_1d")[number % 2]
        values = {name: number + place / 8 for place, name in enumerate(VIEWS[view])}
        if number % 7 == 3:
            wanted.append(want(view, VIEWS[view], key(number)))
            expected.append(Found(None, [None] * len(values)))
            continue
        # Event times of several lengths.
        at_us = NOON_US + (number % 3) * 876_544
        wanted.append(rows.write(view, key(number), values, at_us))
        expected.append(Found(at_us, list(values.values())))

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT) as reader:
            cells = await reader.read_cells(wanted)
            is_framed = [isinstance(one.values, FramedDoubles) for one in cells]
            assert is_framed == [one.event_time_us is not None for one in expected]
            # Reads that share the connection do not get each other's.
            several = await asyncio.gather(
                *(read_found(reader, wanted[start:]) for start in range(0, count, count // 4))
            )
            assert several == [expected[start:] for start in range(0, count, count // 4)]
            rows.put(key(0), redis_field("card_1h", "b"), encode_value("int64", 5))
            expected[0].values[1] = 5.0
            for _ in range(2):
                assert await read_found(reader, wanted) == expected

    asyncio.run(story())
