"""From an event's production to its value in Redis, while 5,000 events a second come in.

Real Kafka, Redis and ``headwater run`` on this machine. Eight partitions, of which two stay silent.
Some of the events are probes: each is the first of a card of its own, and from the moment before it
is handed to the producer until Redis shows the card's row is its freshness. All cards' values are
compared with a plain computation at the end of each run; of the runs the one with the median p50
counts, and the exit code is 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import redis
from kafka import KafkaProducer

from benchmarks._environment import describe, load_average, write
from benchmarks._kafka_load import LoadProducer
from benchmarks._payments import JOIN_KEY, VIEW, Payments, make_payments, payment, services
from benchmarks._reach import Reach, hold
from benchmarks._table import load_line, show
from contracts.feast_bytes import decode_value, entity_key
from contracts.feast_redis import redis_field, redis_key, redis_timestamp_field

PARTITIONS, SILENT = 8, 2
TICK_SECONDS = 0.002
PROBE_SECONDS = 0.05
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.0005
# A first look at the machine's compiled code, caches and connections.
WARM_UP_SECONDS = 10.0
RUNS = 3
P50_MS_MAX, P99_MS_MAX = 20.0, 100.0
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}


def key_of(card: str, project: str) -> bytes:
    """The card's key in Redis."""
    return redis_key(project, entity_key((JOIN_KEY,), ("string",), (card,)))


def load(made: Payments, rate: int, cards: int, seconds: float, answer: Connection) -> None:
    """Produce ``rate`` events a second for so long; send back count and sum of each card."""
    producer = LoadProducer(made.servers, made.topic)
    generator = np.random.default_rng(2013)
    totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    began, tick, sent = time.monotonic(), 0, 0
    partitions = PARTITIONS - SILENT
    cpu = time.process_time()
    while (elapsed := time.monotonic() - began) < seconds:
        count = int(rate * (elapsed + TICK_SECONDS)) - sent
        numbers = generator.integers(cards, size=count).tolist()
        amounts = generator.integers(1, 1_000, size=count).tolist()
        records: dict[int, list[bytes]] = defaultdict(list)
        for number, whole in zip(numbers, amounts, strict=True):
            card, amount = f"card-{number}", float(whole)
            record = payment(card, amount, time.time_ns() // 1000)
            records[sent % partitions].append(record)
            total = totals[card]
            total[0], total[1], total[2] = total[0] + 1, total[1] + amount, max(total[2], amount)
            sent += 1
        producer.send(records, time.time_ns() // 1_000_000)
        tick += 1
        time.sleep(max(0.0, began + tick * TICK_SECONDS - time.monotonic()))
    producer.settle()
    producer.close()
    answer.send((dict(totals), sent, time.process_time() - cpu))


def probe(made: Payments, seconds: float, name: str = "probe") -> list[float]:
    """Freshness of probe after probe, in seconds. ``name`` begins the cards of no other call."""
    host, port = made.redis.split(":")
    # A connection without redis-py's client around it: the prober shares the machine, too.
    store: Any = redis.Redis(host, int(port)).connection_pool.make_connection()
    store.connect()
    producer = KafkaProducer(bootstrap_servers=made.servers, linger_ms=0)
    field = redis_timestamp_field(VIEW)
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        card = f"{name}-{len(found)}"
        question = store.pack_command("HEXISTS", key_of(card, made.project), field)
        record = payment(card, 1.0, time.time_ns() // 1000)
        began = time.perf_counter()
        producer.send(made.topic, record, partition=len(found) % (PARTITIONS - SILENT))
        deadline = began + PATIENCE_SECONDS
        while not _is_there(store, question):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{card} never came")
            time.sleep(POLL_SECONDS)
        found.append(time.perf_counter() - began)
        time.sleep(PROBE_SECONDS)
    producer.close()
    store.disconnect()
    return found


def _is_there(store: Any, question: list[bytes]) -> bool:
    store.send_packed_command(question, check_health=False)
    return bool(store.read_response())


def check(made: Payments, totals: dict[str, list[float]]) -> int:
    """Every card's day must be what was sent; the number of cards."""
    host, port = made.redis.split(":")
    store = redis.Redis(host, int(port))
    fields = [redis_field(VIEW, f"{name}_24h") for name in ("count", "sum", "max")]

    def wrong() -> list[str]:
        with store.pipeline(transaction=False) as pipeline:
            for card in totals:
                pipeline.hmget(key_of(card, made.project), fields)
            rows: list[Any] = pipeline.execute()
        return [
            f"{card}: {[decode_value(v) for v in row if v]} instead of {total}"
            for (card, total), row in zip(totals.items(), rows, strict=True)
            if [decode_value(v) if v else None for v in row] != total
        ]

    deadline = time.monotonic() + PATIENCE_SECONDS
    while (bad := wrong()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not bad, f"{len(bad)} cards differ, such as {bad[0]}"
    store.close()
    return len(totals)


def measure(
    folder: Path, servers: str, redis_address: str, rate: int, cards: int, seconds: float
) -> dict[str, Any]:
    """One run: a dataflow of its own that begins and ends, its figures, and the check."""
    load_before = load_average()
    made = make_payments(folder / "repository", servers, redis_address, PARTITIONS)
    environment = {**os.environ, "HEADWATER_LOG_URL": made.log_url}
    flow = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "cli.main", "run", "--repo", str(made.folder)],
        env=environment,
    )
    try:
        probe(made, 1.0)  # comes back when the flow runs
        mine, theirs = multiprocessing.Pipe(duplex=False)
        whole = WARM_UP_SECONDS + seconds
        context = multiprocessing.get_context("spawn")
        loader = context.Process(target=load, args=(made, rate, cards, whole, theirs))
        loader.start()
        time.sleep(WARM_UP_SECONDS)
        began, cpu = time.monotonic(), _cpu_seconds(flow.pid)
        found = probe(made, seconds)
        used = (_cpu_seconds(flow.pid) - cpu) / (time.monotonic() - began)
        totals, sent, loader_cpu = mine.recv()
        loader.join(PATIENCE_SECONDS)
        checked = check(made, totals)
    finally:
        flow.send_signal(signal.SIGTERM)
        code = flow.wait(PATIENCE_SECONDS)
    assert code == 0, f"the dataflow ended with {code}"
    found_ms = np.quantile(found, list(QUANTILES.values())) * 1000
    return {
        "load_average_before": load_before,
        "events_per_second": sent / whole,
        "cards": cards,
        "cards_checked": checked,
        "probes": len(found),
        **dict(zip(QUANTILES, found_ms.tolist(), strict=True)),
        "dataflow_cores": used,
        "producer_cores": loader_cpu / whole,
    }


def reaches(median: dict[str, Any]) -> list[Reach]:
    """What is wanted of the median run."""
    return [
        Reach("produced to readable in Redis, p50, ms", median["p50_ms"], most=P50_MS_MAX),
        Reach("produced to readable in Redis, p99, ms", median["p99_ms"], most=P99_MS_MAX),
    ]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=5_000, help="events a second")
    parser.add_argument("--cards", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a run, after its warm-up")
    parser.add_argument("--runs", type=int, default=RUNS, help="an odd number, to have a median")
    parser.add_argument("--output", type=Path, default=Path("build/bench/freshness.json"))
    options = parser.parse_args()
    load_before = load_average()
    runs: list[dict[str, Any]] = []
    with (
        TemporaryDirectory(prefix="headwater-bench-") as folder,
        services(Path(folder)) as (servers, redis_address),
    ):
        for number in range(options.runs):
            own = Path(folder) / f"run-{number}"
            sizes = options.rate, options.cards, options.seconds
            runs.append(measure(own, servers, redis_address, *sizes))
    median = sorted(runs, key=lambda run: float(run["p50_ms"]))[(len(runs) - 1) // 2]
    wanted = reaches(median)
    environment = describe(["bytewax", "feast", "kafka-python", "redis", "hiredis", "numba"])
    environment["package_of_broker"] = "Apache Kafka 4.1.1, one node, one replica"
    write(
        options.output,
        {
            "environment": environment,
            "load_average_before": load_before,
            **median,
            "runs": runs,
            "reach": [reach.described() for reach in wanted],
        },
    )
    show(
        f"{median['events_per_second']:,.0f} events/s, {median['cards']:,} cards, "
        f"{PARTITIONS} partitions, {SILENT} of them silent; values correct; "
        + load_line(load_before, os.cpu_count()),
        ("produced → readable in Redis", "cores", "probes", "p50 ms", "p90 ms", "p99 ms", "max ms"),
        [
            [
                f"run {number}" + (", the median" if run is median else ""),
                f"{run['dataflow_cores']:.2f}",
                f"{run['probes']:,}",
                *(f"{run[name]:.1f}" for name in QUANTILES),
            ]
            for number, run in enumerate(runs, 1)
        ],
    )
    hold(wanted)


if __name__ == "__main__":
    main()
