"""Flink SQL's OVER windows: the nine values at each event, of exactly the time before it.

A window at ``t`` is ``[t - length, t]``. In a stream all OVER windows of one query have to be the
same, so there are three queries, one around the other.
"""

from __future__ import annotations

from benchmarks.peers.flink import Query, interval, run
from benchmarks.peers.measure import engine_arguments
from benchmarks.peers.workload import FEATURES, WINDOWS

_WINDOW = (
    "SELECT {columns}, COUNT(amount) OVER w AS count_{name}, SUM(amount) OVER w AS sum_{name}, "
    "MAX(amount) OVER w AS max_{name} FROM {source} WINDOW w AS (PARTITION BY card "
    "ORDER BY event_timestamp RANGE BETWEEN {length} PRECEDING AND CURRENT ROW)"
)


def select(table: str) -> str:
    """The values at all events of a table."""
    columns, source = ["card", "event_timestamp", "amount"], table
    for name, (length, _) in WINDOWS.items():
        query = _WINDOW.format(
            columns=", ".join(columns), name=name, source=source, length=interval(length)
        )
        source = f"({query})"
        columns += [f"count_{name}", f"sum_{name}", f"max_{name}"]
    return f"SELECT card, event_timestamp, {', '.join(FEATURES)} FROM {source}"


QUERY = Query(
    kind="each_event_closed",
    emits="9 values per event, exact windows",
    select=select,
    columns=(
        ("card", "STRING"),
        ("event_timestamp", "TIMESTAMP_LTZ(3)"),
        *((name, "BIGINT" if name.startswith("count") else "DOUBLE") for name in FEATURES),
    ),
    total=FEATURES,
    time_column="event_timestamp",
    time_name="time_us",
)


if __name__ == "__main__":
    run(engine_arguments(__doc__).parse_args(), QUERY)
