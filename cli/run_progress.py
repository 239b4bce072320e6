"""How far a run is, told while it runs: a live bar on a terminal, plain lines elsewhere.

A job in the background (``headwater run &``) has no bar either: it would be drawn over what its
user types.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dataflows.flow.metrics import current_progress
from dataflows.flow.progress import by_process, online_watermark_us
from dataflows.watermark import NOT_YET

if TYPE_CHECKING:
    from dataflows.replay.stretch import Stretch

_LIVE_SECONDS = 0.5
_PLAIN_SECONDS = 5.0
_STOP_SECONDS_MAX = 2.0


@dataclass(frozen=True)
class Said:
    """What is told: a line, None before there is anything to tell, and how far it is (0 to 1)."""

    line: str | None
    share: float | None = None


Look = Callable[[], Said]


@contextmanager
def watch(state: Path) -> Iterator[None]:
    """Tell of the run with that state folder as long as the context; a thread of its own does."""
    # How many records lie ahead is not known, so the bar shows that it goes on, not how far.
    with watching(lambda: Said(progress_line(state))):
        yield


@contextmanager
def watching(look: Look) -> Iterator[None]:
    """Tell what ``look`` says as long as the context; a thread of its own does."""
    console = Console(stderr=True)
    stop = threading.Event()
    tell = _tell_live if has_terminal(console) else _tell_plainly
    thread = threading.Thread(target=tell, args=(look, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_SECONDS_MAX)


def has_terminal(console: Console) -> bool:
    """Whether that is a terminal, and this process no job in its background."""
    if not console.is_terminal:
        return False
    try:
        return os.tcgetpgrp(console.file.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        # It has no jobs: nobody types there.
        return True


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


def replay_line(state: Path, stretch: Stretch) -> Said:
    """As ``progress_line``, with how much of the log is done and how long the rest will take."""
    line = progress_line(state)
    processes = by_process(current_progress(state))
    offsets = {name: one.offset for said in processes for name, one in said.partitions.items()}
    done = stretch.done(offsets)
    if line is None or done is None:
        return Said(line)
    seconds = max((said.seconds for said in processes), default=0.0)
    share = stretch.share_of_pass(offsets)
    left = f", {seconds * (1 - share) / share:,.0f} s left" if 0.0 < share < 1.0 else ""
    return Said(f"{done:.0%}{left}, {line}, pass {stretch.passes}", done)


def _shown(time_us: int) -> str:
    """An event time to the second; times outside the calendar (begin, end of the log) in words."""
    if time_us == NOT_YET:
        return "not known yet"
    try:
        return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "end of the log"


def _tell_live(look: Look, console: Console, stop: threading.Event) -> None:
    columns = (BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        while not stop.wait(_LIVE_SECONDS):
            said = look()
            if said.share is not None:
                progress.update(task, total=1.0, completed=said.share)
            if said.line is not None:
                progress.update(task, description=said.line)


def _tell_plainly(look: Look, console: Console, stop: threading.Event) -> None:
    told = ""
    while not stop.wait(_PLAIN_SECONDS):
        # At the end of a replay the folder moves away.
        line = look().line or told or "starting"
        if line != told:
            console.file.write(f"{line}\n")
            told = line
