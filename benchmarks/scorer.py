"""The scorer as a process of its own, on SQLite or Redis, beside an empty call.

A request has 3 entity keys and 5 request values; the model is a scaler and a logistic regression on
3 × 20 stored features and those 5 values. The empty call is ``grpc.health.v1.Health/Check`` of the
same server, so that both share the process, the connection and the moment. Every answer of every
round is compared with the logistic regression in numpy.

The load is a closed loop: each of n callers asks again as soon as it has its answer. The callers
are one Python process on the same machine and take their share of it, so the rates are those of the
two together; the CPU time of either for a request stands beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2

from benchmarks._environment import describe, load_average, write
from benchmarks._scorer_world import World, make_world, serving
from benchmarks._table import load_line, show
from contracts.online_store import RedisConfig, SqliteConfig
from scorer.v1 import scorer_pb2
from tests.services.redis import KEEP_NOTHING, RedisServer

ROUNDS = 3
WARM_UP_CALLS = 300
TIMEOUT_SECONDS = 10.0
TOLERANCE = 1e-12
METHODS = {"score": "/scorer.v1.ScorerService/Score", "empty": "/grpc.health.v1.Health/Check"}


@dataclass(frozen=True)
class Load:
    """So many requests from so many callers."""

    in_flight: int
    requests: int


@dataclass(frozen=True)
class Round:
    """What one round gave; microseconds of CPU are for each request."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float | None
    client_cpu_us: float


async def drive(
    address: str, method: str, messages: list[bytes], load: Load, server: int
) -> tuple[Round, list[bytes]]:
    """One round, and all answers; an error or a timeout of any call ends the benchmark.

    Messages go round in turn. ``server`` is the process whose CPU time is taken.
    """
    seconds = np.empty(load.requests)
    answers = [b""] * load.requests
    numbers = iter(range(load.requests))
    async with grpc.aio.insecure_channel(address) as channel:
        # Bytes in, bytes out: neither call pays for Protobuf on the caller's side.
        call: Any = channel.unary_unary(METHODS[method])

        async def caller() -> None:
            for number in numbers:
                asked = time.perf_counter()
                message = messages[number % len(messages)]
                answers[number] = await call(message, timeout=TIMEOUT_SECONDS)
                seconds[number] = time.perf_counter() - asked

        await call(messages[0], timeout=TIMEOUT_SECONDS)
        server_cpu, client_cpu = cpu_seconds(server), time.process_time()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(load.in_flight):
                group.create_task(caller())
        elapsed = time.perf_counter() - begun
        client_cpu = time.process_time() - client_cpu
        server_after = cpu_seconds(server)
    p50, p99 = np.percentile(seconds * 1e3, [50, 99]).tolist()
    used = None
    if server_cpu is not None and server_after is not None:
        used = (server_after - server_cpu) / load.requests * 1e6
    rate = load.requests / elapsed
    return Round(rate, p50, p99, used, client_cpu / load.requests * 1e6), answers


@contextmanager
def online_store(kind: str, folder: Path) -> Iterator[SqliteConfig | RedisConfig]:
    """An empty store: a file in the folder, or a Redis server as long as the context."""
    if kind == "sqlite":
        yield SqliteConfig(folder / "data" / "online.db")
        return
    server = RedisServer(folder / "redis", *KEEP_NOTHING)
    try:
        server.start()
        yield RedisConfig(((server.host, server.port),), is_cluster=False)
    finally:
        server.kill()


def cpu_seconds(pid: int) -> float | None:
    """CPU time of a running process, to 10 ms; None where there is no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def check_scores(world: World, answers: list[bytes]) -> float:
    """The largest difference between the scores answered and numpy's.

    Raises:
        AssertionError: it is too large, or a default had to stand in.
    """
    scores = np.empty(len(answers))
    for number, answer in enumerate(answers):
        (row,) = scorer_pb2.ScoreResponse.FromString(answer).scores
        assert not row.missing, f"request {number} lacked {list(row.missing)}"
        scores[number] = row.score
    expected = world.expected[np.arange(len(answers)) % len(world.expected)]
    difference = float(np.abs(scores - expected).max())
    assert difference <= TOLERANCE, f"scores differ from numpy's by {difference}"
    return difference


def check_empty(answers: list[bytes]) -> None:
    """Every answer says that the scorer serves; raise AssertionError."""
    serving_answer = health_pb2.HealthCheckResponse(status="SERVING").SerializeToString()
    assert set(answers) == {serving_answer}


async def measure(world: World, address: str, server: int, loads: list[Load]) -> dict[str, Any]:
    """Both calls in turn, so that whatever else the machine does meets both; medians of rounds."""
    once = Load(8, len(world.requests))
    difference = check_scores(
        world, (await drive(address, "score", world.requests, once, server))[1]
    )
    empty_message = [health_pb2.HealthCheckRequest().SerializeToString()]
    await drive(address, "empty", empty_message, Load(8, WARM_UP_CALLS), server)
    levels = []
    for load in loads:
        rounds: dict[str, list[Round]] = {"score": [], "empty": []}
        for _ in range(ROUNDS):
            done, answers = await drive(address, "score", world.requests, load, server)
            difference = max(difference, check_scores(world, answers))
            rounds["score"].append(done)
            done, answers = await drive(address, "empty", empty_message, load, server)
            check_empty(answers)
            rounds["empty"].append(done)
        medians = {method: _median(all_rounds) for method, all_rounds in rounds.items()}
        rates = {
            method: statistics.median(one.requests_per_second for one in them)
            for method, them in rounds.items()
        }
        levels.append(
            {
                "in_flight": load.in_flight,
                "requests_per_round": load.requests,
                **medians,
                "score_to_empty_rate": rates["score"] / rates["empty"],
                "rounds": {name: [asdict(one) for one in them] for name, them in rounds.items()},
            }
        )
    return {"max_abs_diff_to_numpy": difference, "levels": levels}


def _median(rounds: list[Round]) -> dict[str, float | None]:
    each = [asdict(one) for one in rounds]
    return {
        name: None if each[0][name] is None else statistics.median(one[name] for one in each)
        for name in each[0]
    }


def main() -> None:
    """Make the world, start the scorer, check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=4_000, help="a round; a quarter with one")
    parser.add_argument("--store", choices=["sqlite", "redis"], default="sqlite")
    parser.add_argument("--output", type=Path, default=Path("build/bench/scorer.json"))
    options = parser.parse_args()
    load = load_average()
    several = options.requests
    loads = [Load(1, max(1, several // 4)), Load(8, several), Load(64, several)]
    with (
        TemporaryDirectory(prefix="headwater-bench-") as folder,
        online_store(options.store, Path(folder)) as store,
    ):
        world = make_world(Path(folder), store)
        with serving(world) as (address, process):
            figures = asyncio.run(measure(world, address, process.pid, loads))
    # The scorer has ended and was waited for, so it counts among the children.
    figures["server_peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    environment = describe(["grpcio", "protobuf", "onnxruntime", "numpy", "river", "hiredis"])
    shape = world.shape()
    write(
        options.output,
        {
            "environment": environment,
            "load_average_before": load,
            "store": options.store,
            **shape,
            **figures,
        },
    )
    show(
        f"{shape['entity_keys']} entity keys, {shape['features']} features in {options.store}; "
        f"scores equal to numpy within {figures['max_abs_diff_to_numpy']:.0e}; "
        + load_line(load, os.cpu_count()),
        ("in flight", "call", "requests/s", "p50 ms", "p99 ms", "server µs", "caller µs", "ratio"),
        [_row(level, method) for level in figures["levels"] for method in METHODS],
    )


def _row(level: dict[str, Any], method: str) -> list[str]:
    one = level[method]
    server = "?" if one["server_cpu_us"] is None else f"{one['server_cpu_us']:.0f}"
    return [
        str(level["in_flight"]),
        method,
        f"{one['requests_per_second']:,.0f}",
        f"{one['p50_ms']:.2f}",
        f"{one['p99_ms']:.2f}",
        server,
        f"{one['client_cpu_us']:.0f}",
        f"{level['score_to_empty_rate']:.2f}" if method == "score" else "",
    ]


if __name__ == "__main__":
    main()
