"""The loop wakes up once for all that gRPC's core has done."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
import uvloop

from scorer.wake_ups import EmptiedSocket, fewer_wake_ups


async def _echoed(request: bytes, context: Any) -> bytes:
    return request


async def _ask(calls: int) -> tuple[list[socket.socket], list[bytes]]:
    """What was changed, and the answers of a server to so many calls at one time."""
    with fewer_wake_ups(asyncio.get_running_loop()) as changed:
        server = grpc.aio.server()
    method: Any = grpc.unary_unary_rpc_method_handler(_echoed)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", {"b": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary("/a/b")
        answers = await asyncio.gather(*(ask(b"%d" % call, timeout=10) for call in range(calls)))
    await server.stop(None)
    return changed, answers


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_socket_of_grpc_is_emptied_at_once(run: Callable[[Any], Any]) -> None:
    """Where a server is made the socket of gRPC is changed, and calls are answered as before."""
    changed, answers = run(_ask(50))
    assert [type(one) for one in changed] == [EmptiedSocket]
    assert answers == [b"%d" % call for call in range(50)]


def test_a_read_takes_all_and_never_waits() -> None:
    """All that has come is read at once, whatever was asked for; then there is nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"111")
        ours.__class__ = EmptiedSocket
        assert ours.recv(1) == b"111"
        assert ours.recv(1) == b""


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_other_sockets_are_left_alone(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A reader that is not gRPC's keeps its socket, and afterwards the loop is what it was."""
    loop = new_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with fewer_wake_ups(loop) as changed:
            loop.add_reader(ours, partial(theirs.fileno))
        assert not changed
        assert type(ours) is socket.socket
        assert "add_reader" not in vars(loop)
        loop.remove_reader(ours)
    loop.close()
