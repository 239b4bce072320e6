"""Bytewax by hand, the way one would write it: each event to its card, ``stateful_map`` with tiles.

A state for each card, keyed by its name; lines are read and parsed in batches, so that Bytewax's
cost for each item is paid where it belongs: in the keyed step.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import bytewax.operators as op
import orjson
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.peers.measure import Meter, engine_arguments, report
from benchmarks.peers.results import EachEvent
from benchmarks.peers.tiles import CardTiles, to_micros

_LINES = 1_000
Event = tuple[int, float]
Row = tuple[str, tuple[int, tuple[float, ...]]]


class RowSink(DynamicSink[Row]):
    """Counts rows, and keeps them if there is a place for them."""

    def __init__(self, results: EachEvent | None) -> None:
        self.results = results
        self.rows = 0

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Row]:
        """The only worker's part."""
        return _RowPart(self)


class _RowPart(StatelessSinkPartition[Row]):
    def __init__(self, sink: RowSink) -> None:
        self._sink = sink

    def write_batch(self, items: list[Row]) -> None:
        """Count."""
        self._sink.rows += len(items)
        if self._sink.results is not None:
            for card, (time_us, values) in items:
                self._sink.results.add(card, time_us, values)


def parse(lines: list[str]) -> Iterable[tuple[str, Event]]:
    """Card, and time and amount, of each line."""
    for line in lines:
        event = orjson.loads(line)
        yield event["card"], (to_micros(event["event_timestamp"]), event["amount"])


def add(
    tiles: CardTiles | None, event: Event
) -> tuple[CardTiles, tuple[int, tuple[float, ...]]]:  # as ``stateful_map`` wants it
    """The card's new state, and its nine values."""
    if tiles is None:
        tiles = CardTiles()
    time_us, amount = event
    return tiles, (time_us, tiles.add(time_us, amount))


def make_flow(source: Path, sink: RowSink) -> Dataflow:
    """File to lines to events to rows."""
    flow = Dataflow("peers")
    lines = op.input("lines", flow, FileSource(source, batch_size=_LINES))
    events = op.flat_map_batch("events", lines, parse)
    op.output("rows", op.stateful_map("tiles", events, add), sink)
    return flow


def main() -> None:
    """Run, report, and keep the results if asked."""
    options = engine_arguments(__doc__).parse_args()
    sink = RowSink(EachEvent() if options.keep else None)
    flow = make_flow(options.input, sink)
    meter = Meter()
    with meter.work():
        run_main(flow)
    report(options.output, meter, sink.rows, sink.rows, "9 values per event", ["bytewax", "orjson"])
    if sink.results is not None:
        sink.results.write(options.keep / "each_event_hops.parquet")


if __name__ == "__main__":
    main()
