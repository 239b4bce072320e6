"""Calls of one method are accepted several at a time, with gRPC's inner parts or without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from scorer import acceptors
from scorer.acceptors import Acceptors

SERVICE = "test.Echo"
METHODS = ("Quick", "Slow", "Other")


class Echo:
    """Answers with the request; ``Slow`` never does, and tells when its caller has left."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()

    async def quick(self, request: bytes, context: object) -> bytes:
        """The request."""
        return request

    async def slow(self, request: bytes, context: object) -> bytes:
        """Nothing until the caller leaves."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return request


@asynccontextmanager
async def served(echo: Echo) -> AsyncIterator[tuple[grpc.aio.Channel, Acceptors]]:
    """A server of three methods, the last of which is left to grpc.aio, and a channel to it."""
    server = grpc.aio.server()
    accepting = Acceptors(server, [f"{SERVICE}/{name}" for name in METHODS[:2]])
    works = zip(METHODS, (echo.quick, echo.slow, echo.quick), strict=True)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(work) for name, work in works
    }
    accepting.as_server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    accepting.start()
    try:
        async with asyncio.timeout(60), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, accepting
    finally:
        await server.stop(0)


async def ask(channel: grpc.aio.Channel, method: str, number: int) -> None:
    """One call, whose answer must be its own."""
    call: Any = channel.unary_unary(f"/{SERVICE}/{method}")
    assert await call(b"%d" % number) == b"%d" % number


def test_many_calls_are_asked_for_at_once() -> None:
    """Each acceptor goes on after its call, each call gets its answer, and stopping ends them."""

    async def run() -> None:
        async with served(Echo()) as (channel, accepting):
            waiting = set(accepting._tasks)
            assert len(waiting) == 2 * acceptors._AT_ONCE
            calls = (ask(channel, METHODS[2 * (number % 2)], number) for number in range(400))
            await asyncio.gather(*calls)
            assert waiting <= accepting._tasks
        async with asyncio.timeout(30):
            await asyncio.gather(*accepting._tasks)

    asyncio.run(run())


def test_a_caller_that_leaves_ends_the_work() -> None:
    """The work of a call that an acceptor took is cancelled when its caller is gone."""

    async def run() -> None:
        echo = Echo()
        async with served(echo) as (channel, _):
            asking: Any = channel.unary_unary(f"/{SERVICE}/Slow")
            call = asking(b"")
            await echo.begun.wait()
            call.cancel()
            await echo.left.wait()
            await ask(channel, "Quick", 1)

    asyncio.run(run())


def test_without_the_inner_parts_grpc_accepts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gRPC that has other inner parts serves the same calls, one accepted after the other."""
    monkeypatch.setattr(acceptors, "_INNER", (*acceptors._INNER, "_what_is_no_more"))

    async def run() -> None:
        async with served(Echo()) as (channel, accepting):
            assert not accepting._tasks
            await asyncio.gather(*(ask(channel, name, 1) for name in ("Quick", "Other") * 20))

    asyncio.run(run())
