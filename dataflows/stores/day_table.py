"""Append-only tables of one Parquet file per day, exact after a crash.

Rows of a day are held until the watermark has passed its end; then the day's file is written once.
Until then ``snapshot`` keeps them in an append-only Arrow log beside the state, and returns a small
handle. Resuming from a handle truncates the logs and takes back every later change, so that
replaying the rows that came after it ends in the same files as never having crashed.

A row for a day that is closed already opens it again: its file is read back, with all its rows.
Before the file changes it is kept as a *base*, until no handle from before that time can come back.

In memory are the rows of days the watermark has not closed (normally one or two days of rows) and
of at most four closed days that are being written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.stores.day_files import (
    US_PER_DAY,
    DayTableError,
    TableSpec,
    append_log,
    day_name,
    day_number,
    read_day,
    restore_log,
    write_day,
)

__all__ = ["DayTable", "DayTableError", "Handle", "TableSpec"]

_WRITES_MAX = 4
# A handle is durable by the time of the second snapshot after it, so the two last ones can come
# back; files that only an older one needs go.
_SNAPSHOTS_KEPT = 3


@dataclass(frozen=True)
class Handle:
    """Where to resume; small, picklable.

    Attributes:
        sequence: how many snapshots the table had before this one.
        closed_before: days before this one (counted from 1970-01-01) were closed.
        logs: name of the log -> its length in bytes, for every open day.
        forgotten: which tombstones the rows have heard of, see ``DayTable.forget``.
    """

    sequence: int
    closed_before: int
    logs: dict[str, int]
    forgotten: tuple[str, int] = ("", 0)


@dataclass
class _OpenDay:
    """Rows of a day that is not closed: those in the log (or to be read there), and later ones."""

    logged: list[pa.RecordBatch] = field(default_factory=list)
    pending: list[pa.RecordBatch] = field(default_factory=list)
    log: str = ""
    length: int = 0
    published_rows: int = 0
    rows: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.pending.append(batch)
        self.rows += batch.num_rows


class DayTable:
    """One table. All methods are called from one thread; only Parquet is written elsewhere.

    Attributes:
        forgotten: which tombstones its rows have heard of.
    """

    def __init__(
        self,
        spec: TableSpec,
        wal_dir: Path,
        handle: Handle | None = None,
        writer: Executor | None = None,
    ) -> None:
        """Open the table as it was at ``handle``, or anew.

        With a handle, files of days after it are removed; their rows come again. Without one, the
        files that are there stay until rows of their day come, and are replaced then.

        Args:
            spec: what the table holds.
            wal_dir: where logs live, in a folder of the table's name. Nobody else writes there.
            handle: the latest ``snapshot`` that is known to be durable.
            writer: runs the writing of Parquet; None writes in the calling thread.

        Raises:
            DayTableError: the logs do not fit the handle.
        """
        self._spec = spec
        self._wal = wal_dir / spec.name
        self._writer = writer
        self._writes: dict[int, Future[None]] = {}
        self._days: dict[int, _OpenDay] = {}
        self._sequence = 0
        self._closed_before = -(2**31)
        self._retired: list[tuple[int, str]] = []
        self.forgotten = ("", 0) if handle is None else handle.forgotten
        self._wal.mkdir(parents=True, exist_ok=True)
        spec.path.mkdir(parents=True, exist_ok=True)
        for temporary in spec.path.glob(".*.parquet.tmp"):
            temporary.unlink()
        if handle is not None:
            self._resume(handle)
        else:
            # What was killed before its first snapshot may have added to closed days.
            self._restore_bases()
        kept = handle.logs if handle is not None else {}
        # Newest first: dying in between must not leave a later base without its earlier one.
        for file in sorted(self._wal.iterdir(), key=_sequence_of, reverse=True):
            if file.name not in kept:
                file.unlink()

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows of any days, in any order. They are durable after the next ``snapshot``.

        Raises:
            ValueError: the batch has other columns than the table, or a null time.
            DayTableError: an earlier write failed, or a closed day cannot be read back.
        """
        if batch.schema != self._spec.schema:
            raise ValueError(f"table {self._spec.name!r} wants {self._spec.schema}")
        times = batch.column(self._spec.time_column)
        if times.null_count:
            raise ValueError(f"{self._spec.name}.{self._spec.time_column} has a null")
        if not batch.num_rows:
            return
        days = times.cast(pa.int64()).to_numpy() // US_PER_DAY
        for day in np.unique(days).tolist():
            part = batch if (days == day).all() else batch.filter(pa.array(days == day))
            opened = self._days.get(day) or self._open(day)
            opened.add(part)

    def advance(self, watermark_us: int) -> None:
        """Close every day that ends at or before the watermark: its file is final.

        Raises:
            DayTableError: a file could not be written (perhaps an earlier one).
        """
        self._closed_before = max(self._closed_before, watermark_us // US_PER_DAY)
        for day in sorted(day for day in self._days if day < self._closed_before):
            closed = self._days.pop(day)
            self._write(day, closed)
            if closed.log:
                self._retired.append((self._sequence, closed.log))

    def publish_open(self) -> None:
        """Write files of open days too, so that readers see the rows there are so far.

        Files are replaced as a whole, and only where rows came since the last time.

        Raises:
            DayTableError: a file could not be written.
        """
        for day, opened in sorted(self._days.items()):
            if opened.published_rows < opened.rows:
                self._write(day, opened)
                opened.published_rows = opened.rows

    def forget(
        self,
        are_gone: Callable[[pa.RecordBatch], npt.NDArray[np.bool_]],
        forgotten: tuple[str, int],
    ) -> None:
        """Let go of rows of open days; ``snapshot`` then says ``forgotten``.

        Files of closed days, and bases, are not looked at.
        """
        for day, opened in list(self._days.items()):
            batches = [*opened.logged, *opened.pending]
            kept = [batch.filter(pa.array(~are_gone(batch))) for batch in batches]
            rows = sum(batch.num_rows for batch in kept)
            if rows == opened.rows:
                continue
            if opened.log:
                self._retired.append((self._sequence, opened.log))
            del self._days[day]
            if rows:
                self._days[day] = _OpenDay(pending=kept, rows=rows)
        self.forgotten = forgotten

    def snapshot(self) -> Handle:
        """Make everything appended so far durable and say where to resume.

        Waits for the files of closed days that are still being written.

        Raises:
            DayTableError: a file or log could not be written; the snapshot does not count.
        """
        self._wait(0)
        for day, opened in self._days.items():
            if not opened.pending:
                continue
            opened.log = opened.log or f"{day_name(day)}.{self._sequence}.arrows"
            (batch,) = pa.Table.from_batches(opened.pending).combine_chunks().to_batches()
            try:
                opened.length = append_log(self._wal / opened.log, opened.length, batch)
            except OSError as error:
                raise self._failure(error) from error
            opened.logged.append(batch)
            opened.pending.clear()
        logs = {opened.log: opened.length for opened in self._days.values()}
        handle = Handle(self._sequence, self._closed_before, logs, self.forgotten)
        self._sequence += 1
        horizon = self._sequence - _SNAPSHOTS_KEPT
        for sequence, name in self._retired:
            if sequence <= horizon:
                (self._wal / name).unlink(missing_ok=True)
        self._retired = [one for one in self._retired if one[0] > horizon]
        return handle

    def close(self) -> None:
        """Wait for files that are being written. Open days stay in the logs; see ``snapshot``.

        Raises:
            DayTableError: a file could not be written.
        """
        self._wait(0)

    def _open(self, day: int) -> _OpenDay:
        """A day without rows in memory, or with those of its file if it was closed before."""
        opened = _OpenDay()
        if day < self._closed_before:
            self._wait(0)
            try:
                self._keep_base(day)
                for batch in read_day(self._spec, day):
                    opened.add(batch)
            except (OSError, pa.ArrowInvalid) as error:
                raise self._failure(error) from error
            opened.published_rows = opened.rows
        self._days[day] = opened
        return opened

    def _keep_base(self, day: int) -> None:
        """Keep the file of a closed day as it is now; an empty base says there was none."""
        name = f"{day_name(day)}.{self._sequence}.base"
        base = self._wal / name
        if base.exists():
            return
        path = self._spec.parquet_path(day)
        temporary = base.with_suffix(".tmp")
        if path.exists():
            try:
                os.link(path, temporary)  # files are replaced, never changed: a name is a copy
            except OSError:
                shutil.copyfile(path, temporary)
        else:
            temporary.touch()
        temporary.replace(base)
        self._retired.append((self._sequence, name))

    def _write(self, day: int, rows: _OpenDay) -> None:
        batches = [*rows.logged, *rows.pending]
        if self._writer is None:
            try:
                write_day(self._spec, day, batches)
            except (OSError, pa.ArrowInvalid) as error:
                raise self._failure(error) from error
            return
        # Two writes of one day keep their order; writes that wait are bounded.
        self._wait(0 if day in self._writes else _WRITES_MAX - 1)
        self._writes[day] = self._writer.submit(write_day, self._spec, day, batches)

    def _wait(self, allowed: int) -> None:
        """Wait until at most ``allowed`` writes are under way, and see how the others went."""
        for day in list(self._writes):
            if len(self._writes) > allowed or self._writes[day].done():
                try:
                    self._writes[day].result()
                except (OSError, pa.ArrowInvalid) as error:
                    raise self._failure(error) from error
                del self._writes[day]

    def _resume(self, handle: Handle) -> None:
        """Take back all that happened after the handle."""
        self._sequence = handle.sequence + 1
        self._closed_before = handle.closed_before
        for name, length in handle.logs.items():
            batches = restore_log(self._wal / name, length, self._spec.schema)
            self._days[day_number(name.split(".")[0])] = _OpenDay(
                logged=batches, log=name, length=length, rows=sum(len(b) for b in batches)
            )
        self._restore_bases()
        for path in self._spec.path.glob("????-??-??.parquet"):
            day = day_number(path.stem)
            if day >= self._closed_before and day not in self._days:
                path.unlink()

    def _restore_bases(self) -> None:
        """Put back the files of closed days as they were: of each day its oldest later base."""
        bases: dict[int, list[tuple[int, Path]]] = {}
        for base in self._wal.glob("*.base"):
            name, sequence, _ = base.name.split(".")
            if int(sequence) >= self._sequence:
                bases.setdefault(day_number(name), []).append((int(sequence), base))
        for day, found in bases.items():
            _, base = min(found)
            path = self._spec.parquet_path(day)
            if base.stat().st_size:
                # Not moved: a crash in the middle of resuming must leave it for the next time.
                temporary = path.with_name(f".{path.name}.tmp")
                shutil.copyfile(base, temporary)
                temporary.replace(path)
            else:
                path.unlink(missing_ok=True)

    def _failure(self, error: Exception) -> DayTableError:
        return DayTableError(
            f"cannot write table {self._spec.name!r} at {self._spec.path}: {error}; make room or"
            " fix the rights of the folder, then start again: nothing that was snapshotted is lost"
        )


def _sequence_of(file: Path) -> int:
    """The snapshot that a log or base came before; 0 for other files."""
    parts = file.name.split(".")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else 0
