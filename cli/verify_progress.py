"""How far a verification is: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dataflows.verify.reading import Progress as Read
from dataflows.verify.report import time_text
from dataflows.watermark import NOT_YET

_PLAIN_SECONDS = 5.0
_STAGES = {"prediction log": "Reading what was served", "log": "Replaying the log"}


@contextmanager
def shown_progress() -> Iterator[Callable[[str, Read], None]]:
    """What is told to the function is shown on stderr as long as the context."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    told_at = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:

        def told(stage: str, read: Read) -> None:
            nonlocal told_at
            if console.is_terminal:
                if stage not in tasks:
                    tasks[stage] = progress.add_task(_STAGES[stage])
                line = f"{_STAGES[stage]}: {_line(read)}"
                progress.update(
                    tasks[stage], total=read.total, completed=read.done, description=line
                )
            elif time.monotonic() - told_at > _PLAIN_SECONDS:
                told_at = time.monotonic()
                console.file.write(
                    f"{_STAGES[stage]}: {read.done / max(read.total, 1):.0%}, {_line(read)}\n"
                )

        yield told


def _line(read: Read) -> str:
    line = f"{read.events:,} records"
    if read.watermark_us != NOT_YET:
        line += f", event time {time_text(read.watermark_us)[:19]}"
    return line
