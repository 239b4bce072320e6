"""A read that a replay's last step falls into: all of it is old, or all of it is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from itertools import cycle
from pathlib import Path

import hiredis
import pytest
import redis

from contracts.feast_bytes import entity_key
from contracts.feast_redis import redis_key, redis_timestamp_field
from contracts.online_store import SqliteConfig
from dataflows.stores.refill import replace_values
from scorer.errors import StoreUnavailableError
from scorer.online_store import Wanted
from scorer.online_store import wanted as want
from scorer.redis_reader import RedisReader
from scorer.sqlite_reader import SqliteReader
from tests.scorer.found import read_found
from tests.scorer.redis_rows import config_of, reading
from tests.scorer.torn import Tearing, tearing
from tests.services.redis import KEEP_NOTHING, RedisServer
from tests.stores.refill_world import PROJECT, VIEWS, gather, to_file

RIDES = VIEWS[0]
CARDS = [f"card{number}" for number in range(8)]
KEYS = [entity_key(RIDES.join_keys, ("string",), [card]) for card in CARDS]
WANTED = [want(RIDES.name, ("f0",), key) for key in KEYS]
NewRedis = Callable[..., RedisServer]
Values = set[float | None]
# Enough for a command of any kind that a packet may begin with.
FIRST_COMMAND_BYTES = 160


class Generations:
    """Puts one generation after the other in place, as a replay does.

    Attributes:
        last: the value that every feature of every card has now.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._numbers = iter(range(1, 1_000))
        self.last = 0

    def swap(self, mark: str | None = None) -> None:
        """The next one; with no mark the store keeps that which it has."""
        self.last = next(self._numbers)
        # A row with a null would have no value to compare.
        rows = {RIDES.name: dict.fromkeys(CARDS, 5 * self.last + 1)}
        file = gather(self._folder / f"{self.last}.db", rows)
        replace_values(file, PROJECT, [RIDES], config_of(self._port), mark)

    async def marked(self) -> None:
        """``swap`` to a mark of its own."""
        await asyncio.to_thread(self.swap, f"generation {self.last + 1}")

    async def unmarked(self) -> None:
        """``swap`` under the mark that is there."""
        await asyncio.to_thread(self.swap, None)


@pytest.fixture
def server(new_redis_server: NewRedis) -> RedisServer:
    """A server that forgets."""
    return new_redis_server(*KEEP_NOTHING)


@pytest.fixture
def generations(server: RedisServer, tmp_path: Path) -> Generations:
    """The first one is in place."""
    made = Generations(tmp_path, server.port)
    made.swap("generation 1")
    return made


@asynccontextmanager
async def torn_reader(
    server: RedisServer, **options: object
) -> AsyncIterator[tuple[Tearing, RedisReader]]:
    """A reader whose packets can be torn, and has read."""
    async with (
        tearing(server.port) as proxy,
        reading(config_of(proxy.port, **options), PROJECT, answer_seconds=20.0) as reader,
    ):
        await values_of(reader)
        yield proxy, reader


async def values_of(
    reader: RedisReader | SqliteReader, wanted: Sequence[Wanted] = WANTED
) -> Values:
    """The values that one read has found."""
    return {value for one in await read_found(reader, wanted) for value in one.values}


def plain_packet() -> bytes:
    """The commands that read all cards, and nothing around them."""
    field = redis_timestamp_field(RIDES.name)
    end = b"$%d\r\n%b\r\n" % (len(field), field)
    keys = [redis_key(PROJECT, key) for key in KEYS]
    return b"".join(b"*3\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n%b" % (len(key), key, end) for key in keys)


@pytest.mark.services
def test_a_plain_packet_that_is_torn_mixes(server: RedisServer, generations: Generations) -> None:
    """Redis answers each piece when it comes: what the tests below tear is really torn."""

    async def story() -> None:
        packet = plain_packet()
        async with tearing(server.port) as proxy:
            answers, requests = await asyncio.open_connection("127.0.0.1", proxy.port)
            proxy.tear(len(packet) // 2, generations.marked)
            requests.write(packet)
            replies, found = hiredis.Reader(), set()
            for _ in KEYS:
                while (reply := replies.gets()) is False:
                    replies.feed(await answers.read(1_000))
                found.add(reply[0])
            requests.close()
        assert proxy.torn == 1
        assert len(found) == 2

    asyncio.run(story())


@pytest.mark.services
@pytest.mark.parametrize(
    ("step_hashes_max", "options"),
    [(256, {}), (1, {}), (1, {"username": "reader", "password": "any"})],
    ids=["in one step", "watched", "that may not be watched"],
)
def test_a_torn_read_is_of_one_generation(
    server: RedisServer,
    generations: Generations,
    monkeypatch: pytest.MonkeyPatch,
    step_hashes_max: int,
    options: dict[str, object],
) -> None:
    """Wherever a packet is torn, and whether the mark is another afterwards or the same again."""
    monkeypatch.setattr("scorer.redis_hashes.STEP_HASHES_MAX", step_hashes_max)
    with closing(redis.Redis(port=server.port)) as client:
        allow(client, "reader", "+hmget", "+multi", "+exec")

    async def story() -> None:
        length = len(plain_packet())
        async with torn_reader(server, **options) as (proxy, reader):
            swaps = cycle((generations.marked, generations.unmarked))
            places = range(FIRST_COMMAND_BYTES, length, (length - FIRST_COMMAND_BYTES) // 15)
            for at, swap in zip(places, swaps, strict=False):
                before = generations.last
                proxy.tear(at, swap)
                found = await values_of(reader)
                assert generations.last == before + 1
                assert found in ({5.0 * before + 1}, {5.0 * generations.last + 1})
                # What comes after it has the new values, of its own answers.
                assert await values_of(reader) == {5.0 * generations.last + 1}
            assert proxy.torn >= 15

    asyncio.run(story())


@pytest.mark.services
def test_a_large_read_among_endless_replays_is_answered(
    server: RedisServer, generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read whose mark was touched is done again once, in one step, and so comes to an end."""
    monkeypatch.setattr("scorer.redis_hashes.STEP_HASHES_MAX", 1)

    async def story() -> None:
        async with torn_reader(server) as (proxy, reader):
            with closing(redis.Redis(port=server.port)) as client:
                for _ in range(5):
                    calls = calls_of(client, "exec")

                    async def twice() -> None:
                        # The second read, too, has a swap in it.
                        await generations.marked()
                        proxy.tear(2 * FIRST_COMMAND_BYTES, generations.marked)

                    proxy.tear(2 * FIRST_COMMAND_BYTES, twice)
                    assert len(await values_of(reader)) == 1
                    assert calls_of(client, "exec") == calls + 2
            assert proxy.torn == 10

    asyncio.run(story())


def allow(client: redis.Redis, user: str, *commands: str) -> None:
    """Let a user, with any password, do this."""
    client.acl_setuser(user, enabled=True, nopass=True, keys="*", commands=[*commands, "+ping"])


def calls_of(client: redis.Redis, command: str) -> int:
    """How often the server was given a command."""
    return int(client.info("commandstats")[f"cmdstat_{command}"]["calls"])


@pytest.mark.services
def test_one_hash_is_read_without_more_ado(server: RedisServer, generations: Generations) -> None:
    """A read of one entity is one command; one of several has two more."""

    async def story() -> None:
        with closing(redis.Redis(port=server.port)) as client:
            async with reading(config_of(server.port), PROJECT) as reader:
                both = [*WANTED[:1], want(RIDES.name, ("f1",), KEYS[0])]
                assert await values_of(reader, both) == {6.0}
                assert "cmdstat_multi" not in client.info("commandstats")
                assert await values_of(reader) == {6.0}
                assert calls_of(client, "multi") == calls_of(client, "exec") == 1
                assert calls_of(client, "hmget") == 1 + len(KEYS)

    asyncio.run(story())


@pytest.mark.services
@pytest.mark.parametrize("step_hashes_max", [256, 1], ids=["in one step", "watched"])
def test_what_a_user_may_not_is_told(
    server: RedisServer,
    generations: Generations,
    monkeypatch: pytest.MonkeyPatch,
    step_hashes_max: int,
) -> None:
    """Without MULTI only single entities are read; without WATCH nothing is missing."""
    monkeypatch.setattr("scorer.redis_hashes.STEP_HASHES_MAX", step_hashes_max)
    with closing(redis.Redis(port=server.port)) as client:
        allow(client, "old", "+hmget")
        allow(client, "reader", "+hmget", "+multi", "+exec")
        allow(client, "writer", "+hset", "+multi", "+exec")

    async def story() -> None:
        for user, problem, alone in (
            ("old", "HMGET, MULTI and EXEC", {6.0}),
            ("reader", "", {6.0}),
            ("writer", "HMGET, MULTI and EXEC", None),
        ):
            config = config_of(server.port, username=user, password="any")
            async with reading(config, PROJECT) as reader:
                for _ in range(2):
                    if problem:
                        with pytest.raises(StoreUnavailableError, match=problem):
                            await values_of(reader)
                    else:
                        assert await values_of(reader) == {6.0}
                    if alone:
                        assert await values_of(reader, WANTED[:1]) == alone

    asyncio.run(story())


class Interrupted(Sequence[Wanted]):
    """What is wanted, with something done before the last of it is looked at."""

    def __init__(self, wanted: Sequence[Wanted], between: Callable[[], None]) -> None:
        self._wanted = wanted
        self._between = between

    def __len__(self) -> int:
        return len(self._wanted)

    def __getitem__(self, index: int) -> Wanted:  # type: ignore[override]
        return self._wanted[index]

    def __iter__(self) -> Iterator[Wanted]:
        yield from self._wanted[:-1]
        self._between()
        yield self._wanted[-1]


@pytest.mark.parametrize("has_read", [True, False])
@pytest.mark.parametrize("first", [RIDES.name, "tips"])
def test_a_read_of_a_file_is_of_one_generation(tmp_path: Path, first: str, has_read: bool) -> None:
    """A refill between two statements of a read is seen by the next read only, of any view."""
    live = to_file(tmp_path / "live.db", {RIDES.name: dict.fromkeys(CARDS, 1)})
    rows = dict.fromkeys(CARDS, 2)
    fresh = gather(tmp_path / "fresh.db", {RIDES.name: rows, "tips": rows})
    wanted = [want(first, (), KEYS[0]), want(RIDES.name, (), KEYS[1])]

    async def story() -> None:
        reader = SqliteReader(live, PROJECT)

        async def times(asked: Sequence[Wanted]) -> list[int | None]:
            return [cells.event_time_us for cells in await reader.read_cells(asked)]

        def swap() -> None:
            replace_values(fresh, PROJECT, VIEWS[:2], SqliteConfig(live), "new")

        old, new = 10**15 + 1_000_001, 10**15 + 2_000_002
        if has_read:
            await times(wanted)
        before = [old if first == RIDES.name else None, old]
        assert await times(Interrupted(wanted, swap)) == before
        assert await times(wanted) == [new, new]
        await reader.close()

    asyncio.run(story())
