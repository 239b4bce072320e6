"""How many times faster per CPU-second Headwater is than each peer, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# The line that is held against the others: last values, as a user's flow that is catching up.
OURS = "headwater --rows last --epoch-seconds 10"
EVENTS_PER_CPU_SECOND_MIN = 300_000
# Name of a peer's line -> how many times its rate we want to have.
TIMES_MIN = {
    "bytewax_stateful_map": 10.0,
    "bytewax_sliding": 100.0,
    "pathway_sliding": 100.0,
    "flink_hop": 20.0,
    "flink_over": 20.0,
    "duckdb_batch --rows each": 1.0,
    "parse_only --columns all": 0.35,
}


def compare(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Our rate over that of every other line; for some there is a least value. Empty without ours.

    Rates of the first 100,000 events are compared as they are: they say nothing about more events.
    """
    rates = {line["name"]: line.get("events_per_cpu_second") for line in lines}
    mine = rates.get(OURS)
    if mine is None:
        return {}
    goals = {OURS: _goal(mine, EVENTS_PER_CPU_SECOND_MIN)}
    for name, wanted in TIMES_MIN.items():
        rate = rates.get(name)
        if rate is not None:
            goals[name] = _goal(mine / rate, wanted)
    others = {name: mine / rate for name, rate in rates.items() if rate is not None}
    return {"line": OURS, "times_the_rate_of": others, "goals": goals}


def _goal(found: float, wanted: float) -> dict[str, Any]:
    return {"found": found, "wanted": wanted, "is_reached": found >= wanted}
