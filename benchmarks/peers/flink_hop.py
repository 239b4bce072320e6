"""Flink SQL's hopping windows, one query of three; a window's values come when it is over.

A window ``[start, start + length)`` begins at every multiple of the hop, and every event is in
``length / hop`` of them. Between two hops there is nothing to be read.
"""

from __future__ import annotations

from benchmarks.peers.flink import Query, interval, run
from benchmarks.peers.measure import engine_arguments
from benchmarks.peers.workload import WINDOWS

_WINDOW = (
    "SELECT '{name}' AS window_name, card, "
    "CAST(window_start AS TIMESTAMP_LTZ(3)) AS window_start, COUNT(amount) AS amount_count, "
    "SUM(amount) AS amount_sum, MAX(amount) AS amount_max "
    "FROM HOP(TABLE {table}, DESCRIPTOR(event_timestamp), {hop}, {length}) "
    "GROUP BY card, window_start, window_end"
)


def select(table: str) -> str:
    """All windows of a table of events."""
    return " UNION ALL ".join(
        _WINDOW.format(name=name, table=table, hop=interval(hop), length=interval(length))
        for name, (length, hop) in WINDOWS.items()
    )


QUERY = Query(
    kind="each_window",
    emits="3 values per window, when it is over",
    select=select,
    columns=(
        ("`window`", "STRING"),
        ("card", "STRING"),
        ("window_start", "TIMESTAMP_LTZ(3)"),
        ("`count`", "BIGINT"),
        ("`sum`", "DOUBLE"),
        ("`max`", "DOUBLE"),
    ),
    total=("amount_count", "amount_sum", "amount_max"),
    time_column="window_start",
    time_name="start_us",
)


if __name__ == "__main__":
    run(engine_arguments(__doc__).parse_args(), QUERY)
