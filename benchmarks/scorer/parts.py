"""The parts of the benchmark that need nothing but the scorer, Redis and the echo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from benchmarks._scorer_world import World, many_rows
from benchmarks.scorer.checks import Always, ScoresOf
from benchmarks.scorer.cpu import tree_peak_mb
from benchmarks.scorer.load import Client, Load, Target
from benchmarks.scorer.rounds import Part, in_turns, ratio
from benchmarks.scorer.servers import Server, running, scorer
from tests.services.server import free_ports

METHOD = "/scorer.v1.ScorerService/Score"
LEVELS = (1, 8, 64)
ROWS = 100
_OPEN_SECONDS = 10.0
_OPEN_SHARE = 0.5


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Attributes:
        world: what is scored.
        client: who asks.
        seconds: a round.
        rounds: of each engine and load.
        folder: for files of the parts.
        swap_seconds: of the part about swaps, all phases together.
        echo_loop: event loop of the echo, "asyncio" or "uvloop".
    """

    world: World
    client: Client
    seconds: float
    rounds: int
    folder: Path
    swap_seconds: float
    echo_loop: str

    def load(self, in_flight: int) -> Load:
        """So many callers for a round."""
        return Load(in_flight, self.seconds)

    def target(self, server: Server, rows: int = 1) -> Target:
        """The requests, asked of a server that computes scores."""
        messages, expected = self.world.requests, self.world.expected
        if rows > 1:
            messages = many_rows(messages, rows)
        shaped = expected.reshape(len(expected), len(messages), rows)
        return Target(
            server.address, "grpc", METHOD, tuple(messages), ScoresOf(shaped), (server.pid,)
        )

    @contextmanager
    def echo(self, asked: Target) -> Iterator[Target]:
        """The same requests, asked of a server that has one ready answer of the same size."""
        with grpc.insecure_channel(asked.address) as channel:
            ask: Any = channel.unary_unary(METHOD)
            answer: bytes = ask(asked.messages[0], timeout=10)
        file = self.folder / "answer"
        file.write_bytes(answer)
        arguments = ["-m", "benchmarks.scorer.echo", str(file), self.echo_loop]
        with running(arguments, self.folder / "echo.log", {}) as server:
            yield replace(asked, address=server.address, check=Always(answer), pids=(server.pid,))


def calls(bench: Bench) -> Part:
    """One row a request, beside an empty echo of the same messages."""
    part = Part()
    with scorer(bench.world.folder, {}) as server:
        ours = bench.target(server)
        with bench.echo(ours) as echo:
            for level in LEVELS:
                load = bench.load(level)
                found = in_turns(
                    bench.client, {"scorer": ours, "echo": echo}, [load] * bench.rounds
                )
                score, empty = (part.add(name, load, them) for name, them in found.items())
                # CPU time differs less than rates do where others work on the same machine.
                ratio(part, empty, score, "server_cpu_us")
                if level == 1:
                    slower = ratio(part, score, empty, "p50_ms")
                    part.reach("p50 one at a time, of the echo's", slower, "low", 1.5)
                else:
                    rate = ratio(part, score, empty, "requests_per_second")
                    part.reach(f"rate at {level} in flight, of the echo's", rate, "high", 0.6)
        part.more["server_peak_mb"] = tree_peak_mb(ours.pids)
    return part


def rows(bench: Bench) -> Part:
    """A hundred rows a request."""
    part = Part()
    with scorer(bench.world.folder, {}) as server:
        ours = bench.target(server, ROWS)
        with bench.echo(ours) as echo:
            load = bench.load(8)
            found = in_turns(bench.client, {"scorer": ours, "echo": echo}, [load] * bench.rounds)
            score, empty = (part.add(name, load, them, ROWS) for name, them in found.items())
            ratio(part, empty, score, "server_cpu_us")
    part.reach(
        f"rows per CPU-second, {ROWS} a request",
        score["rows_per_server_cpu_second"],
        "high",
        40_000,
    )
    return part


def open_loop(bench: Bench) -> Part:
    """Arrivals that do not wait, at half of what callers got out of it just before."""
    part = Part()
    with scorer(bench.world.folder, {}) as server:
        target = bench.target(server)
        load = bench.load(64)
        closed = in_turns(bench.client, {"scorer": target}, [load] * bench.rounds)
        capacity = part.add("scorer", load, closed["scorer"], note="capacity")
        per_second = _OPEN_SHARE * capacity["requests_per_second"]
        arriving = Load(64, max(bench.seconds, _OPEN_SECONDS), per_second)
        found = in_turns(
            bench.client,
            {"scorer": target},
            [replace(arriving, seed=number) for number in range(bench.rounds)],
        )
    half = part.add("scorer", arriving, found["scorer"], note=f"arrivals at {_OPEN_SHARE:.0%}")
    part.reach("open loop at 50 %: p99 / p50", half["p99_ms"] / half["p50_ms"], "low", 5)
    return part


def processes(bench: Bench) -> Part:
    """One and two processes on one port."""
    part = Part()
    # Calls of one connection all go to one process.
    load = replace(bench.load(64), connections=16)
    with ExitStack() as stack:
        targets = {}
        for count, port in zip((1, 2), free_ports(2), strict=True):
            settings = {"SCORER_PROCESSES": str(count), "SCORER_ADDRESS": f"127.0.0.1:{port}"}
            server = stack.enter_context(scorer(bench.world.folder, settings))
            targets[f"{count} process(es)"] = bench.target(server)
        found = in_turns(bench.client, targets, [load] * bench.rounds)
    one, two = (part.add("scorer", load, them, note=name) for name, them in found.items())
    ratio(part, two, one, "requests_per_second")
    return part
