"""Bytewax's own sliding windows: one ``fold_window`` for each of the three, keyed by card.

A window gives its count, sum and maximum when it closes; those still open at the end of the file
close there. The clock is the events' own, and the system's time is held at one moment: Bytewax's
watermark moves with the system's clock too, which would make old events late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.peers.measure import Meter, count_lines, engine_arguments, report
from benchmarks.peers.results import EachWindow
from benchmarks.peers.workload import WINDOWS

_LINES = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Event = tuple[datetime, float]
Sums = tuple[float, float, float]
Closed = tuple[str, tuple[int, Sums]]


class WindowSink(DynamicSink[Closed]):
    """Counts the windows of one size, and keeps them if there is a place for them."""

    def __init__(self, window: str, results: EachWindow | None) -> None:
        self.window = window
        self.results = results
        self.rows = 0

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Closed]:
        """The only worker's part."""
        return _WindowPart(self)


class _WindowPart(StatelessSinkPartition[Closed]):
    def __init__(self, sink: WindowSink) -> None:
        self._sink = sink
        self._hop_us = WINDOWS[sink.window][1] * 1_000_000

    def write_batch(self, items: list[Closed]) -> None:
        """Count. A window's number is its start over the hop, since they are aligned to 1970."""
        self._sink.rows += len(items)
        if self._sink.results is not None:
            for card, (number, sums) in items:
                self._sink.results.add(card, self._sink.window, number * self._hop_us, sums)


def parse(lines: list[str]) -> Iterable[tuple[str, Event]]:
    """Card, and time and amount, of each line."""
    for line in lines:
        event = orjson.loads(line)
        yield event["card"], (datetime.fromisoformat(event["event_timestamp"]), event["amount"])


def nothing() -> Sums:
    """Of no event."""
    return 0.0, 0.0, -math.inf


def fold(sums: Sums, event: Event) -> Sums:
    """With one event more."""
    return sums[0] + 1, sums[1] + event[1], max(sums[2], event[1])


def merge(one: Sums, other: Sums) -> Sums:
    """Of both; only sessions need it."""
    return one[0] + other[0], one[1] + other[1], max(one[2], other[2])


def make_flow(source: Path, sinks: Mapping[str, WindowSink]) -> Dataflow:
    """File to lines to events to closed windows."""
    flow = Dataflow("peers")
    lines = op.input("lines", flow, FileSource(source, batch_size=_LINES))
    events = op.flat_map_batch("events", lines, parse)
    clock: EventClock[Event] = EventClock(
        lambda event: event[0],
        timedelta(0),
        now_getter=lambda: _EPOCH,
        # Otherwise Bytewax would want to be awake at each moment of the past.
        to_system_utc=lambda _: None,
    )
    for window, (length, hop) in WINDOWS.items():
        windower = SlidingWindower(timedelta(seconds=length), timedelta(seconds=hop), _EPOCH)
        closed = win.fold_window(
            window, events, clock, windower, nothing, fold, merge, ordered=False
        )
        op.output(f"{window}_closed", closed.down, sinks[window])
    return flow


def main() -> None:
    """Run, report, and keep the results if asked."""
    options = engine_arguments(__doc__).parse_args()
    results = EachWindow() if options.keep else None
    sinks = {window: WindowSink(window, results) for window in WINDOWS}
    events = count_lines(options.input)
    flow = make_flow(options.input, sinks)
    meter = Meter()
    with meter.work():
        run_main(flow)
    rows = sum(sink.rows for sink in sinks.values())
    emits = "each window when it closes"
    report(options.output, meter, events, rows, emits, ["bytewax", "orjson"])
    if results is not None:
        results.write(options.keep / "each_window.parquet")


if __name__ == "__main__":
    main()
