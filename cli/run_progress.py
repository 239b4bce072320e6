"""How far a run is, told while it runs: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dataflows.flow.metrics import current_progress
from dataflows.flow.progress import by_process, online_watermark_us
from dataflows.watermark import NOT_YET

_LIVE_SECONDS = 0.5
_PLAIN_SECONDS = 5.0
_STOP_SECONDS_MAX = 2.0


@contextmanager
def watch(state: Path) -> Iterator[None]:
    """Tell of the run with that state folder as long as the context; a thread of its own does."""
    console = Console(stderr=True)
    stop = threading.Event()
    tell = _tell_live if console.is_terminal else _tell_plainly
    thread = threading.Thread(target=tell, args=(state, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_SECONDS_MAX)


def progress_line(state: Path) -> str | None:
    """Events, rate and event time reached; None before the first events."""
    workers = current_progress(state)
    if not workers:
        return None
    processes = by_process(workers)
    events = sum(process.events for process in processes)
    seconds = max(process.seconds for process in processes)
    rate = events / seconds if seconds > 0 else 0.0
    waits = "; ".join(dict.fromkeys(p.waiting_for for p in processes if p.waiting_for))
    if waits:
        return f"{events:,} events, waits for {waits}"
    return (
        f"{events:,} events, {rate:,.0f} events/s, event time "
        f"{_shown(online_watermark_us(workers))}"
    )


def _shown(time_us: int) -> str:
    """An event time to the second; times outside the calendar (begin, end of the log) in words."""
    if time_us == NOT_YET:
        return "not known yet"
    try:
        return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "end of the log"


def _tell_live(state: Path, console: Console, stop: threading.Event) -> None:
    # How many records lie ahead is not known, so the bar shows that it goes on, not how far.
    columns = (BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        while not stop.wait(_LIVE_SECONDS):
            line = progress_line(state)
            if line is not None:
                progress.update(task, description=line)


def _tell_plainly(state: Path, console: Console, stop: threading.Event) -> None:
    told = ""
    while not stop.wait(_PLAIN_SECONDS):
        # At the end of a replay the folder moves away.
        line = progress_line(state) or told or "starting"
        if line != told:
            console.file.write(f"{line}\n")
            told = line
