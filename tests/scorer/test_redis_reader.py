"""The Redis reader on a Redis of the test's own: values, failures, and whose answer is whose."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis

from contracts.feast_bytes import encode_value, entity_key
from contracts.feast_redis import redis_field, redis_key, redis_timestamp_field
from contracts.online_store import RedisConfig
from scorer.errors import StoreUnavailableError
from scorer.online_store import Wanted
from scorer.online_store import wanted as want
from scorer.redis_reader import RedisReader
from tests.scorer.found import Found, read_found
from tests.scorer.redis_rows import (
    NOON_US,
    Rows,
    config_of,
    read_once,
    reading,
    until_back,
)
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services
PROJECT = "shop"
NewRedis = Callable[..., RedisServer]


@pytest.fixture
def server(new_redis_server: NewRedis) -> RedisServer:
    """A server that the test may stop."""
    return new_redis_server()


@pytest.fixture
def rows(server: RedisServer) -> Iterator[Rows]:
    """Writes into that server."""
    with closing(redis.Redis(port=server.port)) as client:
        yield Rows(client, PROJECT)


def key(number: int) -> bytes:
    """The entity key of a card."""
    return entity_key(("card",), ("int64",), (number,))


def read(config: RedisConfig, *wanted: Wanted) -> list[Found]:
    """One read by a reader of its own."""
    return read_once(config, PROJECT, *wanted)


def test_rows_of_several_views_and_entities(server: RedisServer, rows: Rows) -> None:
    """Each wanted row comes in its place, whatever shares its hash; what is not there is None."""
    spent = rows.write("card_1h", key(1), {"spent": 10.25, "visits": -0.0})
    late = rows.write("card_1d", key(1), {"spent": None, "late": 3.5}, at_us=NOON_US + 1)
    other = rows.write("card_1h", key(2), {"spent": 7.0})
    rows.put(key(3), redis_field("card_1h", "spent"), encode_value("float64", 9.0))
    found = read(
        config_of(server.port),
        late,
        other,
        want("card_1h", ("visits", "unheard"), key(1)),
        spent,
        want("card_1h", ("spent",), key(3)),
        want("card_7d", ("spent", "late"), key(1)),
        want("card_1h", (), key(2)),
    )
    assert found == [
        Found(NOON_US + 1, [None, 3.5]),
        Found(NOON_US, [7.0]),
        Found(NOON_US, [-0.0, None]),
        Found(NOON_US, [10.25, -0.0]),
        Found(None, [None]),
        Found(None, [None, None]),
        Found(NOON_US, []),
    ]
    assert read(config_of(server.port)) == []


def test_a_read_is_one_round_trip(server: RedisServer, rows: Rows) -> None:
    """Many rows of many entities are one message; the rows of one entity are one command."""
    wanted = [
        rows.write(view, key(number), {"a": 1.0, "b": 2.0})
        for view in ("card_1h", "card_1d", "card_7d")
        for number in range(5)
    ]

    def counts() -> tuple[int, int]:
        commands = rows.client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]
        return rows.client.info("stats")["total_reads_processed"], commands

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT) as reader:
            await read_found(reader, wanted[:1])
            messages, commands = counts()
            await read_found(reader, wanted)
            later_messages, later_commands = counts()
            assert later_commands - commands == 5
            # Two of the messages ask for these counts.
            assert later_messages - messages == 1 + 2

    asyncio.run(story())


def test_numbers_of_every_type(server: RedisServer, rows: Rows) -> None:
    """Integers, booleans and 32 bit floats come as doubles; NaN and nulls as None."""
    stored = {
        "int": encode_value("int64", -(2**40)),
        "one": encode_value("int64", 127),
        "two": encode_value("int64", 16_383),
        "three": encode_value("int64", 16_384),
        "int32": b"\x18\x05",
        "true": encode_value("bool", True),
        "false": encode_value("bool", False),
        "float": b"\x35\x00\x00\x20\x40",
        "nan": b"\x29\x00\x00\x00\x00\x00\x00\xf8\x7f",
        "infinite": encode_value("float64", float("-inf")),
        "null": b"",
        "null_too": b"\x98\x01\x00",
    }
    rows.write("v", key(1), {})
    for name, data in stored.items():
        rows.put(key(1), redis_field("v", name), data)
    (found,) = read(config_of(server.port), want("v", tuple(stored), key(1)))
    numbers = [-(2.0**40), 127.0, 16_383.0, 16_384.0, 5.0, 1.0, 0.0, 2.5]
    assert found.values == [*numbers, None, float("-inf"), None, None]
    assert all(type(value) is float for value in found.values if value is not None)


def test_what_cannot_be_read_is_named(server: RedisServer, rows: Rows) -> None:
    """Text, broken values, broken times and keys of another kind are errors of that read alone."""
    good = rows.write("card", key(0), {"spent": 1.0})
    rows.write("card", key(1), {"spent": 1.0})
    rows.put(key(1), redis_field("card", "spent"), encode_value("string", "much"))
    rows.write("card", key(2), {"spent": 1.0})
    rows.put(key(2), redis_field("card", "spent"), b"\x29short")
    rows.write("card", key(3), {"spent": 1.0})
    rows.put(key(3), redis_timestamp_field("card"), b"\x08")
    rows.client.set(redis_key(PROJECT, key(4)), "no hash")
    problems = [
        "card:spent holds text",
        "card:spent cannot be read",
        "time of view card cannot be read",
        "WRONGTYPE",
    ]

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT) as reader:
            for number, problem in enumerate(problems, start=1):
                bad = want("card", ("spent",), key(number))
                with pytest.raises(StoreUnavailableError, match=problem):
                    await read_found(reader, [good, bad, good])
                assert await read_found(reader, [good]) == [Found(NOON_US, [1.0])]

    asyncio.run(story())


def test_nobody_gets_the_answer_to_another(server: RedisServer, rows: Rows) -> None:
    """Under many reads at once, some given up at any moment, each gets what was written for it."""
    views = {"a": 3, "b": 1, "c": 6}
    expected: dict[Wanted, Found] = {}
    for number in range(20):
        for view, width in views.items():
            values = {f"f{i}": number * 100.0 + width * 10 + i for i in range(width)}
            if (number + width) % 4:
                wanted = rows.write(view, key(number), values, at_us=NOON_US + number)
                expected[wanted] = Found(NOON_US + number, list(values.values()))
            else:
                wanted = want(view, tuple(values), key(number))
                expected[wanted] = Found(None, [None] * width)
    everything = list(expected)
    outcomes = {"read": 0, "given up": 0}

    async def caller(reader: RedisReader, dice: random.Random) -> None:
        for _ in range(60):
            wanted = dice.choices(everything, k=dice.randint(1, 12))
            patience = dice.choice([0.0, 0.0002, 0.001, 0.003, 30.0])
            try:
                found = await asyncio.wait_for(read_found(reader, wanted), patience)
            except TimeoutError:
                outcomes["given up"] += 1
                continue
            assert found == [expected[one] for one in wanted]
            outcomes["read"] += 1

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT, answer_seconds=60.0) as reader:
            await asyncio.gather(*(caller(reader, random.Random(seed)) for seed in range(24)))

    asyncio.run(story())
    assert min(outcomes.values()) > 20, outcomes


def test_a_stopped_server_is_told_at_once_and_found_again(server: RedisServer, rows: Rows) -> None:
    """Without a server reads fail at once and say where it should be; with it they go on."""
    wanted = rows.write("card", key(1), {"spent": 1.0})

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT) as reader:
            assert (await read_found(reader, [wanted]))[0].values == [1.0]
            for stop in (server.stop, server.kill):
                await asyncio.to_thread(stop)
                started = time.monotonic()
                for _ in range(200):
                    with pytest.raises(StoreUnavailableError, match=server.address):
                        await read_found(reader, [wanted])
                assert time.monotonic() - started < 2.0
                await asyncio.to_thread(server.start)
                assert (await until_back(reader, [wanted]))[0].values == [1.0]

    asyncio.run(story())


def test_reads_under_way_end_when_the_server_is_killed(server: RedisServer, rows: Rows) -> None:
    """A server that dies while it owes answers ends the reads that wait for them."""
    wanted = rows.write("card", key(1), {"spent": 1.0})

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT, answer_seconds=60.0) as reader:
            await read_found(reader, [wanted])
            server.pause()
            reads = [asyncio.create_task(read_found(reader, [wanted])) for _ in range(50)]
            await asyncio.sleep(0)
            await asyncio.to_thread(server.kill)
            async with asyncio.timeout(10):
                answers = await asyncio.gather(*reads, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailableError}

    asyncio.run(story())


def test_a_hanging_server_is_given_up_and_found_again(server: RedisServer, rows: Rows) -> None:
    """A server that accepts but never answers costs a bounded time; what it says late is lost."""
    wanted = [rows.write("card", key(number), {"spent": float(number)}) for number in range(4)]

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT, answer_seconds=0.2) as reader:
            await read_found(reader, wanted)
            server.pause()
            end = time.monotonic() + 1.0
            while (started := time.monotonic()) < end:
                with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.2"):
                    await read_found(reader, wanted[:1])
                assert time.monotonic() - started < 2.0
                await asyncio.sleep(0.01)
            server.resume()
            for number in (3, 2, 1, 0):
                found = await until_back(reader, [wanted[number]])
                assert found[0].values == [float(number)]

    asyncio.run(story())


def test_late_answers_go_to_nobody(server: RedisServer, rows: Rows) -> None:
    """Reads given up while a server hangs do not shift the answers to those that come after."""
    wanted = [rows.write("card", key(number), {"spent": float(number)}) for number in range(4)]

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT, answer_seconds=60.0) as reader:
            await read_found(reader, wanted)
            server.pause()
            given_up = [asyncio.create_task(read_found(reader, wanted[: n + 1])) for n in range(4)]
            await asyncio.sleep(0)
            for one in given_up:
                one.cancel()
            later = [asyncio.create_task(read_found(reader, [one])) for one in wanted]
            await asyncio.sleep(0)
            server.resume()
            answers = await asyncio.gather(*later)
            assert [answer[0].values for answer in answers] == [[0.0], [1.0], [2.0], [3.0]]
            assert all(one.cancelled() for one in given_up)

    asyncio.run(story())


def test_what_waits_for_a_server_is_bounded(
    server: RedisServer, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More reads than the bound are refused while a server hangs; the others are answered."""
    monkeypatch.setattr("scorer.redis_wire.REQUESTS_MAX", 3)
    wanted = rows.write("card", key(1), {"spent": 1.0})

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT, answer_seconds=60.0) as reader:
            await read_found(reader, [wanted])
            server.pause()
            reads = [asyncio.create_task(read_found(reader, [wanted])) for _ in range(5)]
            await asyncio.sleep(0)
            server.resume()
            answers = await asyncio.gather(*reads, return_exceptions=True)
            refused = [one for one in answers if isinstance(one, StoreUnavailableError)]
            assert len(refused) == 2
            assert "3 reads to answer already" in str(refused[0])

    asyncio.run(story())


def test_a_closed_reader_says_so(server: RedisServer, rows: Rows) -> None:
    """After close a read is an error, with or without a read before; so are reads under way."""
    wanted = rows.write("card", key(1), {"spent": 1.0})

    async def story() -> None:
        for has_read in (False, True):
            async with reading(config_of(server.port), PROJECT, answer_seconds=60.0) as reader:
                if has_read:
                    await read_found(reader, [wanted])
                    server.pause()
                    under_way = asyncio.create_task(read_found(reader, [wanted]))
                    await asyncio.sleep(0)
                await reader.close()
                with pytest.raises(StoreUnavailableError, match="reader is closed"):
                    await read_found(reader, [wanted])
        with pytest.raises(StoreUnavailableError, match="reader is closed"):
            await under_way
        server.resume()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "refused the login"),
        ({"password": "Guessed-Wrong"}, "refused the login"),
        ({"username": "scorer", "password": "Guessed-Wrong"}, "refused the login"),
        ({"username": "writer", "password": "Secret-2"}, "does not let this user read"),
        ({"password": "Secret-1", "db": 99}, "out of range"),
    ],
)
def test_a_refused_login_says_what_to_check(
    new_redis_server: NewRedis, options: dict[str, object], problem: str
) -> None:
    """A wrong password, user, right or database is an error with what to do and no secret."""
    server = new_redis_server("--requirepass", "Secret-1")
    with closing(redis.Redis(port=server.port, password="Secret-1")) as client:
        for user, password, right in (
            ("writer", "Secret-2", "+hset"),
            ("scorer", "Secret-3", "+hmget"),
        ):
            commands = [right, "+ping", "+client|setname", "+select"]
            client.acl_setuser(
                user, enabled=True, passwords=f"+{password}", keys="*", commands=commands
            )
        wanted = Rows(client, PROJECT).write("card", key(1), {"spent": 1.0})
        client.select(3)
        Rows(client, PROJECT).write("card", key(1), {"spent": 3.0})
    with pytest.raises(StoreUnavailableError, match=problem) as caught:
        read(config_of(server.port, **options), wanted)
    assert "Secret" not in str(caught.value)
    assert "Guessed" not in str(caught.value)
    found = read(config_of(server.port, password="Secret-1", db=3, client_name="test"), wanted)
    assert found[0].values == [3.0]
    scorer = config_of(server.port, username="scorer", password="Secret-3")
    assert read(scorer, wanted)[0].values == [1.0]


def test_a_connection_lost_after_long_use_is_made_anew_at_once(
    server: RedisServer, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed connection costs at most the reads that were sent on it; later ones wait."""
    monkeypatch.setattr("scorer.redis_connection._LIVED_SECONDS", 0.0)
    wanted = rows.write("card", key(1), {"spent": 1.0})

    async def story() -> None:
        async with reading(config_of(server.port), PROJECT) as reader:
            await read_found(reader, [wanted])
            for _ in range(5):
                before = rows.client.info("stats")["total_connections_received"]
                rows.client.client_kill_filter(_type="normal", skipme=True)
                with pytest.raises(StoreUnavailableError, match=r"was lost|closed by the server"):
                    await read_found(reader, [wanted])
                assert (await read_found(reader, [wanted]))[0].values == [1.0]
                assert rows.client.info("stats")["total_connections_received"] == before + 1

    asyncio.run(story())
