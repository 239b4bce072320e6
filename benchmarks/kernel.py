"""The window kernel alone: 9 features (count, sum, max over 3 windows), 100,000 keys, 16 shards.

No JSON, no routing, no look-up of keys, no stores: events are split over the shards beforehand.
What is timed is ``ViewState.hold`` and ``ViewState.advance``: rows wait for the watermark, are put
in order, run through the kernel, and come out as rows for the stores. A view with an offline table
gives one row for each event, and one for each moment at which a tile leaves a window; a view that
is served only gives the last of them for each entity and batch. Both are timed, in large batches
(as when catching up) and in small ones, in turn.

Before anything is timed, every row of a sample of the keys is compared with a computation from
scratch. Amounts are whole numbers, so that sums are exact and "equal" means equal.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from benchmarks._environment import describe, load_average, write
from benchmarks._table import load_line, show
from contracts.feast_bytes import entity_key
from contracts.plan import Aggregate, AggregateFunction, View
from dataflows.windows.view_state import Pending, Rows, ViewState, warm_up

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MINUTE_US = 60_000_000
# Length and hop.
WINDOWS = (
    (10 * MINUTE_US, MINUTE_US),
    (60 * MINUTE_US, 5 * MINUTE_US),
    (1_440 * MINUTE_US, 120 * MINUTE_US),
)
FUNCTIONS: tuple[AggregateFunction, ...] = ("count", "sum", "max")
BEGIN_US = 1_600_000_000_000_000
SPAN_US = 2 * 1_440 * MINUTE_US
SAMPLE_KEYS = 200
ROUNDS = 3

# Takes the number of a shard and the rows that it gave.
Sink = Callable[[int, Rows], None]


@dataclass(frozen=True)
class Stream:
    """Events in order of time, split beforehand.

    Attributes:
        times_us: int64[n].
        keys: int64[n], number of the key.
        values: float64[n].
        names: keys of each shard; a key's place in the list is its slot.
        slots: int64[keys], slot of each key.
        shards: int64[keys], shard of each key.
        batches: for each batch (watermark, one ``Pending`` for each shard).
    """

    times_us: Ints
    keys: Ints
    values: Floats
    names: list[list[bytes]]
    slots: Ints
    shards: Ints
    batches: list[tuple[int, list[Pending]]]


@dataclass
class Counter:
    """Counts rows and lets them go."""

    rows: int = 0

    def add(self, shard: int, rows: Rows) -> None:
        """As ``Sink``."""
        self.rows += len(rows.slots)


def card_view(offline_path: str) -> View:
    """Nine features of a card; without a path the view is served only."""
    aggregates = tuple(
        Aggregate(f"{function}_{window_us}", "float64", "amount", function, window_us, hop_us)
        for window_us, hop_us in WINDOWS
        for function in FUNCTIONS
    )
    return View("cards", "payments", ("card",), ("string",), aggregates, 0, offline_path)


def make_stream(events: int, keys: int, shards: int, batch_events: int) -> Stream:
    """Random events over two days, all keys equally often."""
    generator = np.random.default_rng(2013)
    times_us = BEGIN_US + np.sort(generator.integers(0, SPAN_US, events))
    key_of = generator.integers(0, keys, events)
    values = generator.integers(1, 100_000, events).astype(np.float64)
    names: list[list[bytes]] = [[] for _ in range(shards)]
    slots, shard_of = np.empty(keys, np.int64), np.empty(keys, np.int64)
    for number in range(keys):
        key = entity_key(("card",), ("string",), (f"card-{number}",))
        shard = crc32(key) % shards
        slots[number], shard_of[number] = len(names[shard]), shard
        names[shard].append(key)
    slot_of = slots[key_of]
    batches = []
    for first in range(0, events, batch_events):
        last = min(first + batch_events, events)
        # The end of the log: its last events need not wait for a later one.
        watermark_us = int(times_us[last - 1]) + (last == events)
        place = np.arange(first, last)
        here = shard_of[key_of[place]]
        mine = [place[here == shard] for shard in range(shards)]
        parts = [_pending(places, times_us, slot_of, values) for places in mine]
        batches.append((watermark_us, parts))
    return Stream(times_us, key_of, values, names, slots, shard_of, batches)


def _pending(place: Ints, times_us: Ints, slots: Ints, values: Floats) -> Pending:
    return Pending(
        slots=slots[place],
        effective_us=times_us[place],
        ranks=place,
        is_update=np.ones(len(place), np.bool_),
        event_us=times_us[place],
        values=values[place].reshape(-1, 1),
    )


def run(stream: Stream, view: View, sink: Sink) -> tuple[float, float]:
    """All events through new shards; CPU-seconds and seconds."""
    states = [ViewState(view) for _ in stream.names]
    for state, names in zip(states, stream.names, strict=True):
        state.slots(names)
    cpu, wall = time.process_time(), time.perf_counter()
    for watermark_us, parts in stream.batches:
        for shard, (state, pending) in enumerate(zip(states, parts, strict=True)):
            state.hold(pending)
            rows, _ = state.advance(watermark_us, watermark_us)
            sink(shard, rows)
    return time.process_time() - cpu, time.perf_counter() - wall


def check(stream: Stream, view: View) -> int:
    """Compare every row of a sample of the keys with brute force; how many rows were compared.

    Raises:
        AssertionError: a row is missing, too many, or has another value.
    """
    keys = len(stream.slots)
    sample = np.random.default_rng(1).choice(keys, min(SAMPLE_KEYS, keys), replace=False)
    wanted = [np.full(len(names), -1, np.int64) for names in stream.names]
    for key in sample.tolist():
        wanted[stream.shards[key]][stream.slots[key]] = key
    found: dict[int, list[tuple[int, Floats]]] = {key: [] for key in sample.tolist()}

    def keep(shard: int, rows: Rows) -> None:
        numbers = wanted[shard][rows.slots]
        for row in np.flatnonzero(numbers >= 0).tolist():
            found[int(numbers[row])].append((int(rows.stamps_us[row]), rows.values[row]))

    run(stream, view, keep)
    watermarks = np.array([watermark_us for watermark_us, _ in stream.batches])
    until_us = int(watermarks[-1])
    for key, rows in found.items():
        mine = stream.keys == key
        stamps, values = brute_force(stream.times_us[mine], stream.values[mine], until_us)
        if not view.offline_path:
            batch_of = np.searchsorted(watermarks, stamps)
            last = np.flatnonzero(np.diff(batch_of, append=len(watermarks)))
            stamps, values = [stamps[i] for i in last.tolist()], values[last]
        assert [stamp for stamp, _ in rows] == stamps, f"key {key}: rows at other moments"
        given = np.array([row for _, row in rows]).reshape(-1, values.shape[1])
        np.testing.assert_array_equal(given, values, err_msg=f"key {key}")
    return sum(len(rows) for rows in found.values())


def brute_force(times_us: Ints, amounts: Floats, until_us: int) -> tuple[list[int], Floats]:
    """Stamps of all rows of one key, and float64[rows, 9], each from all events of the key."""
    stamps = {int(at) + 1 for at in times_us}
    for window_us, hop_us in WINDOWS:
        stamps |= {int(at) // hop_us * hop_us + window_us for at in times_us}
    ordered = sorted(stamp for stamp in stamps if stamp <= until_us)
    rows = []
    for stamp in ordered:
        row: list[float] = []
        for window_us, hop_us in WINDOWS:
            oldest_us = (stamp // hop_us + 1) * hop_us - window_us
            inside = amounts[(times_us >= oldest_us) & (times_us < stamp)]
            row.append(len(inside))
            row += [inside.sum(), inside.max()] if len(inside) else [np.nan, np.nan]
        rows.append(row)
    return ordered, np.array(rows, np.float64).reshape(-1, len(WINDOWS) * len(FUNCTIONS))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures; of each the best of three rounds, the kinds taking turns."""
    warm_up()
    kinds = {
        (name, size): (card_view(path), size)
        for size in options.batch_events
        for name, path in (("with_history", "offline"), ("served_only", ""))
    }
    streams = {
        size: make_stream(options.events, options.keys, options.shards, size)
        for size in options.batch_events
    }
    compared = {kind: check(streams[size], view) for kind, (view, size) in kinds.items()}
    rounds: dict[tuple[str, int], list[tuple[float, float]]] = {kind: [] for kind in kinds}
    counts: dict[tuple[str, int], set[int]] = {kind: set() for kind in kinds}
    for _ in range(ROUNDS):
        for kind, (view, size) in kinds.items():
            counter = Counter()
            rounds[kind].append(run(streams[size], view, counter.add))
            counts[kind].add(counter.rows)
    assert all(len(rows) == 1 for rows in counts.values()), "the rounds gave other numbers of rows"
    return {
        "events": options.events,
        "keys": options.keys,
        "shards": options.shards,
        "features": len(card_view("").aggregates),
        "kinds": [
            {
                "rows_kept": name,
                "events_per_batch": size,
                "checked": {"rows": compared[name, size], "equal": True},
                "rows_out": min(counts[name, size]),
                "cpu_seconds_of_rounds": [cpu for cpu, _ in rounds[name, size]],
                "seconds_of_rounds": [wall for _, wall in rounds[name, size]],
                "events_per_cpu_second": options.events / min(rounds[name, size])[0],
                "rows_per_cpu_second": min(counts[name, size]) / min(rounds[name, size])[0],
            }
            for name, size in kinds
        ],
    }


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--batch-events", type=int, nargs="+", default=[10_000, 1_000])
    parser.add_argument("--output", type=Path, default=Path("build/bench/kernel.json"))
    options = parser.parse_args()
    load = load_average()
    figures = measure(options)
    environment = describe(["numba", "numpy"])
    write(options.output, {"environment": environment, "load_average_before": load, **figures})
    compared = sum(kind["checked"]["rows"] for kind in figures["kinds"])
    show(
        f"{figures['events']:,} events, {figures['keys']:,} keys, {figures['features']} features; "
        f"{compared:,} rows equal to brute force; " + load_line(load, os.cpu_count()),
        ("", "events per CPU-second", "rows per CPU-second", "rows"),
        [
            (
                f"{kind['rows_kept'].replace('_', ' ')}, batches of {kind['events_per_batch']:,}",
                f"{kind['events_per_cpu_second']:,.0f}",
                f"{kind['rows_per_cpu_second']:,.0f}",
                f"{kind['rows_out']:,}",
            )
            for kind in figures["kinds"]
        ],
    )


if __name__ == "__main__":
    main()
