"""One wake-up of the loop for all that gRPC's core has done, where ``grpc.aio`` has one for each.

Its thread writes a byte into a socket for each thing done, and the loop reads one byte at a turn,
though all that was done is told at the first: with eight calls under way each of them took the loop
three turns for nothing. Here all bytes are read at once. This reaches into grpcio's inner parts;
where they are not as they are known (later versions do the like themselves), nothing is changed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# The type stubs do not know it.
cygrpc: Any = import_module("grpc._cython.cygrpc")
_BYTES_MAX = 4_096


class EmptiedSocket(socket.socket):
    """A socket of which a read takes all that has come, and never waits."""

    __slots__ = ()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """All bytes that are there; none if there are none."""
        try:
            return super().recv(max(size, _BYTES_MAX), flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


@contextmanager
def fewer_wake_ups(loop: asyncio.AbstractEventLoop) -> Iterator[list[socket.socket]]:
    """Meanwhile the first server of ``grpc.aio`` in this loop is made; gives what was changed."""
    changed: list[socket.socket] = []
    add: Callable[..., Any] = loop.add_reader

    def add_reader(file: Any, callback: Callable[..., object], *args: Any) -> Any:
        if isinstance(file, socket.socket) and _is_of_grpc(callback):
            # Both have the same inside: only the method is another.
            file.__class__ = EmptiedSocket
            changed.append(file)
        return add(file, callback, *args)

    # gRPC asks the loop for its method once, and keeps nothing of it.
    vars(loop)["add_reader"] = add_reader
    try:
        yield changed
    finally:
        del vars(loop)["add_reader"]


def _is_of_grpc(callback: object) -> bool:
    method = getattr(callback, "func", callback)
    queue = getattr(cygrpc, "PollerCompletionQueue", None)
    return queue is not None and isinstance(getattr(method, "__self__", None), queue)
