"""The Redis reader on servers of other kinds: with TLS, clusters, and some that are no Redis."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from contracts.feast_bytes import entity_key
from contracts.online_store import RedisConfig, parse_online_store
from scorer.errors import ConfigurationError, StoreUnavailableError
from scorer.online_store import wanted as want
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
from tests.services.server import free_ports

PROJECT = "shop"
SLOTS = 16_384
NewRedis = Callable[..., RedisServer]
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def key(number: int) -> bytes:
    """The entity key of a card."""
    return entity_key(("card",), ("int64",), (number,))


@pytest.fixture
def certificate(tmp_path: Path, without_service: Callable[[str], NoReturn]) -> tuple[Path, Path]:
    """A certificate of localhost that nobody else has signed, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        without_service("openssl, which makes certificates,")
    files = tmp_path / "redis.crt", tmp_path / "redis.key"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.services
def test_tls_is_spoken_and_certificates_are_checked(
    new_redis_server: NewRedis, certificate: tuple[Path, Path]
) -> None:
    """With ssl=true the server's certificate and name count, unless the options say otherwise."""
    (port,), (chain, private) = free_ports(1), certificate
    server = new_redis_server(
        *("--tls-port", str(port), "--tls-auth-clients", "optional"),
        *("--tls-cert-file", str(chain), "--tls-key-file", str(private)),
        *("--tls-ca-cert-file", str(chain)),
    )
    with closing(redis.Redis(port=server.port)) as client:
        wanted = Rows(client, PROJECT).write("card", key(1), {"spent": 1.0})

    def config(text: str) -> RedisConfig:
        parsed = parse_online_store({"type": "redis", "connection_string": text}, Path())
        assert isinstance(parsed, RedisConfig)
        return parsed

    trusted = f"ssl=true,ssl_ca_certs={chain}"
    for good in (
        f"localhost:{port},{trusted}",
        f"localhost:{port},{trusted},ssl_certfile={chain},ssl_keyfile={private}",
        f"127.0.0.1:{port},{trusted},ssl_check_hostname=false",
        f"127.0.0.1:{port},ssl=true,ssl_cert_reqs=none",
    ):
        assert read_once(config(good), PROJECT, wanted) == [Found(NOON_US, [1.0])]
    for bad, problem in (
        (f"localhost:{port},ssl=true", "certificate verify failed"),
        (f"127.0.0.1:{port},{trusted}", "certificate verify failed"),
        (f"localhost:{server.port},{trusted},socket_connect_timeout=0.3", "Redis at localhost"),
        (f"localhost:{port}", "Redis at localhost"),
    ):
        with pytest.raises(StoreUnavailableError, match=problem):
            read_once(config(bad), PROJECT, wanted)
    with pytest.raises(ConfigurationError, match="certificates"):
        read_once(
            config(f"localhost:{port},ssl=true,ssl_ca_certs=/nowhere/ca.crt"), PROJECT, wanted
        )


@pytest.mark.services
def test_a_cluster_is_read_across_its_nodes(new_redis_server: NewRedis) -> None:
    """Rows on any node of a cluster are read; without its nodes reads fail, and then go on."""
    # The usual port of its bus, 10000 higher, may be anybody's.
    buses = free_ports(2)
    servers = [
        new_redis_server("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses
    ]
    nodes = [redis.Redis(port=server.port) for server in servers]
    for node, slots in zip(nodes, (range(SLOTS // 2), range(SLOTS // 2, SLOTS)), strict=True):
        node.execute_command("CLUSTER ADDSLOTSRANGE", slots[0], slots[-1])  # type: ignore[no-untyped-call]
    nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", servers[1].port, buses[1])  # type: ignore[no-untyped-call]
    end = time.monotonic() + 30
    while not all(b"cluster_state:ok" in _cluster_info(node) for node in nodes):
        assert time.monotonic() < end
        time.sleep(0.02)
    address = (("127.0.0.1", servers[0].port),)
    config = RedisConfig(address, is_cluster=True)
    with closing(redis.RedisCluster(host="127.0.0.1", port=servers[0].port)) as client:
        rows = Rows(client, PROJECT)
        wanted = [rows.write("card", key(n), {"spent": float(n)}) for n in range(30)]
        rows.write("card_1d", key(1), {"late": 0.5})
    assert all(node.dbsize() for node in nodes)
    for node in nodes:
        node.close()
    wanted += [want("card_1d", ("late",), key(1)), want("card", ("spent",), key(99))]
    expected = [Found(NOON_US, [float(n)]) for n in range(30)]
    expected += [Found(NOON_US, [0.5]), Found(None, [None])]

    async def story() -> None:
        async with reading(config, PROJECT, answer_seconds=1.0) as reader:
            assert await read_found(reader, wanted) == expected
            with suppress(TimeoutError):
                await asyncio.wait_for(read_found(reader, wanted), 0.0005)
            assert await read_found(reader, wanted) == expected
            for server in servers:
                await asyncio.to_thread(server.kill)
            with pytest.raises(StoreUnavailableError, match="Redis cluster at"):
                await read_found(reader, wanted)
            for server in servers:
                await asyncio.to_thread(server.start)
            await until_back(reader, wanted)
            assert await read_found(reader, wanted) == expected
        with pytest.raises(StoreUnavailableError, match="closed"):
            await read_found(reader, wanted)

    asyncio.run(story())


def _cluster_info(node: redis.Redis) -> bytes:
    # redis-py makes a dict of it, or leaves it alone, by version.
    info = node.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return str(info).replace("': '", ":").encode()


@asynccontextmanager
async def listening(answer: Answering) -> AsyncIterator[int]:
    """A server of our own; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Redis' protocol"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading"),
        (b"-ERR max number of clients reached\r\n", "max number of clients"),
        (b"-MOVED 1 127.0.0.1:7001\r\n", "redis_cluster"),
        (b"+PONG\r\n*1\r\n$1\r\nx\r\n", "what nobody asked"),
        (b"", "closed by the server"),
    ],
)
def test_what_is_no_answer_ends_the_connection(reply: bytes, problem: str) -> None:
    """Answers out of turn, broken ones and errors at the start are told, and never a value."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(reply)
        writer.write_eof()
        # Closed with something unread, it would be a reset, which may overtake the reply.
        await reader.read()

    async def story() -> None:
        async with listening(answer) as port, reading(config_of(port), PROJECT) as reader:
            with pytest.raises(StoreUnavailableError, match=problem):
                await read_found(reader, [want("card", ("spent",), key(1))])

    asyncio.run(story())


@pytest.mark.parametrize("reply", [b"+OK\r\n", b":5\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n"])
def test_answers_of_another_shape_are_told(reply: bytes) -> None:
    """What speaks Redis' protocol but does not answer HMGET as Redis does is named, no fault."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1000)
            writer.write(b"+PONG\r\n")
            while b"HMGET" in await reader.read(1000):
                writer.write(reply)
        finally:
            writer.close()
            left.set()

    left = asyncio.Event()

    async def story() -> None:
        spent, delay = want("card", ("spent",), key(1)), want("route", ("delay",), key(1))
        async with listening(answer) as port:
            async with reading(config_of(port), PROJECT) as reader:
                for wanted in ([spent], [spent, delay]):
                    with pytest.raises(StoreUnavailableError, match="does not answer HMGET"):
                        await read_found(reader, wanted)
            await left.wait()
            await asyncio.sleep(0)

    asyncio.run(story())


def test_a_server_that_hangs_up_is_not_asked_without_pause() -> None:
    """However many reads fail, connections to a server that drops each are few and far between."""
    made = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(time.monotonic())
        await reader.read(1000)
        writer.write(b"+PONG\r\n")
        await writer.drain()

    async def story() -> None:
        async with listening(answer) as port, reading(config_of(port), PROJECT) as reader:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                with pytest.raises(StoreUnavailableError):
                    await read_found(reader, [want("card", ("spent",), key(1))])
                await asyncio.sleep(0)

    asyncio.run(story())
    # 50 ms, and twice as long each time.
    assert 2 <= len(made) <= 6
