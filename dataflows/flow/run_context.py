"""What all adapters of one run share: where things are, when to stop, and what was counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.online_store import RedisConfig, SqliteConfig
from contracts.settings import DataflowSettings
from dataflows.erasure.tombstones import Tombstones, read_tombstones

# `headwater status` reads what a run said, and need not wait for what a run imports.
if TYPE_CHECKING:
    from dataflows.flow.target import Target
    from dataflows.sources.span import Span


@dataclass(frozen=True)
class Places:
    """Where one generation of everything that the flow writes lies.

    Attributes:
        state: recovery and window state.
        online: the online store.
        offline: view name -> folder of its Parquet files.
        examples: folder with ``MODEL/examples`` and ``MODEL/outcomes``.
        models: root of the model repository.
    """

    state: Path
    online: SqliteConfig | RedisConfig
    offline: dict[str, Path]
    examples: Path
    models: Path


@dataclass(frozen=True)
class PartitionProgress:
    """Where the flow is in one partition.

    Attributes:
        offset: the next one to be read.
        newest_us: the newest event time so far, ``NOT_YET`` before the first.
        is_idle: it was read to its end and is silent, and does not hold the watermark back.
    """

    offset: int
    newest_us: int
    is_idle: bool


@dataclass
class Tally:
    """Running totals of one process, added to by all its workers."""

    events: int = 0
    started_at: float = 0.0
    bad: int = 0
    late: int = 0
    online_rows: int = 0
    offline_rows: int = 0
    versions: int = 0
    labels: int = 0
    huge: int = 0
    refused: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        """Add to totals by name; one worker at a time, or additions would be lost."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


@dataclass
class RunContext:
    """One run of the flow in this process.

    Attributes:
        target: where to stop; None to follow the log for ever.
        stop: set to end gracefully at the next batch.
        monotonic: seconds that only go forward; for the idle rule and rates.
        failures: what went wrong where nothing may be raised (while Bytewax closes a sink).
        processes: how many run this flow together.
        process: number of this one.
        backlog: numbers of the partitions of this process that are known to have more to read. A
            hint only, when to write to the online store.
        positions: partition name -> where this process is in it.
        waiting: who waits -> what for, without what to do about it. Each has a key of its own, sets
            it and takes it away with ``pop``; any thread may.
        span: rows of other event times are left out; None for all.
        on_epoch: called at the end of each epoch of each partition, by any thread.
        wall_us: microseconds since 1970 UTC; for audit entries only.
    """

    settings: DataflowSettings
    places: Places
    target: Target | None
    stop: threading.Event
    monotonic: Callable[[], float] = time.monotonic
    wall_us: Callable[[], int] = lambda: time.time_ns() // 1000
    tally: Tally = field(default_factory=Tally)
    git_commit: str = ""
    failures: list[Exception] = field(default_factory=list)
    processes: int = 1
    process: int = 0
    backlog: set[int] = field(default_factory=set)
    positions: dict[str, PartitionProgress] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    on_epoch: list[Callable[[], None]] = field(default_factory=list)
    span: Span | None = None

    @cached_property
    def tombstones(self) -> Tombstones | None:
        """Who was forgotten; None for nobody. Raise TombstoneError.

        A replay honours what the generation that it replaces does.
        """
        return read_tombstones(self.settings.state_dir)

    @property
    def workers(self) -> int:
        """Threads that run the flow, in all processes together."""
        return self.settings.workers * self.processes

    @property
    def waiting_for(self) -> str:
        """All that is waited for, each once; empty if nothing is."""
        # One step for the interpreter, whatever other threads do meanwhile.
        found = list(self.waiting.values())
        return "; ".join(dict.fromkeys(found))

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Keep an error for later: one raised in a sink's ``close`` would abort the process."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised after the run
            self.failures.append(error)
