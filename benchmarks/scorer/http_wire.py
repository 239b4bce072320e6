"""One request at a time over a connection of HTTP/1.1, for ``feast serve``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.scorer.grpc_wire import Answered, WireError

_END = b"\r\n\r\n"


class HttpConnection(asyncio.Protocol):
    """As ``GrpcConnection``, but there is one request under way at most."""

    def __init__(
        self, path: str, authority: str, answered: Answered, failed: Callable[[Exception], None]
    ) -> None:
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n"
        )
        self._answered = answered
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._input = b""
        self._number: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody closes a connection that is still wanted."""
        if self._number is not None or error is not None:
            self._failed(WireError(f"the server closed the connection: {error}"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def send(self, number: int, message: bytes) -> None:
        """Ask; the answer comes with the same number."""
        assert self._number is None
        assert self._transport is not None
        self._number = number
        head = f"{self._head}Content-Length: {len(message)}\r\n\r\n"
        self._transport.write(head.encode("ascii") + message)

    def flush(self) -> None:
        """Everything is written by now."""

    def data_received(self, data: bytes) -> None:
        """Wait for the whole answer."""
        self._input += data
        head, found, body = self._input.partition(_END)
        if not found:
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        if len(body) < int(headers["content-length"]):
            return
        number, self._number, self._input = self._number, None, b""
        if number is None or lines[0].split()[1] != "200":
            self._failed(WireError(f"a call failed: {lines[0]}: {body[:500]!r}"))
            return
        self._answered(number, body)
