"""How far a running dataflow is: a small file that other processes may read at any time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dataflows.flow.run_context import PartitionProgress, RunContext
from dataflows.watermark import NOT_YET

FOLDER = "progress"


@dataclass(frozen=True)
class Progress:
    """What one worker says of itself.

    Attributes:
        pid: its process.
        shards: how many shards it runs.
        online_watermark_us: the online store holds all that happened before this.
        events: good records read by the process.
        bad: records set aside as dead letters.
        late: rows that came after their partition's watermark, counted per view.
        online_rows: entity rows written to the online store.
        offline_rows: rows written to the offline tables, examples and outcomes.
        labels: predictions that got their label.
        versions: model versions published.
        seconds: since the process read its first record.
        partitions: partition name -> where this process is in it.
        waiting_for: what the flow stands still for; empty if for nothing.
        said_at_us: when this was said, by the wall clock, microseconds since 1970 UTC.
        process: number of its process, among several that run the flow together.
    """

    pid: int
    shards: int
    online_watermark_us: int
    events: int
    bad: int
    late: int
    online_rows: int
    offline_rows: int
    labels: int
    versions: int
    seconds: float
    partitions: dict[str, PartitionProgress]
    waiting_for: str
    said_at_us: int
    process: int = 0


class ProgressFile:
    """Writes the progress of one worker; any thread may."""

    def __init__(self, state: Path, worker: int | str, context: RunContext) -> None:
        """``worker`` is what no other worker of any process is called."""
        self._path = state / FOLDER / f"{worker}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._context = context
        self._lock = threading.Lock()

    def write(self, shards: int, online_watermark_us: int) -> None:
        """Replace the file in one step."""
        context = self._context
        tally = context.tally
        progress = Progress(
            pid=os.getpid(),
            shards=shards,
            online_watermark_us=online_watermark_us,
            events=tally.events,
            bad=tally.bad,
            late=tally.late,
            online_rows=tally.online_rows,
            offline_rows=tally.offline_rows,
            labels=tally.labels,
            versions=tally.versions,
            seconds=round(context.monotonic() - tally.started_at, 3) if tally.started_at else 0.0,
            partitions=dict(context.positions),
            waiting_for=context.waiting_for,
            said_at_us=context.wall_us(),
            process=context.process,
        )
        with self._lock:
            temporary = self._path.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(progress))
            temporary.replace(self._path)


def read_progress(state: Path) -> list[Progress]:
    """What all workers last said; those of a run that is over are still there."""
    files = sorted((state / FOLDER).glob("*.json"))
    return [msgspec.json.decode(path.read_bytes(), type=Progress) for path in files]


def begin_progress(context: RunContext) -> Callable[[], None]:
    """Forget what an earlier run said, and say that this one is there.

    Returns:
        What says so again, with what is waited for; to be used until the workers speak.
    """
    clear_progress(context.places.state)
    # The first worker's: what it says replaces this.
    file = ProgressFile(context.places.state, 0, context)

    def tell() -> None:
        file.write(0, NOT_YET)

    tell()
    return tell


def join_progress(context: RunContext) -> None:
    """Have this process, one of several, speak at each epoch, even if no worker of it does.

    Workers speak where they write to the online store, which not every process need do.
    """
    file = ProgressFile(context.places.state, f"process-{context.process}", context)

    def tell() -> None:
        file.write(0, NOT_YET)

    tell()
    context.on_epoch.append(tell)


def online_watermark_us(workers: Iterable[Progress]) -> int:
    """What the online store holds all up to; ``NOT_YET`` if that is not known.

    Workers without shards of their own write nothing, and hold nobody back.
    """
    return min((one.online_watermark_us for one in workers if one.shards), default=NOT_YET)


def by_process(workers: Iterable[Progress]) -> list[Progress]:
    """Of each process what was said last by any of its workers: they all tell of the whole process.

    Counts only grow, and a worker may write a little later what it looked at a little earlier. The
    wall clock decides only where nothing else does: it may be set back.
    """

    def moment(one: Progress) -> tuple[int, float, int]:
        return one.events, one.seconds, one.said_at_us

    latest: dict[int, Progress] = {}
    for one in workers:
        other = latest.get(one.process)
        if other is None or moment(one) > moment(other):
            latest[one.process] = one
    return [latest[number] for number in sorted(latest)]


def clear_progress(state: Path) -> None:
    """Forget what an earlier run said."""
    for path in (state / FOLDER).glob("*.json"):
        path.unlink(missing_ok=True)
