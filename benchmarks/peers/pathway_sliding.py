"""Pathway's sliding windows over a file that is read to its end (static mode), one worker.

A window ``[start, start + length)`` begins at every multiple of the hop, and every event is in
``length / hop`` of them. All windows come at the end. They are counted in the engine; with
``--keep`` they go to CSV instead.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pathway as pw
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.peers.measure import Meter, engine_arguments, report
from benchmarks.peers.workload import WINDOWS

KIND = "each_window"
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Payment(pw.Schema):  # type: ignore[misc]
    """What is read of an event."""

    card: str
    amount: float
    event_timestamp: str


def windows_of(payments: pw.Table, length: int, hop: int) -> pw.Table:
    """Count, sum and maximum of all windows of a kind that held an event; times in seconds."""
    window = pw.temporal.sliding(hop=timedelta(seconds=hop), duration=timedelta(seconds=length))
    return payments.windowby(payments.at, window=window, instance=payments.card).reduce(
        card=pw.this._pw_instance,
        start=pw.this._pw_window_start,
        count=pw.reducers.count(),
        sum=pw.reducers.sum(pw.this.amount),
        max=pw.reducers.max(pw.this.amount),
    )


def main() -> None:
    """Run, report, and keep the results if asked."""
    options = engine_arguments(__doc__).parse_args()
    meter = Meter()
    counts: dict[str, int] = {}
    with TemporaryDirectory(prefix="headwater-pathway-") as name:
        folder = Path(name)
        lines = pw.io.jsonlines.read(options.input, schema=Payment, mode="static")
        payments = lines.select(
            pw.this.card, pw.this.amount, at=pw.this.event_timestamp.dt.strptime(_TIME_FORMAT)
        )
        _count("events", payments, counts)
        for window, (length, hop) in WINDOWS.items():
            table = windows_of(payments, length, hop)
            if options.keep:
                pw.io.csv.write(table, folder / f"{window}.csv")
            _count(window, table, counts)
        with meter.work():
            pw.run(monitoring_level=pw.MonitoringLevel.NONE)
        if options.keep:
            table = pa.concat_tables(_read(folder / f"{window}.csv", window) for window in WINDOWS)
            pq.write_table(table, options.keep / f"{KIND}.parquet")
    rows = sum(counts[window] for window in WINDOWS)
    emits = "3 values per window, at the end of the file"
    report(options.output, meter, counts["events"], rows, emits, ["pathway"])


def _count(name: str, table: pw.Table, counts: dict[str, int]) -> None:
    """Have ``counts[name]`` be the number of the rows."""

    def take(key: object, row: dict[str, int], time: int, is_addition: bool) -> None:  # noqa: FBT001
        if is_addition:
            counts[name] = row["rows"]

    pw.io.subscribe(table.reduce(rows=pw.reducers.count()), on_change=take)


def _read(path: Path, window: str) -> pa.Table:
    table = pa_csv.read_csv(path)
    starts = pc.cast(pc.cast(table["start"], pa.timestamp("us"), safe=False), pa.int64())
    return pa.table(
        {
            "card": table["card"],
            "window": pa.array([window] * table.num_rows),
            "start_us": starts,
            "count": table["count"],
            "sum": table["sum"],
            "max": table["max"],
        }
    )


if __name__ == "__main__":
    main()
