"""Exact windows against windows that move by hops: what the hops leave out, and what each costs.

The windows are of 10 minutes, an hour and a day, with count, sum and max of each, for cards that
are mostly silent (2.5 events a day at the default size) and for busy ones (125 a day). A window
moves in 1, 6, 12 or 60 hops of its length, or exactly. At each event the values of its card, itself
included, are those that a read just after it gets; the difference is ``(exact - hops) / exact``.

Before anything is reported, all values at all events, of all kinds, are compared with a computation
from scratch. Costs are those of the kernel alone (see ``windows``): a view that is served only, in
batches of 10,000 events, the kinds taking turns. Memory is what a process of its own takes more for
the state of all cards, its index of keys included; the snapshot is what is written of it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._environment import describe, load_average, write
from benchmarks._table import load_line, show
from benchmarks.kernel import (
    BEGIN_US,
    FUNCTIONS,
    WINDOWS,
    Counter,
    Stream,
    make_stream,
    run,
)
from contracts.plan import Aggregate, View
from dataflows.windows.view_state import Rows, ViewState, warm_up

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LENGTHS_US = tuple(length_us for length_us, _ in WINDOWS)
NAMES = ("10 min", "1 h", "24 h")
HOPS = (1, 6, 12, 60)
EXACT_TILES_MAX = 1_024
SHARDS = 16
BATCH_EVENTS = 10_000
ROUNDS = 3
# Room for the microseconds of both days beside the number of a card or slot.
_TIME_BITS = 40


@dataclass(frozen=True)
class Kind:
    """How windows move: in ``hops`` equal steps over their length, or exactly if it is 0."""

    hops: int

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.hops} hops" if self.hops else "exact"

    def hop_us(self, length_us: int) -> int:
        """The hop of a window of that length."""
        return length_us // self.hops if self.hops else 1

    def view(self, offline_path: str) -> View:
        """Nine features of a card; without a path the view is served only."""
        aggregates = tuple(
            Aggregate(f"{f}_{length}", "float64", "amount", f, length, self.hop_us(length))
            for length in LENGTHS_US
            for f in FUNCTIONS
        )
        return View(
            name="cards",
            topic="payments",
            join_keys=("card",),
            join_key_types=("string",),
            aggregates=aggregates,
            ttl_us=0,
            offline_path=offline_path,
            exact_tiles_max=0 if self.hops else EXACT_TILES_MAX,
        )


KINDS = (*(Kind(hops) for hops in HOPS), Kind(0))


def values_at_events(stream: Stream, kind: Kind) -> Floats:
    """float64[n, 9], what the state gives for each event: the row that is valid just after it."""
    found: list[list[Rows]] = [[] for _ in stream.names]
    run(stream, kind.view("offline"), lambda shard, rows: found[shard].append(rows))
    values = np.full((len(stream.keys), len(LENGTHS_US) * len(FUNCTIONS)), np.nan)
    for shard, parts in enumerate(found):
        mine = np.flatnonzero(stream.shards[stream.keys] == shard)
        stamps = [part.stamps_us for part in parts]
        known = _ids(np.concatenate([part.slots for part in parts]), np.concatenate(stamps))
        wanted = _ids(stream.slots[stream.keys[mine]], stream.times_us[mine] + 1)
        order = np.argsort(known)
        place = order[np.minimum(np.searchsorted(known[order], wanted), len(order) - 1)]
        assert (known[place] == wanted).all(), f"{kind.name}: an event gave no row"
        values[mine] = np.concatenate([part.values for part in parts])[place]
    return values


def from_scratch(stream: Stream, kind: Kind) -> Floats:
    """The same, each value from all events that are in its window."""
    order = np.lexsort((stream.times_us, stream.keys))
    keys, times_us = stream.keys[order], stream.times_us[order]
    # One more, so that a window may end at the end.
    amounts = np.append(stream.values[order], 0.0)
    known = _ids(keys, times_us)
    ends = np.arange(1, len(keys) + 1)
    columns: list[Floats] = []
    for length_us in LENGTHS_US:
        hop_us = kind.hop_us(length_us)
        oldest_us = ((times_us + 1) // hop_us + 1) * hop_us - length_us
        begins = np.searchsorted(known, _ids(keys, np.maximum(oldest_us, BEGIN_US)))
        bounds = np.column_stack([begins, ends]).ravel()
        columns.append((ends - begins).astype(np.float64))
        columns.append(np.add.reduceat(amounts, bounds)[::2])
        columns.append(np.maximum.reduceat(amounts, bounds)[::2])
    values = np.empty((len(keys), len(columns)))
    values[order] = np.column_stack(columns)
    return values


def _ids(numbers: Ints, times_us: Ints) -> Ints:
    """One number for a card or slot and a time."""
    return (numbers << _TIME_BITS) + (times_us - BEGIN_US)


def differences(hops: Floats, exact: Floats) -> dict[str, Any]:
    """By window and function: the mean and the largest difference over all events."""
    relative = (exact - hops) / exact
    return {
        window: {
            function: {"mean": float(column.mean()), "max": float(column.max())}
            for function, column in zip(FUNCTIONS, columns, strict=True)
        }
        for window, columns in zip(NAMES, np.split(relative.T, len(LENGTHS_US)), strict=True)
    }


def bytes_per_card(kind: Kind, events: int, cards: int) -> tuple[float, float]:
    """(memory, snapshot) of the state after all events, by card; in a process of its own."""
    warm_up()
    stream = make_stream(events, cards, SHARDS, BATCH_EVENTS)
    # What the kernel and numpy take when they are used first is not the state's.
    _states(make_stream(BATCH_EVENTS, 100, SHARDS, BATCH_EVENTS), kind)
    before = _resident_bytes()
    states = _states(stream, kind)
    memory = _resident_bytes() - before
    snapshot = sum(len(pickle.dumps(state.dump(), pickle.HIGHEST_PROTOCOL)) for state in states)
    return memory / cards, snapshot / cards


def _states(stream: Stream, kind: Kind) -> list[ViewState]:
    states = [ViewState(kind.view("")) for _ in stream.names]
    for state, names in zip(states, stream.names, strict=True):
        state.slots(names)
    for watermark_us, parts in stream.batches:
        for state, pending in zip(states, parts, strict=True):
            state.hold(pending)
            state.advance(watermark_us, watermark_us)
    return states


def _resident_bytes() -> int:
    gc.collect()
    # Else the state would go where something else was, and seem to take nothing.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(events: int, cards: int, kinds: Sequence[Kind]) -> dict[str, Any]:
    """Check, then measure all kinds on one stream; of the CPU time the best of three rounds."""
    stream = make_stream(events, cards, SHARDS, BATCH_EVENTS)
    exact = from_scratch(stream, Kind(0))
    lines: list[dict[str, Any]] = []
    for kind in kinds:
        values = values_at_events(stream, kind)
        np.testing.assert_array_equal(values, from_scratch(stream, kind), err_msg=kind.name)
        lines.append(
            {
                "kind": kind.name,
                "checked": {"values": values.size, "equal": True},
                "difference": differences(values, exact),
            }
        )
    rounds: list[list[float]] = [[] for _ in kinds]
    for _ in range(ROUNDS):
        for taken, kind in zip(rounds, kinds, strict=True):
            taken.append(run(stream, kind.view(""), Counter().add)[0])
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as process:
        for line, kind, taken in zip(lines, kinds, rounds, strict=True):
            memory, snapshot = process.submit(bytes_per_card, kind, events, cards).result()
            line["cpu_seconds_of_rounds"] = taken
            line["cpu_microseconds_per_event"] = min(taken) / events * 1e6
            line["memory_bytes_per_card"], line["snapshot_bytes_per_card"] = memory, snapshot
    return {"cards": cards, "events_per_card_and_day": events / cards / 2, "kinds": lines}


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--cards", type=int, nargs="+", default=[100_000, 2_000])
    parser.add_argument("--output", type=Path, default=Path("build/bench/exact.json"))
    options = parser.parse_args()
    load = load_average()
    warm_up()
    streams = [measure(options.events, cards, KINDS) for cards in options.cards]
    figures = {"events": options.events, "functions": FUNCTIONS, "streams": streams}
    environment = describe(["numba", "numpy"])
    write(options.output, {"environment": environment, "load_average_before": load, **figures})
    show(
        "mean difference at an event of count in 10 min, 1 h, 24 h, then of max in 24 h, "
        f"and the largest of count; {load_line(load, os.cpu_count())}",
        ("cards", "windows", *NAMES, "max 24 h", "largest", "CPU µs", "memory B", "snapshot B"),
        [_cells(stream["cards"], line) for stream in streams for line in stream["kinds"]],
    )


def _cells(cards: int, line: dict[str, Any]) -> list[str]:
    found = line["difference"]
    return [
        f"{cards:,}",
        line["kind"],
        *(f"{found[window]['count']['mean']:.2%}" for window in NAMES),
        f"{found['24 h']['max']['mean']:.2%}",
        f"{max(found[window]['count']['max'] for window in NAMES):.0%}",
        f"{line['cpu_microseconds_per_event']:.2f}",
        f"{line['memory_bytes_per_card']:,.0f}",
        f"{line['snapshot_bytes_per_card']:,.0f}",
    ]


if __name__ == "__main__":
    main()
