"""Shards let rows gather while there is more to read, but nobody waits for ever."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from contracts.online_store import SqliteConfig
from contracts.plan import Column, Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.batches import ShardInput, SourceBatch, ranks_of
from dataflows.flow.logics import ShardLogic
from dataflows.flow.run_context import Places, RunContext
from dataflows.routing import ShardRouter
from dataflows.watermark import PartitionClock
from tests.windows.stream import feature, view_of

_TOPIC = Topic("t", (Column("k", "string", False), Column("x", "float64", True)), "at", 0, "k")
_PLAN = Plan("p", (_TOPIC,), (replace(view_of(feature("n", "count")), name="v"),), ())


def _logic(folder: Path) -> tuple[ShardLogic, RunContext]:
    places = Places(folder, SqliteConfig(folder / "online.db"), {}, folder, folder)
    context = RunContext(DataflowSettings.model_validate({}), places, None, threading.Event())
    return ShardLogic(_PLAN, 1, context, None), context


def _input(first: int, rows: int) -> ShardInput:
    times = np.arange(first, first + rows)
    batch = SourceBatch(
        "t",
        PartitionClock(0, first + rows, first + rows, False),
        ranks_of(0, times),
        times,
        times,
        {"k": ["a"] * rows, "x": np.ones(rows)},
    )
    return ShardRouter(_PLAN, 1).route(batch)[0][1]


def test_rows_are_run_at_once_when_there_is_no_backlog(tmp_path: Path) -> None:
    """What comes in live is run with the batch that brings it."""
    logic, _ = _logic(tmp_path)
    (output,), _ = logic.on_batch([_input(1, 10)])
    assert output.rows["v"].rows.values[-1].tolist() == [10.0]
    assert logic.notify_at() is None


def test_many_rows_are_run_though_there_is_a_backlog(tmp_path: Path) -> None:
    """Some thousands of rows are enough."""
    logic, context = _logic(tmp_path)
    context.backlog.add(7)
    assert logic.on_batch([_input(1, 4_000)]) == ((), False)
    (output,), _ = logic.on_batch([_input(5_000, 4_000)])
    assert output.rows["v"].rows.values[-1].tolist() == [8_000.0]
    assert logic.notify_at() is None


def test_a_backlog_that_does_not_end_holds_nothing_back(tmp_path: Path) -> None:
    """A few rows are run a fraction of a second later, whether anything comes or not."""
    logic, context = _logic(tmp_path)
    context.backlog.add(7)
    assert logic.on_batch([_input(1, 10)]) == ((), False)
    first = logic.notify_at()
    assert first is not None
    assert first < datetime.now(UTC) + timedelta(seconds=1)
    # What comes meanwhile does not put it off.
    assert logic.on_batch([_input(20, 10)]) == ((), False)
    assert logic.notify_at() == first
    (output,), _ = logic.on_notify()
    assert output.rows["v"].rows.values[-1].tolist() == [20.0]
    assert logic.notify_at() is None
    assert logic.on_notify() == ((), False)
