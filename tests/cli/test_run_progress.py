"""What ``headwater run`` tells of itself while it runs."""

from __future__ import annotations

import threading
from pathlib import Path

from cli.run_progress import progress_line
from contracts.online_store import SqliteConfig
from contracts.settings import DataflowSettings
from dataflows.flow.progress import begin_progress
from dataflows.flow.run_context import Places, RunContext


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
