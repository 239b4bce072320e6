"""A shard that writes its base piece by piece can be killed at any moment."""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.online_store import SqliteConfig
from contracts.plan import Column, Plan, Topic
from contracts.settings import DataflowSettings
from dataflows import laps
from dataflows.batches import ShardInput, SourceBatch, ranks_of
from dataflows.flow.logics import ShardHandle, ShardLogic
from dataflows.flow.run_context import Places, RunContext
from dataflows.routing import ShardRouter
from dataflows.shard import Shard
from dataflows.state_files import HANDLES_KEPT, StateFiles
from dataflows.watermark import PartitionClock
from tests.windows.stream import feature, view_of

_COLUMNS = (
    Column("k", "string", False),
    Column("x", "float64", True),
    Column("s", "string", True),
)
_VIEWS = (
    view_of(feature("n", "count", 40, 10), feature("m", "max"), feature("d", "std", 600, 60)),
    view_of(feature("l", "last", column="s", column_type="string")),
)
_PLAN = Plan(
    "p",
    (Topic("t", _COLUMNS, "at", 0, "k"),),
    tuple(replace(view, name=f"v{i}", topic="t") for i, view in enumerate(_VIEWS)),
    (),
)


def _context(folder: Path) -> RunContext:
    places = Places(folder, SqliteConfig(folder / "online.db"), {}, folder, folder)
    settings = DataflowSettings.model_validate({"shards": 1})
    return RunContext(settings, places, None, threading.Event())


def _input(at: int, entities: int, rng: random.Random) -> ShardInput:
    times = at + np.arange(20)
    keys = [f"k{rng.randrange(entities)}" for _ in times]
    values = {"x": np.array([rng.random() for _ in keys]), "s": [f"s of {key}" for key in keys]}
    clock = PartitionClock(0, at + 15, at + 15, False)
    batch = SourceBatch("t", clock, ranks_of(0, times), times, times, {"k": keys, **values})
    return ShardRouter(_PLAN, 1).route(batch)[0][1]


def _content(shard: Shard) -> Any:
    """All that a shard says of itself, to be compared. None of its entities is ever let go."""
    return _plain(shard.dump()["views"])


def _plain(what: Any) -> Any:
    if isinstance(what, dict):
        return {name: _plain(one) for name, one in what.items()}
    if isinstance(what, list | tuple):
        return [_plain(one) for one in what]
    if isinstance(what, np.ndarray):
        return what.tolist()
    return _plain(vars(what)) if hasattr(what, "ranks") else what


def test_it_goes_on_from_whatever_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From each handle that may come back, with what a killed run left, nothing is missing."""
    monkeypatch.setattr(laps, "_PIECES_BYTES_MIN", 0)
    monkeypatch.setattr(laps, "_PIECES_MIN", 70)
    rng, folder = random.Random(7), tmp_path / "live"
    logic, plain = ShardLogic(_PLAN, 1, _context(folder), None), Shard(_PLAN, 0, 1)
    known: list[tuple[ShardHandle, Any]] = []
    firsts = set()
    for epoch in range(24):
        rows = _input(20 * epoch, 30 + 5 * epoch, rng)
        logic.on_batch([rows])
        plain.on_batch([rows])
        handle = logic.snapshot()
        firsts.add(handle[1][0])
        known = [*known, (handle, _content(plain))][-HANDLES_KEPT:]
        for number, (one, wanted) in enumerate(known):
            copy = tmp_path / f"{epoch}.{number}"
            shutil.copytree(folder, copy)
            # A file that was being written.
            (copy / "shards" / "0000" / "writing").write_bytes(b"HWS2 and no more")
            files = StateFiles(copy / "shards" / "0000", one[1])
            assert _content(Shard.load(_PLAN, 0, 1, files.read())) == wanted
            shutil.rmtree(copy)
        if epoch % 5 == 4:
            handle, _ = rng.choice(known[-1:])
            logic = ShardLogic(_PLAN, 1, _context(folder), handle)
    # The base went, and laps later what took its place did, and nothing is left over.
    assert len(firsts) > 8
    assert len(list(folder.rglob("*.state"))) <= len(handle[1]) + HANDLES_KEPT
