"""Freshness of a running dataflow, alone and while a replay of its log runs on one core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer

from benchmarks._payments import Payments, make_payments, payment
from benchmarks.freshness import (
    PARTITIONS,
    PATIENCE_SECONDS,
    SILENT,
    TICK_SECONDS,
    check,
    probe,
)
from dataflows.flow.metrics import current_progress

WARM_UP_SECONDS = 10.0
# A replay that is begun imports for some seconds, and reads a little before it is in its stride.
BEGIN_SECONDS = 180.0
HISTORY_SECONDS = 86_400
CARDS = 10_000


def beside_replay(
    folder: Path, servers: str, redis: str, history: int, rate: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Probes in turns alone and beside a replay, and all of the live cards' values checked."""
    made = make_payments(folder / "repository", servers, redis, PARTITIONS)
    _fill(made, history)
    alone: list[float] = []
    beside: list[float] = []
    with _command(made, "run") as flow:
        _wait_for(made, "state", history, PATIENCE_SECONDS + history / 10_000)
        probe(made, 1.0, "first")
        mine, theirs = multiprocessing.Pipe(duplex=False)
        stop = multiprocessing.get_context("spawn").Event()
        loader = multiprocessing.get_context("spawn").Process(
            target=_load, args=(made, rate, theirs, stop)
        )
        loader.start()
        time.sleep(WARM_UP_SECONDS)
        for number in range(rounds):
            alone += probe(made, seconds, f"alone-{number}")
            with _command(made, "replay", "--cores", "1") as replay:
                _wait_for(made, "state.replay", 1, BEGIN_SECONDS)
                beside += probe(made, seconds, f"beside-{number}")
                assert replay.poll() is None, "the replay has ended: give it a longer --history"
                assert flow.poll() is None, "the dataflow has ended"
            with _command(made, "replay", "--drop") as drop:
                drop.wait(PATIENCE_SECONDS)
        stop.set()
        totals, sent, elapsed = mine.recv()
        loader.join(PATIENCE_SECONDS)
        checked = check(made, totals)
    assert flow.returncode == 0, f"the dataflow ended with {flow.returncode}"
    figures = {"alone": _quantiles(alone), "beside": _quantiles(beside)}
    return {
        "events_per_second": sent / elapsed,
        "history": history,
        "cards_checked": checked,
        **figures,
        "p50_ratio": figures["beside"]["p50_ms"] / figures["alone"]["p50_ms"],
        "p99_ratio": figures["beside"]["p99_ms"] / figures["alone"]["p99_ms"],
    }


def _fill(made: Payments, count: int) -> None:
    """A day of payments that ended a day ago."""
    begin_us = time.time_ns() // 1000 - 2 * HISTORY_SECONDS * 1_000_000
    step_us = HISTORY_SECONDS * 1_000_000 // count
    with KafkaProducer(
        bootstrap_servers=made.servers, linger_ms=100, batch_size=512 * 1024
    ) as producer:
        for number in range(count):
            card = f"old-{number * 7919 % 100_003}"
            record = payment(card, float(number % 1_000), begin_us + number * step_us)
            producer.send(made.topic, record, partition=number % (PARTITIONS - SILENT))
            if number % 20_000 == 0:
                producer.flush(PATIENCE_SECONDS)  # its queue has no bound of its own
        producer.flush(PATIENCE_SECONDS)


def _load(made: Payments, rate: int, answer: Connection, stop: Event) -> None:
    """Produce so many events a second until it is told to stop; then say what was sent."""
    producer = KafkaProducer(bootstrap_servers=made.servers, linger_ms=0)
    generator = np.random.default_rng(2013)
    totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    began, sent = time.monotonic(), 0
    while not stop.is_set():
        for _ in range(int(rate * (time.monotonic() - began)) - sent):
            card, amount = f"card-{generator.integers(CARDS)}", float(generator.integers(1, 1_000))
            record = payment(card, amount, time.time_ns() // 1000)
            producer.send(made.topic, record, partition=sent % (PARTITIONS - SILENT))
            count, total, largest = totals[card]
            totals[card] = [count + 1, total + amount, max(largest, amount)]
            sent += 1
        time.sleep(TICK_SECONDS)
    elapsed = time.monotonic() - began
    producer.flush(PATIENCE_SECONDS)
    producer.close()
    answer.send((dict(totals), sent, elapsed))


@contextmanager
def _command(made: Payments, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ``headwater``, ended by SIGTERM at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "cli.main", *words, "--repo", str(made.folder)],
        env={**os.environ, "HEADWATER_LOG_URL": made.log_url},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


def _wait_for(made: Payments, state: str, events: int, seconds: float) -> None:
    """Until a dataflow or a replay has read so many."""
    folder = made.folder / "data" / state
    deadline = time.monotonic() + seconds
    while sum(said.events for said in current_progress(folder)) < events:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder}: nothing was read in {seconds:g} s")
        time.sleep(0.1)


def _quantiles(found: list[float]) -> dict[str, float]:
    quantiles = np.quantile(found, [0.5, 0.9, 0.99, 1.0]) * 1000
    names = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
    return {"probes": len(found), **dict(zip(names, quantiles.tolist(), strict=True))}
