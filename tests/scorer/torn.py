"""Packets that reach Redis in two pieces, with something done between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_WAIT_SECONDS_MAX = 10.0
_BYTES = 1 << 20
Between = Callable[[], Awaitable[None]]


class Tearing:
    """A proxy before a server that can hold back the end of what a client sends next.

    Attributes:
        port: where it listens.
        torn: how many packets were.
    """

    def __init__(self, server_port: int) -> None:
        """Nothing is open yet; see ``tearing``."""
        self.port = 0
        self.torn = 0
        self._server_port = server_port
        self._at = 0
        self._between: Between | None = None
        self._answered = asyncio.Event()
        self._clients: set[asyncio.Task[None]] = set()

    def tear(self, at: int, between: Between) -> None:
        """Tear the next packet.

        Args:
            at: how many of its bytes go through at once; at least one command.
            between: done when Redis has answered something of these, before the others go through.
        """
        self._at, self._between = at, between

    async def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take on a client."""
        self._clients.add(asyncio.create_task(self._serve(reader, writer)))

    async def end(self) -> None:
        """Hang up on all clients; raises what went wrong with any."""
        for client in self._clients:
            client.cancel()
        for ended in await asyncio.gather(*self._clients, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._server_port)
        back = asyncio.create_task(self._pass_back(answers, writer))
        try:
            while data := await reader.read(_BYTES):
                if self._between is not None:
                    # A part of a large packet may not be all that it tears.
                    while len(data) <= self._at and (more := await reader.read(_BYTES)):
                        data += more
                    between, self._between = self._between, None
                    self._answered.clear()
                    requests.write(data[: self._at])
                    await asyncio.wait_for(self._answered.wait(), _WAIT_SECONDS_MAX)
                    await between()
                    data = data[self._at :]
                    self.torn += 1
                requests.write(data)
        finally:
            back.cancel()
            with suppress(asyncio.CancelledError):
                await back
            requests.close()
            writer.close()

    async def _pass_back(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await answers.read(_BYTES):
            self._answered.set()
            client.write(data)


@asynccontextmanager
async def tearing(server_port: int) -> AsyncIterator[Tearing]:
    """A proxy for as long as the context."""
    proxy = Tearing(server_port)
    server = await asyncio.start_server(proxy.begin, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
