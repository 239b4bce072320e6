"""One log gives one digest of stores, examples and models, however it is run.

In sizes of batches and epochs, in orders of reading, in numbers of workers and processes, and with
kills at random points. A view of every kind is among those that are computed.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flow import every_kind, shop
from tests.flow.processes import Runner, send, wait_for_events
from tests.integration.commands import Commands

PARTITIONS = [("orders", 0), ("orders", 1), ("orders", 2), ("visits", 0), ("outcomes", 0)]
pytestmark = pytest.mark.timeout(300)
# By name: settings, and how many processes.
Way = tuple[dict[str, Any], int]
WAYS: dict[str, Way] = {
    "batches of 1": ({"batch_records": 1}, 1),
    "batches of 1, an epoch after each": ({"batch_records": 1, "epoch_seconds": 0.0}, 1),
    "batches of 7, an epoch after each": ({"batch_records": 7, "epoch_seconds": 0.0}, 1),
    "batches of 7, side by side": ({"batch_records": 7, "alignment_seconds": 1.0}, 1),
    "batches of 1000, an epoch after each": ({"batch_records": 1000, "epoch_seconds": 0.0}, 1),
    "batches of 7, three workers": ({"batch_records": 7, "workers": 3, "epoch_seconds": 0.0}, 1),
    "batches of 1000, three workers": ({"batch_records": 1000, "workers": 3}, 1),
    "two processes": ({"batch_records": 7, "epoch_seconds": 0.0}, 2),
    "two processes of two workers": ({"batch_records": 1000, "workers": 2}, 2),
    "five shards": ({"batch_records": 50, "shards": 5, "workers": 2}, 1),
}
# What a process says of another one that was killed.
ENDS = ("is gone; start all again", "has not come within", "has not begun within")
INTERLEAVINGS: dict[int, Way] = {1: ({}, 1), 2: ({"workers": 3}, 1), 3: ({"epoch_seconds": 0.0}, 2)}


@dataclass(frozen=True)
class Gate:
    """The repository's views, the log, and the one digest that all ways must give."""

    runner: Runner
    views: list[str]
    records: list[shop.Record]
    log: Path
    digest: str
    parts: dict[str, str]
    letters: list[str]

    def check(self, log: Path, out: Path) -> None:
        """Everything that a way of running left behind is as it must be."""
        found = shop.digests(out, self.views)
        # By parts first: they say where it differs.
        assert found == self.parts
        assert one_digest(found) == self.digest
        assert letters(log) == self.letters


def one_digest(parts: dict[str, str]) -> str:
    """Of online store, offline rows, examples and models together."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def letters(log: Path) -> list[str]:
    """All dead letters, in an order that does not depend on who came first."""
    return sorted(json.dumps(one, sort_keys=True) for one in shop.dead_letters(log))


def make_records() -> list[shop.Record]:
    """Some four hundred records over an hour: with ties, late and bad ones, and silences."""
    rng = random.Random(5)
    records = [r for r in every_kind.make_records(seed=11, orders=300) if rng.random() < 0.35]
    middle_us = records[len(records) // 2].at_us
    # One partition falls silent half-way; another one has nothing at all.
    records = [r for r in records if (r.topic, r.partition) != ("orders", 1) or r.at_us < middle_us]
    good = [r for r in records if r.fields is not None]
    times = [r.fields["event_us"] for r in good if r.fields]
    assert len(good) < len(records)
    assert len(set(times)) < len(times)
    assert times != sorted(times)
    return records


def write_empty(log: Path) -> Path:
    """A log whose partitions are there and hold nothing."""
    for topic, partition in PARTITIONS:
        path = log / topic / f"{partition}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return log


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Iterator[Gate]:
    """What a plain run in one process gives, and the process that all others are forked from."""
    folder = tmp_path_factory.mktemp("gate")
    runner = Runner(commands, shop.make_repository(folder / "repository", every_kind.DEFINITIONS))
    records = make_records()
    log, out = shop.write_log(write_empty(folder / "log"), records), folder / "out"
    clean = shutil.copytree(log, folder / "clean")
    runner.start(log, out, 1)
    code, error = runner.ended()
    assert code == 0, error
    views = sorted(path.name for path in (out / "offline").iterdir())
    parts = shop.digests(out, views)
    assert len(set(parts.values())) == len(parts) > 10
    yield Gate(runner, views, records, clean, one_digest(parts), parts, letters(log))
    runner.close()


def run_to_end(gate: Gate, log: Path, out: Path, processes: int, **settings: Any) -> None:
    """One run of so many processes, which must end well."""
    pids = start(gate, log, out, 1, processes, **settings)
    for pid in pids:
        code, error = gate.runner.ended(pid)
        assert code == 0, error


def start(
    gate: Gate, log: Path, out: Path, until_end: int, processes: int, **settings: Any
) -> list[int]:
    """The processes of a run."""
    if processes == 1:
        return [gate.runner.start(log, out, until_end, **settings)]
    return gate.runner.start_several(log, out, until_end, processes, **settings)


@pytest.mark.parametrize("way", WAYS)
def test_batches_epochs_workers_and_processes(gate: Gate, tmp_path: Path, way: str) -> None:
    """Sizes of batches and epochs, workers and processes leave the digest as it is."""
    settings, processes = WAYS[way]
    log = shutil.copytree(gate.log, tmp_path / "log")
    run_to_end(gate, log, tmp_path / "out", processes, **settings)
    gate.check(log, tmp_path / "out")


@pytest.mark.parametrize("seed", INTERLEAVINGS)
def test_interleavings_of_partitions(gate: Gate, tmp_path: Path, seed: int) -> None:
    """Partitions that grow in shuffled turns while they are read leave the digest as it is."""
    rng = random.Random(seed)
    settings, processes = INTERLEAVINGS[seed]
    # Without the partition that has nothing: nobody would be read before it is taken for idle.
    log, out = shop.write_log(tmp_path / "log", []), tmp_path / "out"
    # Silence would make late what comes after it: by the wall clock, which is not the matter here.
    pids = start(gate, log, out, 0, processes, idle_timeout_seconds=3_600.0, **settings)
    good, begun = 0, set()
    for part in shuffled(gate, rng):
        shop.write_log(log, part)
        begun.add((part[0].topic, part[0].partition))
        good += sum(record.fields is not None for record in part)
        if len(begun) == len(PARTITIONS) - 1 and rng.random() < 0.5:
            assert wait_for_events(out, good, pids[0]), gate.runner.ended(pids[0])
    assert wait_for_events(out, good, pids[0])
    send(pids[-1], signal.SIGTERM)
    for pid in pids:
        assert gate.runner.ended(pid) == (0, "")
    run_to_end(gate, log, out, processes, **settings)
    gate.check(log, out)


def shuffled(gate: Gate, rng: random.Random) -> Iterator[list[shop.Record]]:
    """The log in pieces: each partition in its order, their turns shuffled."""
    rest = {
        place: [r for r in gate.records if (r.topic, r.partition) == place] for place in PARTITIONS
    }
    while rest := {place: records for place, records in rest.items() if records}:
        place = rng.choice(list(rest))
        size = rng.choice([1, 5, 40])
        yield rest[place][:size]
        rest[place] = rest[place][size:]


@pytest.mark.parametrize("seed", [1, 2])
def test_kills(gate: Gate, tmp_path: Path, seed: int) -> None:
    """Killed at random points, and gone on with by other workers and processes, it is the same."""
    rng = random.Random(seed)
    log, out = shutil.copytree(gate.log, tmp_path / "log"), tmp_path / "out"
    kills = 0
    for number in range(6):
        processes = 1 + (number + seed) % 2
        settings: dict[str, Any] = {
            "batch_records": 7,
            "workers": rng.choice([1, 3]),
            "epoch_seconds": 0.02,
            "gather_seconds": 3.0,
        }
        pids = start(gate, log, out, 1, processes, **settings)
        victim = rng.choice(pids)
        if wait_for_events(out, rng.randrange(60), victim):
            time.sleep(rng.random() * 0.1)
        send(victim, signal.SIGKILL)
        for pid in pids:
            code, error = gate.runner.ended(pid)
            kills += code == -signal.SIGKILL
            is_told = any(words in error for words in ENDS)
            assert code in (0, -signal.SIGKILL) or (code == 1 and is_told), error
    assert kills >= 3
    run_to_end(gate, log, out, 2)
    gate.check(log, out)


def test_a_digest_sees_what_it_must(gate: Gate, tmp_path: Path) -> None:
    """A log without one good record gives another digest of everything that depends on it."""
    missing = next(r for r in gate.records if r.topic == "orders" and r.fields)
    log = shop.write_log(
        write_empty(tmp_path / "log"), [r for r in gate.records if r is not missing]
    )
    run_to_end(gate, log, tmp_path / "out", 1)
    found = shop.digests(tmp_path / "out", gate.views)
    for part in ("online", "examples", "models", "shop_orders"):
        assert found[part] != gate.parts[part], part
