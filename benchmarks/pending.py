"""A million predictions that wait for their label: memory, time, what an epoch and a resume cost.

First it is checked that what is read back from files is what was there. Then, in steady state,
each call brings as many new predictions as labels for random ones that wait, and every so many rows
the state is written as the dataflow writes it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._environment import describe, load_average, write
from benchmarks._reach import Reach, hold
from dataflows.learning import pending_kernel as kernel
from dataflows.learning.learner import REMEMBERED_MAX
from dataflows.learning.pending import Pending
from dataflows.learning.pending_types import Rules
from dataflows.state_files import Handle, StateFiles

WIDTH = 20
CALL_ROWS = 1_000
HOUR_US = 3_600_000_000
NEVER_US = 2**60
PAGE_BYTES = resource.getpagesize()


class World:
    """A store that is fed, with a name and a time for each prediction ever made."""

    def __init__(self) -> None:
        self.pending = empty()
        self.made = 0
        self.generator = np.random.default_rng(6)
        self.known = np.ones(1, np.int8)
        self.vectors = self.generator.normal(size=(CALL_ROWS, WIDTH))
        self.seconds = {"put": 0.0, "take": 0.0}
        self.waiting = np.empty(0, np.int64)

    def call(self, predictions: int, labels: np.ndarray[Any, Any], what: str) -> None:
        """New predictions, then labels for those with these numbers."""
        now_us = 1_000 * (self.made + 1)
        keys = [_key(number) for number in range(self.made, self.made + predictions)]
        label_keys = [_key(number) for number in labels.tolist()]
        self.made += predictions
        nothing = np.zeros(len(labels), np.int64)
        started = time.process_time()
        call = self.pending.begin(
            keys, np.full(predictions, now_us - 2), self.vectors[:predictions],
            label_keys, np.full(len(labels), now_us - 1), nothing, self.known, now_us,
        )  # fmt: skip
        for events in self.pending.walk(call):
            done = events.kinds == kernel.LABELLED
            self.pending.rows.release(events.slots[done])
        self.seconds[what] += time.process_time() - started
        assert (call.fates == kernel.MATCHED).all()

    def fill(self, count: int) -> None:
        """Have so many waiting."""
        while self.made < count:
            self.call(min(CALL_ROWS, count - self.made), np.empty(0, np.int64), "put")

    def turn(self, rows: int) -> None:
        """Labels for random predictions that wait, and as many new ones."""
        for _ in range(rows // CALL_ROWS):
            chosen = self.generator.choice(len(self.waiting), CALL_ROWS, replace=False)
            labels = self.waiting[chosen]
            self.call(0, labels, "take")
            first = self.made
            self.call(CALL_ROWS, np.empty(0, np.int64), "put")
            self.waiting[chosen] = np.arange(first, self.made)


class Files:
    """State in files, as the dataflow's ``ModelLogic`` keeps it."""

    def __init__(self, folder: Path, handle: Handle | None = None) -> None:
        self.files = StateFiles(folder, handle)
        self.numbers: dict[int, int] = {}

    def save(self, pending: Pending) -> Handle:
        """Write what is new."""
        saved = pending.save()
        known = self.numbers | {n: self.files.write_part(part) for n, part in saved.new.items()}
        self.numbers = {name: known[name] for name in saved.parts}
        return self.files.write_head(saved.head, list(self.numbers.values()))


def empty() -> Pending:
    """A store of nothing."""
    return Pending(WIDTH, Rules(HOUR_US * 10_000, NEVER_US, 1, 256, REMEMBERED_MAX, 1))


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def measure(count: int, epochs: int, epoch_rows: int, folder: Path) -> dict[str, Any]:
    """All figures."""
    World().fill(2 * CALL_ROWS)  # compiles what is not in numba's cache
    world = World()
    before = resident_bytes()
    world.fill(count)
    each_bytes = (resident_bytes() - before) / count
    world.waiting = np.arange(count)
    put_us = world.seconds["put"] / count * 1e6
    files = Files(folder)
    started = time.perf_counter()
    files.save(world.pending)
    first_seconds = time.perf_counter() - started
    world.seconds = {"put": 0.0, "take": 0.0}
    pauses, used, written = [], [], []
    for _ in range(epochs):
        world.turn(epoch_rows)
        known = set(folder.iterdir())
        started, cpu = time.perf_counter(), time.process_time()
        handle = files.save(world.pending)
        pauses.append(time.perf_counter() - started)
        used.append(time.process_time() - cpu)
        written.append(sum(path.stat().st_size for path in set(folder.iterdir()) - known))
    rows = epochs * epoch_rows
    steady_bytes = (resident_bytes() - before) / count
    started = time.perf_counter()
    head, *parts = StateFiles(folder, handle).read()
    read_back = Pending.load(empty(), head, parts)
    resume_seconds = time.perf_counter() - started
    check_equal(world.pending, read_back)
    disk = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "waiting": count,
        "fields": WIDTH,
        "remembered": world.pending.remembered,
        "bytes_each": each_bytes,
        "bytes_each_after_steady_state": steady_bytes,
        "put_cpu_us": put_us,
        "steady_put_cpu_us": world.seconds["put"] / rows * 1e6,
        "steady_take_cpu_us": world.seconds["take"] / rows * 1e6,
        "epoch_rows": epoch_rows,
        "epochs": epochs,
        "first_epoch_seconds": first_seconds,
        "epoch_ms_median": float(np.median(pauses)) * 1e3,
        "epoch_ms_max": max(pauses) * 1e3,
        "epoch_cpu_ms_median": float(np.median(used)) * 1e3,
        "epoch_cpu_ms_max": max(used) * 1e3,
        "epoch_bytes_median": float(np.median(written)),
        "files": len(parts) + 1,
        "disk_bytes_each": disk / count,
        "resume_seconds": resume_seconds,
    }


def check_equal(ours: Pending, read: Pending) -> None:
    """Raise AssertionError unless both hold the same."""
    assert (ours.waiting, ours.remembered) == (read.waiting, read.remembered)
    slots, others = ours.newest(ours.waiting), read.newest(read.waiting)
    assert (ours.rows.keys[slots] == read.rows.keys[others]).all()
    for begin in range(0, len(slots), 100_000):
        part = slice(begin, begin + 100_000)
        np.testing.assert_array_equal(ours.rows.rows[slots[part]], read.rows.rows[others[part]])


def _key(number: int) -> str:
    return f"flight-{number:013d}"  # 20 characters


def reaches(figures: dict[str, Any]) -> list[Reach]:
    """A million vectors wait on a small machine."""
    names = ("bytes_each", "bytes_each_after_steady_state", "disk_bytes_each")
    return [Reach(name, figures[name], most=1_024) for name in names]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--epoch-rows", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path("build/bench/pending.json"))
    options = parser.parse_args()
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.waiting, options.epochs, options.epoch_rows, Path(folder) / "s")
    environment = describe(["numba", "numpy"])
    write(options.output, {"environment": environment, "load_average": load, **figures})
    for name, value in figures.items():
        print(f"{name:32} {value:,.2f}")
    hold(reaches(figures))


if __name__ == "__main__":
    main()
