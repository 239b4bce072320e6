"""State of a million cards with 9 features: memory, pauses, resume, flatness, silence.

The windows are of 10 minutes, an hour and a day, with count, sum and max of each, in 16 shards that
are driven without Bytewax: rows by key in, epochs that end in snapshots as in a run. Cards are
*sparse* (two events in the day before) or *full*: each tile of each window of each card holds
something, which is the most that can be.

- Memory is what a process takes more for the state of all cards; of it that of keys is measured by
  making the lists of keys and the tables of their places alone.
- A pause is a snapshot of all shards after an epoch in which a tenth of the cards had an event. The
  last epoch is another: at a minute's end, tiles leave the windows of most full cards at once.
- Resume is what loads all shards from a base and the changes since, in a new process.
- Silence is a day without events, and the snapshots of as many epochs as there are shards.
- Flatness is the CPU time of routing and running events that are no minute apart, so that no decay
  comes between, for more and more keys; then that of a row when all of them decay. Beside it is the
  same of events that are always of the same few keys, neighbours in memory, while all the others
  are there as well: what is dearer with any keys is neither code nor tables that grow, but memory
  that is not at hand.

Values of a sample of the cards are compared with a computation from scratch before and after.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._card_shards import (
    PLAN,
    SHARDS,
    Cards,
    Floats,
    Ints,
    Sample,
    Shards,
    resident_bytes,
)
from benchmarks._environment import describe, load_average, write
from benchmarks._table import load_line, show
from benchmarks.kernel import BEGIN_US, MINUTE_US, SAMPLE_KEYS
from dataflows.batches import SourceBatch
from dataflows.routing import ShardRouter
from dataflows.watermark import PartitionClock
from dataflows.windows.names import Places
from dataflows.windows.view_state import warm_up

KINDS = ("sparse", "full")
EPOCHS = 96
FLAT_KEYS = (10_000, 100_000, 1_000_000)
FLAT_BATCHES = (10_000, 1_000)
FLAT_EVENTS = 400_000
FLAT_FEW = 10_000
ROUNDS = 3
_HOUR_US = 60 * MINUTE_US
_DAY_US = 24 * _HOUR_US
# All windows end here.
_NOW_US = (BEGIN_US // _DAY_US + 1) * _DAY_US
_CHUNK = 50_000
_FEW = 1_000
_EPOCH_US = MINUTE_US // (EPOCHS + 1)
_FOUND = "found.pickle"


def spans(kind: str) -> list[tuple[int, int]]:
    """(begin, length) of the times in each of which each card has one event."""
    if kind == "sparse":
        return [(_NOW_US - 16 * _HOUR_US, 2 * _HOUR_US), (_NOW_US - 2 * MINUTE_US, MINUTE_US)]
    return [
        *((_NOW_US - 2 * i * _HOUR_US, 2 * _HOUR_US) for i in range(11, 1, -1)),
        *((_NOW_US - 5 * i * MINUTE_US, 5 * MINUTE_US) for i in range(24, 2, -1)),
        *((_NOW_US - i * MINUTE_US, MINUTE_US) for i in range(10, 0, -1)),
    ]


def events(
    cards: Ints, begin_us: int, length_us: int, generator: np.random.Generator
) -> tuple[Ints, Floats]:
    """Times in order and amounts, one for each of these cards."""
    times_us = begin_us + np.sort(generator.integers(0, length_us, len(cards)))
    return times_us, generator.integers(1, 1_000, len(cards)).astype(np.float64)


def fill(
    kind: str, cards: int, sample: Sample, generator: np.random.Generator
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """(cards, times, amounts) of all events before ``_NOW_US``, in parts."""
    for begin_us, length_us in spans(kind):
        order = generator.permutation(cards)
        times_us, amounts = events(order, begin_us, length_us, generator)
        sample.add(order, times_us, amounts)
        for begin in range(0, cards, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            yield order[part], times_us[part], amounts[part]


def grow(kind: str, count: int, folder: Path) -> dict[str, Any]:
    """Fill all shards, and end epochs; what memory and pauses came to."""
    warm_up()
    generator = np.random.default_rng(2013)
    sample = Sample(generator.choice(count, min(SAMPLE_KEYS, count), replace=False))
    cards = Cards(count)
    # What the kernel and numpy take when they are used first is not the state's.
    _filled(folder / "first", Cards(_FEW), "full", Sample(sample.cards), generator)
    before = resident_bytes()
    shards = _filled(folder, cards, kind, sample, generator)
    # The shards keep keys of their own; what they know of these lists goes with them.
    cards = Cards(count)
    memory = resident_bytes() - before
    _check(shards, cards, sample, _NOW_US)
    shards.snapshot()
    base_bytes = _bytes_of(folder)
    pauses, now_us = [], _NOW_US
    for _ in range(EPOCHS):
        numbers = generator.choice(count, count // 10, replace=False)
        times_us, amounts = events(numbers, now_us, _EPOCH_US, generator)
        sample.add(numbers, times_us, amounts)
        now_us += _EPOCH_US
        rows = shards.run(cards.inputs(numbers, times_us, amounts, now_us))
        assert rows == len(numbers), "other cards changed as well"
        pauses.append(_timed(shards.snapshot)[:2])
    now_us = _NOW_US + MINUTE_US
    decayed = shards.run(cards.inputs(np.empty(0, np.int64), np.empty(0, np.int64), None, now_us))
    *at_hop, handles = _timed(shards.snapshot)
    checked = _check(shards, cards, sample, now_us)
    (folder / _FOUND).write_bytes(pickle.dumps((handles, sample, now_us)))
    seconds, cpu_seconds = (np.array(column) for column in zip(*pauses, strict=True))
    return {
        "checked": {"values": checked, "equal": True},
        "memory_bytes_per_card": memory / count,
        "base_bytes_per_card": base_bytes / count,
        "files_bytes_per_card": _bytes_of(folder) / count,
        "changed_per_epoch": count // 10,
        "epochs": EPOCHS,
        "pause_ms": _percentiles(seconds * 1e3),
        "pause_cpu_ms": _percentiles(cpu_seconds * 1e3),
        "hop": {"changed": decayed, "ms": at_hop[0] * 1e3, "cpu_ms": at_hop[1] * 1e3},
    }


def _filled(
    folder: Path, cards: Cards, kind: str, sample: Sample, generator: np.random.Generator
) -> Shards:
    shards = Shards(folder, [None] * SHARDS)
    for numbers, times_us, amounts in fill(kind, cards.count, sample, generator):
        shards.run(cards.inputs(numbers, times_us, amounts, int(times_us[-1]) + 1))
    return shards


def resume(count: int, folder: Path) -> dict[str, Any]:
    """Load all shards, check them, and let all cards fall silent."""
    warm_up()
    handles, sample, now_us = pickle.loads((folder / _FOUND).read_bytes())
    cards = Cards(count)
    before = resident_bytes()
    seconds, cpu_seconds, shards = _timed(partial(Shards, folder, handles))
    memory = resident_bytes() - before
    checked = _check(shards, cards, sample, now_us)
    nothing = np.empty(0, np.int64)
    now_us += _DAY_US + 2 * _HOUR_US
    for _ in range(SHARDS):
        now_us += 1
        shards.run(cards.inputs(nothing, nothing, None, now_us))
        shards.snapshot()
    silent = resident_bytes() - before
    return {
        "checked": {"values": checked, "equal": True},
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "memory_bytes_per_card": memory / count,
        "silent_bytes_per_card": silent / count,
        "silent_files_bytes_per_card": _bytes_of(folder) / count,
    }


def key_bytes(count: int) -> dict[str, float]:
    """Bytes that the keys of a card take: in a shard, and what the router remembers of it."""
    warm_up()
    before = resident_bytes()
    places = []
    for keys in Cards(count).lists:
        place = Places[bytes]()
        for begin in range(0, len(keys.keys), _CHUNK // SHARDS):
            place.of(keys.keys[begin : begin + _CHUNK // SHARDS])
        places.append(place)
    in_shards = resident_bytes() - before
    router = ShardRouter(PLAN, SHARDS)
    before = resident_bytes()
    for begin in range(0, count, _CHUNK):
        numbers = np.arange(begin, min(begin + _CHUNK, count))
        router.route(_batch(numbers, np.full(len(numbers), _NOW_US)))
    return {"in_shards": in_shards / count, "in_router": (resident_bytes() - before) / count}


def flat(count: int, folder: Path) -> dict[str, Any]:
    """CPU time of an event in batches of each size, the best of rounds; then of a decay."""
    warm_up()
    generator = np.random.default_rng(2013)
    shards, router = Shards(folder, [None] * SHARDS), ShardRouter(PLAN, SHARDS)
    met: list[Ints] = []
    for numbers, times_us, _ in fill("sparse", count, Sample(np.empty(0, np.int64)), generator):
        _through(router, shards, _batch(numbers, times_us))
        met.append(numbers)
    # Those that came first are neighbours in all tables.
    few, all_cards = met[0][:FLAT_FEW], np.arange(count)
    now_us = _NOW_US
    # Of which cards events are, and how many are in a batch.
    kinds = [(among, size) for among in (count, FLAT_FEW) for size in FLAT_BATCHES]
    step_us = MINUTE_US // (ROUNDS * len(kinds) * FLAT_EVENTS + 1)
    rounds: dict[tuple[int, int], list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for (among, size), costs in rounds.items():
            taken = 0.0
            for _ in range(FLAT_EVENTS // size):
                # Each card once, or fewer entities would run where there are few.
                cards = few if among == FLAT_FEW else all_cards
                numbers = generator.choice(cards, size, replace=False, shuffle=False)
                batch = _batch(numbers, now_us + step_us * np.arange(size))
                now_us += step_us * size
                taken += _timed(partial(_through, router, shards, batch))[1]
            costs.append(taken / FLAT_EVENTS * 1e6)
    # The minute of the first events leaves the shortest window.
    nothing = _batch(np.empty(0, np.int64), np.empty(0, np.int64), _NOW_US + 9 * MINUTE_US)
    _, cpu_seconds, rows = _timed(partial(_through, router, shards, nothing))
    return {
        "keys": count,
        "cpu_microseconds_per_event": {
            str(size): min(rounds[count, size]) for size in FLAT_BATCHES
        },
        "of_the_same_few": {str(size): min(rounds[FLAT_FEW, size]) for size in FLAT_BATCHES},
        "of_rounds": {f"{size} of {among}": costs for (among, size), costs in rounds.items()},
        "rows_of_decay": rows,
        "cpu_microseconds_per_row_of_decay": cpu_seconds / max(rows, 1) * 1e6,
    }


def _best(rounds: dict[tuple[int, int], list[float]], among: int) -> dict[str, float]:
    return {str(size): min(rounds[among, size]) for size in FLAT_BATCHES}


def _through(router: ShardRouter, shards: Shards, batch: SourceBatch) -> int:
    return shards.run([one for _, one in router.route(batch)])


def _batch(numbers: Ints, times_us: Ints, watermark_us: int = 0) -> SourceBatch:
    """Strings are new ones, as decoded records have them."""
    end_us = watermark_us or int(times_us[-1]) + 1
    columns = {
        "card": [f"card-{number}" for number in numbers.tolist()],
        "amount": np.ones(len(numbers)),
    }
    clock = PartitionClock(0, end_us, end_us, is_idle=False)
    return SourceBatch("payments", clock, np.arange(len(numbers)), times_us, times_us, columns)


def _check(shards: Shards, cards: Cards, sample: Sample, at_us: int) -> int:
    """How many values were compared with those from scratch."""
    values = sample.values(at_us)
    np.testing.assert_array_equal(shards.read(cards, sample.cards, at_us), values)
    return values.size


def _timed(what: Callable[[], Any]) -> tuple[float, float, Any]:
    """(seconds, CPU-seconds, what came of it)."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = what()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def _percentiles(values: Floats) -> dict[str, float]:
    points = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    return {name: float(np.percentile(values, point)) for name, point in points.items()}


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.state"))


def measure(count: int) -> dict[str, Any]:
    """All figures, each kind in processes of its own."""
    found: dict[str, Any] = {"cards": count, "shards": SHARDS}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as process:
        found["key_bytes_per_card"] = process.submit(key_bytes, count).result()
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                found[kind] = process.submit(grow, kind, count, folder).result()
                found[kind]["resume"] = process.submit(resume, count, folder).result()
        found["flat"] = []
        for keys in FLAT_KEYS:
            with tempfile.TemporaryDirectory() as name:
                found["flat"].append(process.submit(flat, keys, Path(name)).result())
    return found


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cards", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("build/bench/state.json"))
    options = parser.parse_args()
    load = load_average()
    figures = measure(options.cards)
    environment = describe(["numba", "numpy"])
    after = load_average()
    loads = {"load_average_before": load, "load_average_after": after}
    write(options.output, {"environment": environment, **loads, **figures})
    show(
        f"{options.cards:,} cards, {options.cards // 10:,} changed per epoch; "
        + load_line(load, os.cpu_count()),
        ("", *KINDS),
        [(name, *(cell(figures[kind]) for kind in KINDS)) for name, cell in _LINES],
    )
    show(
        "CPU microseconds of an event in batches of so many, of any keys and of the same "
        f"{FLAT_FEW:,}; and of a row of decay",
        ("keys", *(f"{size:,}{of}" for of in ("", " same") for size in FLAT_BATCHES), "decay"),
        [
            (
                f"{line['keys']:,}",
                *(f"{cost:.2f}" for cost in line["cpu_microseconds_per_event"].values()),
                *(f"{cost:.2f}" for cost in line["of_the_same_few"].values()),
                f"{line['cpu_microseconds_per_row_of_decay']:.2f}",
            )
            for line in figures["flat"]
        ],
    )


def _pause(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda kind: " / ".join(f"{kind[name][point]:.0f}" for point in ("p50", "p99", "max"))


_LINES: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("memory, bytes a card", lambda kind: f"{kind['memory_bytes_per_card']:.0f}"),
    ("base, bytes a card", lambda kind: f"{kind['base_bytes_per_card']:.0f}"),
    ("pause, ms: p50 / p99 / max", _pause("pause_ms")),
    ("pause, CPU ms: p50 / p99 / max", _pause("pause_cpu_ms")),
    ("cards changed at a minute's end", lambda kind: f"{kind['hop']['changed']:,}"),
    ("pause then, ms", lambda kind: f"{kind['hop']['ms']:.0f}"),
    ("resume, seconds", lambda kind: f"{kind['resume']['seconds']:.1f}"),
    ("memory then", lambda kind: f"{kind['resume']['memory_bytes_per_card']:.0f}"),
    ("silent, bytes a card", lambda kind: f"{kind['resume']['silent_bytes_per_card']:.0f}"),
)


if __name__ == "__main__":
    main()
