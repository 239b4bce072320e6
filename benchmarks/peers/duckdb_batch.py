"""DuckDB over the whole file, as a batch, with one thread: what a limit would look like.

``--rows last``: the values of each card at the end of the file, windows by hops. ``--rows each``:
the values at each event by window functions with RANGE; there a window is exactly the time before
the event, both ends included.
"""

from __future__ import annotations

import duckdb
import pyarrow.parquet as pq

from benchmarks.peers.measure import Meter, count_lines, engine_arguments, report
from benchmarks.peers.workload import WINDOWS

READ = """
create table events as
select card, amount, event_timestamp as time_us from read_json(
    $source, format = 'newline_delimited',
    columns = {card: 'VARCHAR', amount: 'DOUBLE', event_timestamp: 'TIMESTAMP'}
)
"""


def at_end() -> str:
    """Nine values of each card at the last event's time."""
    features = []
    for window, (length, hop) in WINDOWS.items():
        begin = f"time_bucket(interval {hop} second, now) - interval {length - hop} second"
        inside = f"filter (where time_us >= {begin})"
        features += [
            f"count(*) {inside} as count_{window}",
            f"sum(amount) {inside} as sum_{window}",
            f"max(amount) {inside} as max_{window}",
        ]
    return (
        f"select card, {', '.join(features)} from events, "
        "(select max(time_us) as now from events) group by card"
    )


def at_each_event() -> str:
    """Nine values of each event's card."""
    features, windows = [], []
    for window, (length, _) in WINDOWS.items():
        features += [
            f"count(*) over w{window} as count_{window}",
            f"sum(amount) over w{window} as sum_{window}",
            f"max(amount) over w{window} as max_{window}",
        ]
        windows.append(
            f"w{window} as (partition by card order by time_us "
            f"range between interval {length} second preceding and current row)"
        )
    return f"select card, time_us, {', '.join(features)} from events window {', '.join(windows)}"


def main() -> None:
    """Run, report, and keep the results if asked."""
    parser = engine_arguments(__doc__)
    parser.add_argument("--rows", choices=("last", "each"), default="last")
    options = parser.parse_args()
    events = count_lines(options.input)
    # One worker, like the others.
    connection = duckdb.connect(config={"threads": 1})
    meter = Meter()
    with meter.work():
        connection.execute(READ, {"source": str(options.input)})
        query = at_end() if options.rows == "last" else at_each_event()
        rows = connection.sql(query).to_arrow_table()
    emits = "last values" if options.rows == "last" else "9 values per event"
    report(options.output, meter, events, rows.num_rows, f"{emits} (batch)", ["duckdb"])
    if options.keep:
        kind = "at_end" if options.rows == "last" else "each_event_closed"
        pq.write_table(rows, options.keep / f"{kind}.parquet")


if __name__ == "__main__":
    main()
