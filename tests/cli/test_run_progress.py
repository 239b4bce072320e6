"""What ``headwater run`` tells of itself while it runs."""

from __future__ import annotations

import threading
from pathlib import Path

from cli.run_progress import progress_line, replay_line
from contracts.online_store import SqliteConfig
from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.flow.progress import begin_progress
from dataflows.flow.run_context import PartitionProgress, Places, RunContext
from dataflows.flow.target import cut_at_end
from dataflows.replay.stretch import Stretch
from dataflows.sources.plan_log import FilePlanLog


def test_what_a_run_waits_for_is_told(tmp_path: Path) -> None:
    """While the flow stands still its line says why; otherwise how far it is."""
    places = Places(tmp_path, SqliteConfig(tmp_path / "online.db"), {}, tmp_path, tmp_path)
    settings = DataflowSettings.model_validate({})
    context = RunContext(settings, places, None, threading.Event())
    tell = begin_progress(context)
    context.waiting["kernel"] = "the windows to be compiled"
    tell()
    assert progress_line(tmp_path) == "0 events, waits for the windows to be compiled"
    context.waiting.clear()
    tell()
    line = progress_line(tmp_path)
    assert line is not None
    assert line.startswith("0 events, 0 events/s, event time not known yet")


def test_a_replay_tells_how_much_is_left(tmp_path: Path) -> None:
    """The share of the whole log, and of this pass the seconds at its own rate."""
    log = FilePlanLog(_log(tmp_path / "log", 1_000), PLAN)
    stretch = Stretch()
    assert stretch.done({}) is None
    stretch.noting(cut_at_end)(log)
    places = Places(tmp_path / "s", SqliteConfig(tmp_path / "o.db"), {}, tmp_path, tmp_path)
    context = RunContext(
        DataflowSettings.model_validate({}), places, None, threading.Event(),
        monotonic=lambda: 10.0,
    )  # fmt: skip
    tell = begin_progress(context)
    context.positions["orders/0"] = PartitionProgress(200, 0, is_idle=False)
    tell()
    assert replay_line(places.state, stretch).share == 0.2
    context.positions["orders/0"] = PartitionProgress(600, 0, is_idle=False)
    context.tally.events, context.tally.started_at = 60, 1e-9
    tell()
    said = replay_line(places.state, stretch)
    assert said.share == 0.6
    assert said.line is not None
    # Half of what it had before it when it was first looked at, in ten seconds.
    assert said.line.startswith("60%, 10 s left, 60 events, 6 events/s, event time not known yet")
    stretch.noting(cut_at_end)(log)
    assert "pass 2" in (replay_line(places.state, stretch).line or "")


PLAN = Plan("p", (Topic("orders", (), "t", 0, "k"),), (), ())


def _log(folder: Path, size: int) -> Path:
    path = folder / "orders" / "0.ndjson"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    return folder
