"""Polars over the whole file, as a batch, with one thread: what a limit would look like.

``--rows last``: the values of each card at the end of the file, windows by hops. ``--rows each``:
the values at each event by ``DataFrame.rolling``; there a window is exactly the time before it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.measure import Meter, engine_arguments, report
from benchmarks.peers.workload import WINDOWS

if TYPE_CHECKING:
    import polars as pl


def main() -> None:
    """Run, report, and keep the results if asked."""
    parser = engine_arguments(__doc__)
    parser.add_argument("--rows", choices=("last", "each"), default="last")
    options = parser.parse_args()
    # One worker, like the others. Polars reads this when it is imported.
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars  # noqa: F401

    meter = Meter()
    with meter.work():
        events = read(options.input)
        rows = at_end(events) if options.rows == "last" else at_each_event(events)
    emits = "last values" if options.rows == "last" else "9 values per event"
    report(options.output, meter, events.height, rows.height, f"{emits} (batch)", ["polars"])
    if options.keep:
        kind = "at_end" if options.rows == "last" else "each_event_open"
        rows.write_parquet(options.keep / f"{kind}.parquet")


def read(source: Path) -> pl.DataFrame:
    """``card``, ``amount`` and ``time_us`` (a Datetime) of each event."""
    import polars as pl

    columns = {"card": pl.String, "amount": pl.Float64, "event_timestamp": pl.String}
    stamp = pl.col("event_timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us")
    return pl.read_ndjson(source, schema=columns).select("card", "amount", time_us=stamp)


def at_end(events: pl.DataFrame) -> pl.DataFrame:
    """Nine values of each card at the last event's time."""
    import polars as pl

    last = events["time_us"].max()
    assert last is not None, "no events"
    rows = events.select(pl.col("card").unique())
    for window, (length, hop) in WINDOWS.items():
        begin = pl.lit(last).dt.truncate(f"{hop}s").dt.offset_by(f"{hop - length}s")
        values = events.filter(pl.col("time_us") >= begin).group_by("card").agg(**_features(window))
        rows = rows.join(values, on="card", how="left")
    return rows.with_columns(pl.col("^count_.*$").fill_null(0))


def at_each_event(events: pl.DataFrame) -> pl.DataFrame:
    """Nine values of each event's card."""
    ordered = events.sort("card", "time_us")
    rows = ordered.select("card", "time_us")
    for window, (length, _) in WINDOWS.items():
        values = ordered.rolling(
            "time_us", period=f"{length}s", closed="right", group_by="card"
        ).agg(**_features(window))
        rows = rows.hstack(values.drop("card", "time_us"))
    return rows


def _features(window: str) -> dict[str, pl.Expr]:
    import polars as pl

    return {
        f"count_{window}": pl.len(),
        f"sum_{window}": pl.col("amount").sum(),
        f"max_{window}": pl.col("amount").max(),
    }


if __name__ == "__main__":
    main()
