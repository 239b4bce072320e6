"""From a label's production to a served version that has learned from it.

Real Kafka, ``headwater run`` and ``headwater serve`` on this machine; a version each second of
event time. For every label the time runs from the moment before it is handed to the producer until
GetModel answers with a version whose last label is not older. Each version that was served must
have learned what it says: more examples than the one before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from benchmarks._environment import describe, load_average, write
from benchmarks._reach import Reach, hold
from benchmarks._table import load_line, show
from scorer.client import ScorerCallError, ScorerClient
from tests.services.kafka import KafkaBroker
from tests.services.outside import OutsideKafka
from tests.services.server import free_ports

FIELDS = 20
PARTITIONS = 2
LABEL_DELAY_SECONDS = 3.0
TICK_SECONDS = 0.005
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 90.0
DEFINITIONS = """
from datetime import timedelta

from feast import FileSource, KafkaSource
from feast.data_format import JsonFormat
from river import linear_model, optim, preprocessing
from contracts.model_spec import Label, Model

NAMES = [f"x{place}" for place in range(FIELDS)]


def source(topic, columns):
    return KafkaSource(
        name=topic, topic=topic, kafka_bootstrap_servers="SERVERS",
        timestamp_field="event_timestamp",
        message_format=JsonFormat(schema_json=columns + ", event_timestamp timestamp not null"),
        watermark_delay_threshold=timedelta(0),
        batch_source=FileSource(
            name=topic + "_files", path="data/" + topic, timestamp_field="event_timestamp"
        ),
    )


asked = source("ASKED", "id string not null, " + ", ".join(f"{name} double" for name in NAMES))
known = source("KNOWN", "id string not null, late bigint not null")
model = Model(
    name="late", spine=asked, spine_key="id", request=NAMES,
    label=Label(source=known, key="id", value="late > 0", timeout=timedelta(minutes=5)),
    publish_every=timedelta(seconds=1),
    learner=lambda: preprocessing.StandardScaler()
    | linear_model.LogisticRegression(optimizer=optim.SGD(0.01)),
)
"""
STORE = """
project: PROJECT
provider: local
registry: data/registry.db
online_store: {type: sqlite, path: data/online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""


def make_repository(folder: Path, servers: str) -> tuple[str, str]:
    """A repository with topics of its own; the names of these."""
    unique = uuid.uuid4().hex[:12]
    asked, known = f"asked-{unique}", f"known-{unique}"
    text = DEFINITIONS.replace("ASKED", asked).replace("KNOWN", known)
    text = text.replace("SERVERS", servers).replace("FIELDS", str(FIELDS))
    folder.mkdir(parents=True)
    (folder / "definitions.py").write_text(text)
    (folder / "feature_store.yaml").write_text(STORE.replace("PROJECT", f"bench_{unique}"))
    admin = KafkaAdminClient(bootstrap_servers=servers)
    topics = {name: {"num_partitions": PARTITIONS} for name in (asked, known)}
    admin.create_topics(topics, wait_for_metadata=True)
    admin.close()
    return asked, known


def stamp(time_us: int) -> str:
    """As JSON has it."""
    seconds, micros = divmod(time_us, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z"


def load(
    servers: str, asked: str, known: str, rate: int, seconds: float, answer: Connection
) -> None:
    """``rate`` predictions a second and, three seconds after each, its label.

    Sends back the event time of each label, and when it was handed to the producer.
    """
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=0)
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(1_000, FIELDS)).round(4)
    bodies = [",".join(f'"x{p}":{v}' for p, v in enumerate(row)) for row in vectors.tolist()]
    lates = (vectors[:, 0] > 0).astype(int).tolist()
    due: deque[tuple[float, int]] = deque()
    labels: list[tuple[int, float]] = []
    began, sent, tick = time.monotonic(), 0, 0
    while (elapsed := time.monotonic() - began) < seconds:
        for _ in range(int(rate * elapsed) - sent):
            record = f'{{"id":"{sent}",{bodies[sent % 1_000]},"event_timestamp":"{_now()}"}}'
            producer.send(asked, record.encode(), partition=sent % PARTITIONS)
            due.append((time.monotonic() + LABEL_DELAY_SECONDS, sent))
            sent += 1
        while due and due[0][0] <= time.monotonic():
            _, number = due.popleft()
            at_us = time.time_ns() // 1_000
            label = f'{{"id":"{number}","late":{lates[number % 1_000]},"event_timestamp":'
            labels.append((at_us, time.monotonic()))
            record = f'{label}"{stamp(at_us)}"}}'
            producer.send(known, record.encode(), partition=number % PARTITIONS)
        tick += 1
        time.sleep(max(0.0, began + tick * TICK_SECONDS - time.monotonic()))
    producer.flush(PATIENCE_SECONDS)
    producer.close()
    answer.send((sent, labels))


def _now() -> str:
    return stamp(time.time_ns() // 1_000)


def watch(client: ScorerClient, seconds: float) -> list[tuple[float, int, int]]:
    """(when it was seen first, event time of its last label, examples) of each served version."""
    found: list[tuple[float, int, int]] = []
    end, version = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            info = client.model("late")
        except ScorerCallError:
            time.sleep(0.1)
            continue
        if info.version != version:
            version = info.version
            found.append((time.monotonic(), info.trained_until_us, info.examples))
        time.sleep(POLL_SECONDS)
    return found


def delays(labels: list[tuple[int, float]], served: list[tuple[float, int, int]]) -> list[float]:
    """Seconds from each label to the first served version that knows it, where there is one."""
    until = np.array([trained_until_us for _, trained_until_us, _ in served])
    first = np.searchsorted(until, [at_us for at_us, _ in labels])
    return [
        served[place][0] - produced
        for place, (_, produced) in zip(first.tolist(), labels, strict=True)
        if place < len(served)
    ]


@contextmanager
def command(verb: str, folder: Path, **environment: str) -> Iterator[None]:
    """``headwater VERB`` as long as the context; it must end well."""
    said = folder / f"{verb}.txt"
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "cli.main", verb, "--repo", str(folder)],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_SECONDS)
    assert code == 0, f"headwater {verb} ended with {code}: {said.read_text()[-1000:]}"


def measure(folder: Path, rate: int, warm_up: float, seconds: float) -> dict[str, Any]:
    """Start everything, measure, check."""
    with ExitStack() as stack:
        outside = OutsideKafka.named_in(os.environ)
        broker = KafkaBroker(folder / "kafka")
        if outside is None:
            stack.callback(broker.kill)
            broker.start()
        servers = (outside or broker).bootstrap_servers
        repository = folder / "repository"
        asked, known = make_repository(repository, servers)
        address = f"127.0.0.1:{free_ports(1)[0]}"
        both = {"HEADWATER_LOG_URL": f"kafka://{servers}", "HEADWATER_SCORER_ADDRESS": address}
        stack.enter_context(command("run", repository, **both))
        stack.enter_context(command("serve", repository, **both))
        client = stack.enter_context(ScorerClient(address, 1.0))
        mine, theirs = multiprocessing.Pipe(duplex=False)
        whole = warm_up + seconds
        context = multiprocessing.get_context("spawn")
        args = (servers, asked, known, rate, whole, theirs)
        loader = context.Process(target=load, args=args)
        loader.start()
        served = watch(client, whole + 2.0)
        sent, labels = mine.recv()
        loader.join(PATIENCE_SECONDS)
    from_us = labels[0][0] + int(warm_up * 1e6)
    found = delays([label for label in labels if label[0] >= from_us], served)
    examples = [count for _, _, count in served]
    assert examples == sorted(set(examples)), "a version did not learn more than the one before"
    assert len(found) > rate, f"only {len(found)} labels were ever served"
    quantiles = np.quantile(found, [0.5, 0.9, 0.99, 1.0]) * 1_000
    return {
        "predictions_per_second": sent / whole,
        "labels": len(found),
        "versions_served": len(served),
        **dict(zip(("p50_ms", "p90_ms", "p99_ms", "max_ms"), quantiles.tolist(), strict=True)),
    }


def reaches(figures: dict[str, Any]) -> list[Reach]:
    """What a label taught is served soon."""
    return [Reach("label produced to version served, p99 ms", figures["p99_ms"], most=2_000)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=1_000, help="predictions a second")
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=Path("build/bench/label_to_served.json"))
    options = parser.parse_args()
    load_before = load_average()
    with TemporaryDirectory(prefix="headwater-bench-") as folder:
        figures = measure(Path(folder), options.rate, options.warm_up, options.seconds)
    environment = describe(["bytewax", "river", "onnxruntime", "grpcio", "kafka-python"])
    write(
        options.output, {"environment": environment, "load_average_before": load_before, **figures}
    )
    names = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
    show(
        f"{figures['predictions_per_second']:,.0f} predictions/s, {FIELDS} fields, a version each "
        f"second; {load_line(load_before, os.cpu_count())}",
        ("label produced → served", "labels", "p50 ms", "p90 ms", "p99 ms", "max ms"),
        [
            [
                f"{figures['versions_served']} versions",
                f"{figures['labels']:,}",
                *(f"{figures[name]:.0f}" for name in names),
            ]
        ],
    )
    hold(reaches(figures))


if __name__ == "__main__":
    main()
