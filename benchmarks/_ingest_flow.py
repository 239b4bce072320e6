"""The whole flow, Kafka to nine windowed features to Redis, in a process of its own.

Called with a repository, it runs the flow to the log's end and answers with one line of JSON:
events, rows written, seconds, and CPU-seconds of all threads of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from kafka import KafkaProducer

from benchmarks._payments import VIEW, Payments, make_payments, payment, with_new_project
from contracts.feast_bytes import decode_value, entity_key
from contracts.feast_redis import redis_field, redis_key

PARTITIONS = 4
# Event time that the events are spread over: every event leaves the shortest window again.
SPAN_US = 3_600_000_000
BEGIN_US = 1_750_000_000_000_000
WINDOWS = {"10m": (600, 60), "1h": (3_600, 300), "24h": (86_400, 7_200)}
SAMPLE_CARDS = 1_000
PATIENCE_SECONDS = 600.0
Ints = npt.NDArray[np.int64]
# Entity key, features -> their values.
ReadRow = Callable[[bytes, list[str]], list[Any]]


def measure_flow(servers: str, redis_address: str, events: int, cards: int) -> dict[str, Any]:
    """Produce, run with epochs of one and of ten seconds, check each run, and report both."""
    generator = np.random.default_rng(2013)
    times_us = BEGIN_US + np.arange(events) * SPAN_US // events
    of_card, amounts = generator.integers(0, cards, events), generator.integers(1, 1_000, events)
    figures: dict[str, Any] = {"events": events, "cards": cards, "partitions": PARTITIONS}
    with TemporaryDirectory(prefix="headwater-bench-") as folder:
        made = make_payments(Path(folder) / "repository", servers, redis_address, PARTITIONS)
        produce(made, times_us, of_card, amounts)
        for epoch_seconds in (1.0, 10.0):
            own = with_new_project(made, Path(folder) / f"epoch-{epoch_seconds:g}")
            found = _run(own, epoch_seconds)
            assert found["events"] == events, f"{found['events']} of {events} events were read"
            found["values_checked"] = check_redis(own, times_us, of_card, amounts)
            found["events_per_cpu_second"] = events / found["cpu_seconds"]
            found["events_per_second"] = events / found["seconds"]
            figures[f"epoch_{epoch_seconds:g}_s"] = found
    return figures


def produce(made: Payments, times_us: Ints, of_card: Ints, amounts: Ints) -> None:
    """Write the payments into the topic's partitions, in turn."""
    with KafkaProducer(
        bootstrap_servers=made.servers, linger_ms=100, batch_size=512 * 1024
    ) as producer:
        rows = zip(times_us.tolist(), of_card.tolist(), amounts.tolist(), strict=True)
        for number, (time_us, card, amount) in enumerate(rows):
            record = payment(f"card-{card}", float(amount), time_us)
            producer.send(made.topic, record, partition=number % PARTITIONS)
            if number % 20_000 == 0:
                producer.flush(PATIENCE_SECONDS)  # its queue has no bound of its own
        producer.flush(PATIENCE_SECONDS)


def _run(made: Payments, epoch_seconds: float) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HEADWATER_LOG_URL": made.log_url,
        "HEADWATER_EPOCH_SECONDS": str(epoch_seconds),
    }
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks._ingest_flow", str(made.folder)]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, timeout=PATIENCE_SECONDS, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_redis(made: Payments, times_us: Ints, of_card: Ints, amounts: Ints) -> int:
    """Nine values of some cards against a plain computation; how many values that were."""
    host, port = made.redis.split(":")
    store = redis.Redis(host, int(port))

    def read(entity: bytes, features: list[str]) -> list[Any]:
        fields = [redis_field(VIEW, feature) for feature in features]
        row: Any = store.hmget(redis_key(made.project, entity), fields)
        return [decode_value(value) if value else None for value in row]

    compared = check_values(read, times_us, of_card, amounts)
    store.close()
    return compared


def check_values(read: ReadRow, times_us: Ints, of_card: Ints, amounts: Ints) -> int:
    """As ``check_redis``, whatever the store: ``read`` gives features of an entity key."""
    end_us = int(times_us[-1])
    compared = 0
    for card in range(min(SAMPLE_CARDS, int(of_card.max()) + 1)):
        name = entity_key(("card",), ("string",), (f"card-{card}",))
        mine = of_card == card
        for window, (length, hop) in WINDOWS.items():
            hop_us = hop * 1_000_000
            first_tile = end_us // hop_us - length // hop + 1
            inside = amounts[mine & (times_us // hop_us >= first_tile)].astype(float)
            wanted = [
                len(inside),
                float(inside.sum()) if len(inside) else None,
                float(inside.max()) if len(inside) else None,
            ]
            found = read(name, [f"{f}_{window}" for f in ("count", "sum", "max")])
            if not mine.any():
                wanted = [None, None, None]  # a card without events has no row
            assert found == wanted, f"card-{card} over {window}: {found} instead of {wanted}"
            compared += len(wanted)
    return compared


def main() -> None:
    """Run the flow of a repository to the end of its log, and report."""
    from contracts.settings import DataflowSettings
    from dataflows.definitions.repository import load_repository
    from dataflows.flow.engine import default_places, run_flow
    from dataflows.windows.view_state import warm_up

    folder = Path(sys.argv[1])
    settings = DataflowSettings.for_repo(folder)
    repository = load_repository(folder)
    places = default_places(repository, settings)
    warm_up()
    cpu, wall = time.process_time(), time.perf_counter()
    tally = run_flow(repository, settings, places, until_end=True).tally
    report = {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "events": tally.events,
        "online_rows": tally.online_rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
