"""Day tables: the same files with and without crashes, and readable by others."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataflows.stores.day_files import US_PER_DAY
from dataflows.stores.day_table import DayTable, DayTableError, Handle, TableSpec

SCHEMA = pa.schema(
    [("event_timestamp", pa.timestamp("us", "UTC")), ("route", pa.string()), ("mean", pa.float64())]
)
DAY_0 = 15_706  # 2013-01-01
Row = tuple[int, str, float | None]


def spec(folder: Path) -> TableSpec:
    """A table with its files below ``folder``."""
    return TableSpec("views/delays", folder / "offline", SCHEMA, "event_timestamp", ("route",))


def table(folder: Path, handle: Handle | None = None, writer: Executor | None = None) -> DayTable:
    """The table below ``folder``, anew or from a handle."""
    return DayTable(spec(folder), folder / "wal", handle, writer)


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows of (microseconds since DAY_0, route, mean) as a batch."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array([DAY_0 * US_PER_DAY + row[0] for row in rows], SCHEMA.field(0).type),
            pa.array([row[1] for row in rows], pa.string()),
            pa.array([row[2] for row in rows], pa.float64()),
        ],
        schema=SCHEMA,
    )


def at(day: int) -> int:
    """The watermark at the start of a day counted from DAY_0."""
    return (DAY_0 + day) * US_PER_DAY


def files(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of everything in the table's folder."""
    return {path.name: path.read_bytes() for path in (folder / "offline").iterdir()}


def rows_of(file: Path) -> list[Row]:
    """The rows of one file, in its order."""
    found = pq.read_table(file)
    times = found["event_timestamp"].cast(pa.int64()).to_numpy() - DAY_0 * US_PER_DAY
    columns = (times.tolist(), found["route"].to_pylist(), found["mean"].to_pylist())
    return list(zip(*columns, strict=True))


# A step is rows to append (day, row number), or a watermark to advance to (a day).
STEP = st.one_of(
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
    st.tuples(st.just("advance"), st.integers(1, 3)),
)
# Before a step: nothing, a snapshot, showing open days, or a crash that loses 0-2 snapshots.
EVENT = st.sampled_from(["", "snapshot", "snapshot", "publish", "crash 0", "crash 1", "crash 2"])


class Script:
    """Runs steps on a table; a step is always the same rows, so that it can be replayed."""

    def __init__(self, steps: Sequence[object], folder: Path, writer: Executor | None) -> None:
        self.steps, self.folder, self.writer = steps, folder, writer
        self.table = table(folder, None, writer)
        self.saved: list[tuple[int, bytes]] = []

    def step(self, number: int) -> None:
        """Append or advance."""
        step = self.steps[number]
        if isinstance(step, tuple):
            self.table.advance(at(step[1]))
            return
        assert isinstance(step, list)
        rows = [
            (day * US_PER_DAY + (7 * number + place) % 5, f"r{number}.{place}", float(number))
            for place, day in enumerate(step)
        ]
        self.table.append(batch(rows))

    def event(self, event: str, number: int) -> int:
        """Do what happens before step ``number``; the step to go on with."""
        if event == "snapshot":
            self.saved = [*self.saved[-2:], (number, pickle.dumps(self.table.snapshot()))]
        elif event == "publish":
            self.table.publish_open()
        elif event.startswith("crash"):
            self.table.close()  # the thread's work may or may not be done: here it is
            lost = int(event[-1])
            # A state that was resumed from is durable: nothing older can come back.
            self.saved = self.saved[: max(len(self.saved) - lost, min(len(self.saved), 1))]
            number, saved = self.saved[-1] if self.saved else (0, None)
            self.saved = self.saved[-1:]
            garble_tails(self.folder)
            handle = pickle.loads(saved) if saved else None
            self.table = table(self.folder, handle, self.writer)
        return number

    def finish(self) -> dict[str, bytes]:
        """Close every day; the files."""
        self.table.publish_open()
        self.table.advance(at(100))
        self.table.close()
        return files(self.folder)


def garble_tails(folder: Path) -> None:
    """Put bytes of a write that was cut off behind every log, and a temporary file."""
    for log in (folder / "wal").rglob("*.arrows"):
        with log.open("ab") as file:
            file.write(b"\xff\xff\xff\xff\x10\x00half a message")
    (folder / "offline" / ".2013-01-01.parquet.tmp").write_bytes(b"half a file")


@given(steps=st.lists(STEP, min_size=3, max_size=10), events=st.lists(EVENT, max_size=20))
@example(steps=[("advance", 1), [0], ("advance", 1)], events=["", "", "", "crash 0"])
@settings(max_examples=100, deadline=None)
def test_crashes_leave_no_trace(steps: list[object], events: list[str]) -> None:
    """With any crashes, from any of the last three snapshots, the files are those without."""
    with tempfile.TemporaryDirectory() as plain:
        undisturbed = Script(steps, Path(plain), None)
        for number in range(len(steps)):
            undisturbed.step(number)
        wanted = undisturbed.finish()
    assert crashed(steps, events, None) == wanted
    with ThreadPoolExecutor(1) as writer:
        assert crashed(steps, events, writer) == wanted, "with a thread that writes"
    everything = [row for name in wanted for row in pq_rows(wanted[name])]
    appended = sum(len(step) for step in steps if isinstance(step, list))
    assert len(set(everything)) == len(everything) == appended


def crashed(steps: list[object], events: list[str], writer: Executor | None) -> dict[str, bytes]:
    """The files of a run with these events, each before its step."""
    with tempfile.TemporaryDirectory() as folder:
        script = Script(steps, Path(folder), writer)
        number, happening = 0, iter(events)
        while number < len(steps):
            number = script.event(next(happening, ""), number)
            if number < len(steps):
                script.step(number)
                number += 1
        for event in happening:  # what is left of the events comes after the last step
            number = script.event(event, number)
            for again in range(number, len(steps)):
                script.step(again)
            number = len(steps)
        return script.finish()


def pq_rows(data: bytes) -> list[tuple[object, ...]]:
    """The rows in the bytes of a Parquet file."""
    found = pq.read_table(pa.BufferReader(data))
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def test_days_are_sorted_and_split(tmp_path: Path) -> None:
    """Rows go to the file of their UTC day, by time and then by the sort columns."""
    delays = table(tmp_path)
    delays.append(batch([(US_PER_DAY, "b", 1.0), (5, "b", None), (US_PER_DAY - 1, "a", 3.0)]))
    delays.append(batch([(5, "a", 4.0), (-1, "z", 5.0)]))
    delays.advance(at(1) - 1)
    assert list(files(tmp_path)) == ["2012-12-31.parquet"]
    delays.advance(at(1))
    assert sorted(files(tmp_path)) == ["2012-12-31.parquet", "2013-01-01.parquet"]
    assert rows_of(tmp_path / "offline/2013-01-01.parquet") == [
        (5, "a", 4.0),
        (5, "b", None),
        (US_PER_DAY - 1, "a", 3.0),
    ]


def test_bytes_do_not_depend_on_batches(tmp_path: Path) -> None:
    """The same rows in other batches and another order give the same bytes."""
    rows = [(int(n) * 1_000, f"r{n}", float(n)) for n in np.random.default_rng(1).permutation(500)]
    whole, single = table(tmp_path / "a"), table(tmp_path / "b")
    whole.append(batch(rows))
    for row in reversed(rows):
        single.append(batch([row]))
    whole.advance(at(1))
    single.advance(at(1))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_others_read_open_and_closed_days(tmp_path: Path) -> None:
    """DuckDB and pyarrow see closed days, and open ones as of the last publishing."""
    delays = table(tmp_path)
    delays.append(batch([(0, "a", 1.0), (US_PER_DAY, "b", 2.0), (US_PER_DAY + 1, "c", None)]))
    delays.advance(at(1))
    delays.publish_open()
    delays.append(batch([(US_PER_DAY + 2, "d", 4.0)]))
    query = f"SELECT route, mean FROM '{tmp_path}/offline/*.parquet' ORDER BY event_timestamp"
    assert duckdb.execute(query).fetchall() == [("a", 1.0), ("b", 2.0), ("c", None)]
    delays.publish_open()
    (tmp_path / "offline/.2013-01-09.parquet.tmp").write_bytes(b"being written")
    found = pyarrow.dataset.dataset(tmp_path / "offline", format="parquet").to_table()
    assert sorted(found["route"].to_pylist()) == ["a", "b", "c", "d"]
    assert duckdb.execute(query).fetchall()[-1] == ("d", 4.0)


def test_row_for_a_closed_day_joins_its_file(tmp_path: Path) -> None:
    """A row that comes after its day was closed is added to the day's file."""
    delays = table(tmp_path)
    delays.append(batch([(1, "a", 1.0)]))
    delays.advance(at(1))
    delays.append(batch([(0, "b", 2.0)]))
    delays.advance(at(1))
    assert rows_of(tmp_path / "offline/2013-01-01.parquet") == [(0, "b", 2.0), (1, "a", 1.0)]


@pytest.mark.parametrize("back", [0, 1])
def test_rows_for_closed_days_are_taken_back(tmp_path: Path, back: int) -> None:
    """Resuming undoes what late rows did to closed days, however often they opened them."""
    delays = table(tmp_path)
    delays.append(batch([(1, "a", 1.0)]))
    delays.advance(at(2))
    handles, before = [delays.snapshot()], [files(tmp_path)]
    for number in range(2):
        delays.append(batch([(number, "late", 2.0), (US_PER_DAY + number, "new file", 3.0)]))
        delays.advance(at(2))
        handles.append(delays.snapshot())
        before.append(files(tmp_path))
    delays.append(batch([(5 * US_PER_DAY, "later", 4.0)]))
    delays.publish_open()
    table(tmp_path, handles[back])
    assert files(tmp_path) == before[back]


def test_log_is_a_plain_arrow_stream_and_goes_in_time(tmp_path: Path) -> None:
    """An open day's log can be read by Arrow, and is deleted two snapshots after it could go."""
    delays = table(tmp_path)
    delays.append(batch([(0, "a", 1.0)]))
    delays.snapshot()
    delays.append(batch([(1, "b", 2.0)]))
    (name,) = delays.snapshot().logs
    log = tmp_path / "wal/views/delays" / name
    with log.open("rb") as file, pa.ipc.open_stream(file) as stream:
        assert stream.read_all()["route"].to_pylist() == ["a", "b"]
    delays.advance(at(1))
    kept = []
    for _ in range(4):
        assert delays.snapshot().logs == {}
        kept.append(log.exists())
    assert kept == [True, True, False, False]


def test_shortened_log_is_refused(tmp_path: Path) -> None:
    """A log that lost bytes the handle counts is refused: resuming would lose rows."""
    delays = table(tmp_path)
    delays.append(batch([(0, "a", 1.0)]))
    handle = delays.snapshot()
    (name,) = handle.logs
    log = tmp_path / "wal/views/delays" / name
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.raises(DayTableError, match=r"shorter than .* `headwater replay`"):
        table(tmp_path, handle)
    log.unlink()
    with pytest.raises(DayTableError, match="cannot resume"):
        table(tmp_path, handle)


def test_failed_write_is_not_forgotten(tmp_path: Path) -> None:
    """When a file cannot be written in the background, no later snapshot claims it was."""
    with ThreadPoolExecutor(1) as writer:
        delays = table(tmp_path, None, writer)
        delays.append(batch([(0, "a", 1.0)]))
        (tmp_path / "offline/2013-01-01.parquet").mkdir()
        delays.advance(at(1))
        for _ in range(2):
            with pytest.raises(DayTableError, match="cannot write table 'views/delays'"):
                delays.snapshot()


def test_unfit_batches_and_specs_are_refused(tmp_path: Path) -> None:
    """Other columns, a null time, a missing sort column and a naive time are refused at once."""
    delays = table(tmp_path)
    with pytest.raises(ValueError, match="wants"):
        delays.append(batch([(0, "a", 1.0)]).select(["route", "mean"]))
    null = pa.RecordBatch.from_pylist([{"event_timestamp": None}], SCHEMA)
    with pytest.raises(ValueError, match="has a null"):
        delays.append(null)
    with pytest.raises(ValueError, match="no column carrier"):
        TableSpec("t", tmp_path, SCHEMA, "event_timestamp", ("carrier",))
    naive = pa.schema([("event_timestamp", pa.timestamp("us"))])
    with pytest.raises(ValueError, match="must be timestamp"):
        TableSpec("t", tmp_path, naive, "event_timestamp", ())
