"""The client: asks for a while, counts, and checks every answer. A process of its own.

The same process asks all engines, one after the other, so that none has a client of its own to
thank. Latency counts from the planned moment of a request: with callers that wait for their answer
that is when they send it, with arrivals on their own it is when the request should have gone out,
however late the client was.
"""

from __future__ import annotations

import asyncio
import gc
import math
import selectors
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.scorer.checks import Check
from benchmarks.scorer.cpu import tree_cpu_seconds
from benchmarks.scorer.grpc_wire import GrpcConnection, WireError
from benchmarks.scorer.http_wire import HttpConnection

Floats = NDArray[np.float64]

# The last answers of a round may take as long as an overloaded server lets them wait.
_DRAIN_SECONDS_MAX = 30.0
_WIRES: dict[str, type[GrpcConnection] | type[HttpConnection]] = {
    "grpc": GrpcConnection,
    "http": HttpConnection,
}


@dataclass(frozen=True)
class Target:
    """What is asked, and of whom.

    Attributes:
        address: host:port.
        wire: "grpc" or "http".
        path: the method.
        messages: requests, asked round in turn.
        check: what the answers must be.
        pids: the server's processes; their children count too.
    """

    address: str
    wire: str
    path: str
    messages: tuple[bytes, ...]
    check: Check
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """How it is asked.

    Attributes:
        in_flight: callers, each of which asks again when it has its answer; if there is a rate it
            only says how many connections HTTP/1.1 needs.
        seconds: how long requests are sent.
        per_second: mean rate of arrivals on their own (Poisson); None for callers.
        connections: over which requests go in turn.
        warm_up_seconds: asked in the same way before, not counted.
        seed: of the arrivals.
    """

    in_flight: int
    seconds: float
    per_second: float | None = None
    connections: int = 1
    warm_up_seconds: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Round:
    """What one round gave.

    Attributes:
        answers: all of them right.
        seconds: from the first request to the last answer.
        latency_ms: of each request.
        late_ms: how long after its planned moment each was sent; empty for callers.
        server_cpu_seconds: of all threads and processes of the server.
        client_cpu_seconds: of this client.
        max_abs_diff: to what was expected.
    """

    answers: int
    seconds: float
    latency_ms: Floats
    late_ms: Floats
    server_cpu_seconds: float
    client_cpu_seconds: float
    max_abs_diff: float


@dataclass
class _Asking:
    """A round under way."""

    target: Target
    load: Load
    end: float = 0.0
    number: int = 0
    waiting: int = 0
    begun: list[float] = field(default_factory=list)
    took: dict[int, float] = field(default_factory=dict)
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    connections: list[GrpcConnection | HttpConnection] = field(default_factory=list)

    async def connect(self) -> None:
        host, _, port = self.target.address.rpartition(":")
        loop = asyncio.get_running_loop()
        count = self.load.in_flight if self.target.wire == "http" else self.load.connections
        for place in range(count):
            connection = _WIRES[self.target.wire](
                self.target.path, self.target.address, partial(self._answered, place), self._failed
            )
            await loop.create_connection(partial(_same, connection), host, int(port))
            self.connections.append(connection)

    async def run(self, seconds: float) -> None:
        """Ask for so long, then wait for what is missing."""
        self.begun, self.took, self.answers, self.late = [], {}, [], []
        self.number = self.waiting = 0
        self.done.clear()
        self.end = time.perf_counter() + seconds
        if self.load.per_second is None:
            for caller in range(self.load.in_flight):
                self._send(caller % len(self.connections), time.perf_counter())
            for connection in self.connections:
                connection.flush()
        else:
            await self._arrive(seconds, self.load.per_second)
        async with asyncio.timeout(seconds + _DRAIN_SECONDS_MAX):
            await self.done.wait()
        if self.error is not None:
            raise self.error

    async def _arrive(self, seconds: float, per_second: float) -> None:
        """Send at planned moments, whatever is answered by then."""
        self.end = math.inf
        generator = np.random.default_rng(self.load.seed)
        gaps = generator.exponential(1 / per_second, round(seconds * per_second))
        start = time.perf_counter()
        for planned in (start + np.cumsum(gaps)).tolist():
            wait = planned - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            place = self.number % len(self.connections)
            self.late.append(time.perf_counter() - planned)
            self._send(place, planned)
            self.connections[place].flush()
            if self.error is not None:
                break
        self.end = -math.inf
        if not self.waiting:
            self.done.set()

    def _send(self, place: int, planned: float) -> None:
        number, self.number = self.number, self.number + 1
        self.waiting += 1
        self.begun.append(planned)
        messages = self.target.messages
        self.connections[place].send(number, messages[number % len(messages)])

    def _answered(self, place: int, number: int, answer: bytes) -> None:
        now = time.perf_counter()
        self.took[number] = now - self.begun[number]
        self.answers.append((number, answer))
        self.waiting -= 1
        if self.load.per_second is None and now < self.end:
            self._send(place, now)
        elif not self.waiting and now >= self.end:
            self.done.set()

    def _failed(self, error: Exception) -> None:
        self.error = self.error or error
        self.done.set()


def _same(connection: asyncio.Protocol) -> asyncio.Protocol:
    return connection


async def _measure(target: Target, load: Load) -> Round:
    asking = _Asking(target, load)
    await asking.connect()
    try:
        if load.warm_up_seconds:
            await asking.run(load.warm_up_seconds)
        gc.collect()
        gc.disable()
        server, client = tree_cpu_seconds(target.pids), time.process_time()
        begun = time.perf_counter()
        await asking.run(load.seconds)
        seconds = time.perf_counter() - begun
        server, client = tree_cpu_seconds(target.pids) - server, time.process_time() - client
    finally:
        gc.enable()
        for connection in asking.connections:
            connection.close()
    asked = len(target.messages)
    answers = [(number % asked, answer) for number, answer in asking.answers]
    return Round(
        answers=len(answers),
        seconds=seconds,
        latency_ms=np.array(list(asking.took.values())) * 1e3,
        late_ms=np.array(asking.late) * 1e3,
        server_cpu_seconds=server,
        client_cpu_seconds=client,
        max_abs_diff=target.check.difference(answers),
    )


def _serve(pipe: Connection) -> None:
    """Measure what comes through the pipe until it says None."""
    while (job := pipe.recv()) is not None:
        target, load = job
        # Of asyncio's selectors this one waits for microseconds; epoll's time is in milliseconds.
        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        try:
            pipe.send(loop.run_until_complete(_measure(target, load)))
        except (AssertionError, OSError, TimeoutError, WireError) as error:
            pipe.send(error if str(error) else WireError(repr(error)))
        finally:
            loop.close()


class Client:
    """The client's process, as long as the context."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)

    def __enter__(self) -> Self:
        """Start it."""
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._pipe.send(None)
        self._process.join(_DRAIN_SECONDS_MAX)
        if self._process.is_alive():
            self._process.kill()

    def measure(self, target: Target, load: Load) -> Round:
        """One round.

        Raises:
            AssertionError: an answer is wrong.
            WireError: a call failed.
            TimeoutError: answers did not come.
        """
        self.start(target, load)
        return self.result()

    def start(self, target: Target, load: Load) -> None:
        """Begin a round, and return at once; ``result`` waits for it."""
        self._pipe.send((target, load))

    def result(self) -> Round:
        """What the round gave; raises as ``measure``."""
        found = self._pipe.recv()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Round)
        return found
