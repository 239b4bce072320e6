"""From Kafka to columns: records of 200 bytes in one topic, read by the flow's reader.

What is timed is all that the process does, in all of its threads: kafka-python's network thread,
the reader's thread, and the thread that takes chunks and (in the second figure) decodes them as
the flow does. Beside it kafka-python's own ``poll`` reads the same records in the same run, with
the same settings; it is not asked to decode anything.

Before anything is timed, every offset, time and value is compared with what ``poll`` gives. Then
the whole flow runs on the same machine: Kafka, decoding, 9 windowed features of 100,000 cards,
Redis; of 1,000 cards all values are compared with a plain computation.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks._environment import describe, load_average, write
from benchmarks._ingest_flow import measure_flow
from benchmarks._payments import services
from benchmarks._reach import Reach, hold
from benchmarks._table import load_line, show
from contracts.log import Chunk
from contracts.plan import Column, Topic
from contracts.settings import DataflowSettings
from dataflows.sources.decoding import make_decoder
from dataflows.sources.kafka_log import KafkaLog
from dataflows.sources.kafka_topics import bounds, list_topics

RECORD_BYTES = 200
ROUNDS = 3
WAIT_SECONDS_MAX = 120.0
DECODED_MIN, TIMES_POLL_MIN, FLOW_MIN = 400_000, 2, 150_000
# What takes a chunk, and tells how many records it was.
Sink = Callable[[Chunk], int]


def payments(name: str) -> Topic:
    """Four columns, one of them a time."""
    columns = (
        Column("card", "string", False),
        Column("shop", "string", False),
        Column("amount", "float64", False),
        Column("at", "timestamp", False),
    )
    return Topic(name, columns, "at", 0, "card")


def fill(servers: str, topic: str, events: int, compression: str | None) -> None:
    """Write payments, each of 200 bytes of JSON with a note that nobody reads."""
    with KafkaProducer(
        bootstrap_servers=servers,
        linger_ms=100,
        batch_size=64 * 1024,
        compression_type=compression,
    ) as producer:
        for number in range(events):
            card = f"card-{number * 7919 % 100_000:06d}"
            seconds, millis = divmod(number, 1_000)
            at = (
                f"2023-11-14T{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            )
            record = {
                "card": card,
                "shop": f"shop-{number % 5_000:04d}",
                "amount": number % 100_000 / 4,
                "at": f"{at}.{millis:03d}Z",
                "note": "",
            }
            record["note"] = "n" * (RECORD_BYTES - len(msgspec.json.encode(record)))
            producer.send(topic, msgspec.json.encode(record), card.encode())


def read(settings: DataflowSettings, topic: str, events: int, sink: Sink) -> tuple[float, float]:
    """All records through the flow's reader; CPU-seconds and seconds."""
    log = KafkaLog(settings, "headwater-bench")
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        reader = log.open(topic, 0, 0)
        found = 0
        while found < events:
            chunk = reader.read(settings.batch_bytes)
            if chunk is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{found} of {events} records")
                time.sleep(0.001)
                continue
            found += sink(chunk)
        return time.process_time() - cpu, time.perf_counter() - wall
    finally:
        log.close()


def poll(
    servers: str, fetch_bytes: int, topic: str, events: int, sink: Callable[[list[Any]], int]
) -> tuple[float, float]:
    """All records through kafka-python's ``poll``; CPU-seconds and seconds."""
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="none",
        enable_auto_commit=False,
        isolation_level="read_committed",
        metrics_enabled=False,
        max_partition_fetch_bytes=fetch_bytes,
        max_poll_records=5_000,
    )
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        found = 0
        while found < events:
            found += sink(consumer.poll(1_000).get(partition, []))
        return time.process_time() - cpu, time.perf_counter() - wall
    finally:
        consumer.close()


def check(settings: DataflowSettings, servers: str, topic: str, events: int) -> None:
    """Compare all offsets, times and values with those of ``poll``.

    Raises:
        AssertionError: they differ.
    """
    ours, theirs = hashlib.sha256(), hashlib.sha256()
    places: list[tuple[Any, Any]] = []
    stock: list[tuple[int, int]] = []

    def take(chunk: Chunk) -> int:
        places.append((chunk.offsets, chunk.times_ms))
        ours.update(chunk.records)
        return len(chunk.starts)

    def take_stock(records: list[Any]) -> int:
        stock.extend((record.offset, record.timestamp) for record in records)
        theirs.update(b"".join(record.value + b"\n" for record in records))
        return len(records)

    read(settings, topic, events, take)
    poll(servers, settings.kafka_fetch_bytes, topic, events, take_stock)
    offsets = np.concatenate([offsets for offsets, _ in places])
    times = np.concatenate([times for _, times in places])
    wanted = np.array(stock, np.int64)
    np.testing.assert_array_equal(offsets, wanted[:, 0])
    np.testing.assert_array_equal(times, wanted[:, 1])
    assert ours.digest() == theirs.digest(), "the values differ"


def measure(options: argparse.Namespace, servers: str) -> dict[str, Any]:
    """All figures; the best of three rounds, in which all ways of reading take turns."""
    settings = DataflowSettings.for_repo(Path(), log_url=f"kafka://{servers}")
    topic, events = f"bench-{uuid.uuid4().hex}", options.events
    list_topics(settings, [topic])
    fill(servers, topic, events, options.compression)
    written = bounds(settings, [(topic, 0)])[topic, 0]
    assert written == (0, events), f"{topic} has {written}"
    check(settings, servers, topic, events)
    decoder = make_decoder(payments(topic))

    def decode(chunk: Chunk) -> int:
        decoded = decoder.decode(chunk)
        assert not decoded.bad
        return len(decoded.event_us)

    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "read": lambda: read(settings, topic, events, lambda chunk: len(chunk.starts)),
        "read_and_decoded": lambda: read(settings, topic, events, decode),
        "stock_poll": lambda: poll(servers, settings.kafka_fetch_bytes, topic, events, len),
    }
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    figures: dict[str, Any] = {
        "events": events,
        "record_bytes": RECORD_BYTES,
        "compression": options.compression or "none",
        "checked": {"records": events, "equal_to_stock_poll": True},
    }
    for name in ways:
        cpu_seconds = min(found[name][0] for found in rounds)
        figures[name] = {
            "cpu_seconds": cpu_seconds,
            "seconds_of_rounds": [found[name][1] for found in rounds],
            "cpu_seconds_of_rounds": [found[name][0] for found in rounds],
            "events_per_cpu_second": events / cpu_seconds,
        }
    stock = figures["stock_poll"]["cpu_seconds"]
    figures["times_stock_poll"] = stock / figures["read"]["cpu_seconds"]
    return figures


def reaches(figures: dict[str, Any]) -> list[Reach]:
    """What is wanted; of the whole flow with epochs of either length."""
    decoded = figures["read_and_decoded"]["events_per_cpu_second"]
    found = [
        Reach("Kafka to columns, events per CPU-second", decoded, least=DECODED_MIN),
        Reach("reading, times poll's CPU", figures["times_stock_poll"], least=TIMES_POLL_MIN),
    ]
    for name, run in figures["whole_flow"].items():
        if name.startswith("epoch_"):
            what = f"whole flow, {name.replace('_', ' ')}, events per CPU-second"
            found.append(Reach(what, run["events_per_cpu_second"], least=FLOW_MIN))
    return found


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--flow-events", type=int, default=1_000_000, help="of the whole flow")
    parser.add_argument("--flow-cards", type=int, default=100_000)
    parser.add_argument("--compression", choices=["gzip", "snappy", "lz4", "zstd"])
    parser.add_argument("--output", type=Path, default=Path("build/bench/ingest.json"))
    options = parser.parse_args()
    load = load_average()
    with (
        tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder,
        services(Path(folder)) as (servers, redis_address),
    ):
        figures = measure(options, servers)
        flow = measure_flow(servers, redis_address, options.flow_events, options.flow_cards)
    figures["whole_flow"] = flow
    wanted = reaches(figures)
    figures["reach"] = [reach.described() for reach in wanted]
    environment = describe(["kafka-python", "crc32c", "msgspec", "numba", "bytewax", "redis"])
    write(options.output, {"environment": environment, "load_average_before": load, **figures})
    names = ("read", "read_and_decoded", "stock_poll")
    show(
        f"{figures['events']:,} records of {RECORD_BYTES} bytes from Kafka, all equal to poll's; "
        f"reading takes {figures['times_stock_poll']:.1f} times less CPU than poll; "
        + load_line(load, os.cpu_count()),
        ("", "per CPU-second", "CPU-seconds", "seconds (best)"),
        [
            (
                name.replace("_", " "),
                f"{figures[name]['events_per_cpu_second']:,.0f}",
                f"{figures[name]['cpu_seconds']:.2f}",
                f"{min(figures[name]['seconds_of_rounds']):.2f}",
            )
            for name in names
        ],
    )
    epochs = [name for name in flow if name.startswith("epoch_")]
    show(
        f"Kafka to 9 windowed features to Redis: {flow['events']:,} events of {flow['cards']:,} "
        f"cards, {flow[epochs[0]]['values_checked']:,} values checked",
        ("whole flow", "per CPU-second", "per second", "CPU-seconds", "rows written"),
        [
            (
                name.replace("_", " "),
                f"{flow[name]['events_per_cpu_second']:,.0f}",
                f"{flow[name]['events_per_second']:,.0f}",
                f"{flow[name]['cpu_seconds']:.2f}",
                f"{flow[name]['online_rows']:,}",
            )
            for name in epochs
        ],
    )
    hold(wanted)


if __name__ == "__main__":
    main()
