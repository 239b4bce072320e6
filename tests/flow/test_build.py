"""How the steps of the flow share what they remember among the workers of a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from contracts.feast_bytes import entity_key
from contracts.plan import Aggregate, Column, Plan, Topic, View
from dataflows.batches import KeyedRows, SourceBatch, ranks_of, split_ranks
from dataflows.flow.build import shard_routing
from dataflows.watermark import PartitionClock

WORKERS = 3
ROWS = 500
BATCHES = 40


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    """Threads that interrupt each other far more often than they do of themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def _plan() -> Plan:
    columns = (
        Column("k", "string", nullable=False),
        Column("s", "string", nullable=True),
        Column("at", "timestamp", nullable=False),
    )
    last = Aggregate("l", "string", "s", "last", 0, 0, "string")
    view = View("v", "t", ("k",), ("string",), (last,), 0, "")
    return Plan("p", (Topic("t", columns, "at", 0, "k"),), (view,), ())


def _keyed(keys: list[str], partition: int) -> SourceBatch:
    """Rows whose text is that of their key."""
    times_us = np.arange(len(keys))
    clock = PartitionClock(partition, 0, 0, is_idle=False)
    columns = {"k": keys, "s": [f"text of {key}" for key in keys], "at": times_us.astype(float)}
    return SourceBatch("t", clock, ranks_of(partition, times_us), times_us, times_us, columns)


def _routed(rows: KeyedRows, keys: list[str]) -> list[tuple[bool, bool]]:
    """For each row whether its key and its text are those of the record it came from."""
    offsets = split_ranks(rows.ranks)[1]
    return [
        (
            rows.keys.keys[code] == entity_key(("k",), ("string",), (keys[offset],)),
            rows.texts.texts[place] == f"text of {keys[offset]}",
        )
        for code, offset, place in zip(
            rows.codes.tolist(), offsets, rows.values[:, 0].astype(int).tolist(), strict=True
        )
    ]


@pytest.mark.usefixtures("_quick_switches")
def test_workers_of_one_process_do_not_mix_up_what_their_routers_remember() -> None:
    """Threads that route new keys and texts at one time: each row keeps its own, none is lost."""
    route, together = shard_routing(_plan(), 4), Barrier(WORKERS)

    def work(worker: int) -> list[tuple[bool, bool]]:
        found = []
        together.wait(10.0)
        for number in range(BATCHES):
            keys = [f"{worker}/{number}/{i}" for i in range(ROWS)]
            for _, item in route(_keyed(keys, worker)):
                found += _routed(item.updates["v"], keys)
        return found

    with ThreadPoolExecutor(WORKERS) as pool:
        for found in pool.map(work, range(WORKERS)):
            assert found == [(True, True)] * (BATCHES * ROWS)


def test_a_worker_remembers_what_it_has_met() -> None:
    """The same thread is given the same router again, whose lists only grow."""
    route = shard_routing(_plan(), 1)
    ((_, first),) = route(_keyed(["a", "b"], 0))
    ((_, second),) = route(_keyed(["b", "c"], 0))
    assert second.updates["v"].keys is first.updates["v"].keys
    assert second.updates["v"].codes.tolist() == [1, 2]
