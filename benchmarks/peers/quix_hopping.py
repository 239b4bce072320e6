"""Quix Streams' hopping windows, from a real Kafka, with its state in RocksDB and a changelog.

A window ``[start, start + length)`` begins at every multiple of the hop, and every event is in
``length / hop`` of them: it updates them all, and each update comes out at once (``current``). All
settings are Quix's own. The broker is started for the run, and its CPU time is not counted; the
events are in the log, with their times as the times of the messages, before the work begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Sum
from quixstreams.models import TopicConfig

from benchmarks.peers.measure import Meter, engine_arguments, report
from benchmarks.peers.results import EachWindow
from benchmarks.peers.tiles import to_micros
from benchmarks.peers.workload import WINDOWS
from tests.services.kafka import FOR_LONG, KafkaBroker

TOPIC = "payments"
# An application that got all its events ends at once; this is for one that does not.
SILENCE_SECONDS_MAX = 60.0
# Events are of a day long ago.
KEEP_ALL = {"log.retention.ms": "-1"}

# Card, window and start in milliseconds: count, sum and maximum.
Found = dict[tuple[str, str, int], tuple[float, float, float]]


class Updates:
    """Takes what comes out: counts it, and keeps the last value of each window if asked."""

    def __init__(self, found: Found | None) -> None:
        self._found = found
        self.rows = 0

    def of(self, window: str) -> Any:
        """What Quix calls with each update of a window of this kind."""

        def take(value: dict[str, Any], key: bytes, timestamp: int, headers: Any) -> None:
            self.rows += 1
            if self._found is not None:
                values = (value["count"], value["sum"], value["max"])
                self._found[key.decode(), window, value["start"]] = values

        return take


def main() -> None:
    """Run, report, and keep the results if asked."""
    options = engine_arguments(__doc__).parse_args()
    found: Found | None = {} if options.keep else None
    updates, meter = Updates(found), Meter()
    with TemporaryDirectory(prefix="headwater-quix-") as name, _kafka(Path(name)) as servers:
        application = Application(
            broker_address=servers,
            consumer_group="features",
            auto_offset_reset="earliest",
            state_dir=Path(name) / "state",
            loglevel="ERROR",
        )
        events = _produce(application, options.input)
        _declare(application, updates)
        wanted = events * sum(length // hop for length, hop in WINDOWS.values())
        with meter.work():
            application.run(count=wanted, timeout=SILENCE_SECONDS_MAX, collect=False)
    emits = "3 values of each window of an event, at the event"
    report(options.output, meter, events, updates.rows, emits, ["quixstreams"])
    if found is not None:
        results = EachWindow()
        for (card, window, start_ms), values in found.items():
            results.add(card, window, start_ms * 1_000, values)
        results.write(options.keep / "each_window.parquet")


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    """The address of a broker that is there as long as the context."""
    broker = KafkaBroker(folder / "kafka", properties=KEEP_ALL, java_options=FOR_LONG)
    broker.start()
    try:
        yield broker.bootstrap_servers
    finally:
        broker.kill()


def _produce(application: Application, source: Path) -> int:
    """Put all lines into the topic, which has one partition; how many there are."""
    config = TopicConfig(num_partitions=1, replication_factor=1)
    topic = application.topic(TOPIC, config=config)
    count = 0
    with application.get_producer() as producer, source.open("rb") as lines:
        for line in lines:
            event = orjson.loads(line)
            time_ms = to_micros(event["event_timestamp"]) // 1_000
            producer.produce(topic.name, line.rstrip(), event["card"].encode(), timestamp=time_ms)
            count += 1
    return count


def _declare(application: Application, updates: Updates) -> None:
    """Three kinds of windows of the same stream."""
    payments = application.dataframe(application.topic(TOPIC))
    for window, (length, hop) in WINDOWS.items():
        payments.hopping_window(timedelta(seconds=length), timedelta(seconds=hop)).agg(
            count=Count(), sum=Sum("amount"), max=Max("amount")
        ).current().update(updates.of(window), metadata=True)


if __name__ == "__main__":
    main()
