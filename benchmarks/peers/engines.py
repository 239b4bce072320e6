"""The engines of the comparison, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.peers.workload import EVENTS, EVENTS_OF_SLOW

# Whose Python: ours (.venv), or the one into which only peers are installed.
Environment = Literal["ours", "peers"]


@dataclass(frozen=True)
class Engine:
    """One line of the table.

    Attributes:
        title: for people.
        module: in ``benchmarks.peers``.
        kinds: what it keeps with ``--keep``, each a name in ``check.KINDS``; all are checked.
        options: further arguments.
        environment: whose Python runs it.
        events: the first so many of the workload.
        rounds: how often it runs after the check, if there is time. One that would run once more,
            with the events that it was checked with, does not: the check is its run.
        seconds_max: longest that one run may take.
        events_checked: how many of its events it gets when its results are compared, where all
            would give tens of millions of rows.
    """

    title: str
    module: str
    kinds: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: Environment = "ours"
    events: int = EVENTS
    rounds: int = 3
    seconds_max: float = 600.0
    events_checked: int = EVENTS

    @property
    def name(self) -> str:
        """Module and options: unlike any other's."""
        return " ".join((self.module, *self.options))

    @property
    def is_measured_as_checked(self) -> bool:
        """Whether the run that is checked counts, in which it keeps its results."""
        return self.rounds == 1 and self.events_checked >= self.events


_EVENT = "each_event_hops"
_WINDOWS = "each_window"
_HEADWATER = "Headwater, epochs of"
ENGINES = (
    Engine(
        f"{_HEADWATER} 10 s", "headwater", ("at_end",), ("--rows", "last", "--epoch-seconds", "10")
    ),
    Engine(
        f"{_HEADWATER} 1 s", "headwater", ("at_end",), ("--rows", "last", "--epoch-seconds", "1")
    ),
    Engine(
        f"{_HEADWATER} 10 s, every row",
        "headwater",
        ("at_end", _EVENT),
        ("--rows", "each", "--epoch-seconds", "10"),
    ),
    Engine(
        f"{_HEADWATER} 10 s, every row to Parquet",
        "headwater",
        ("at_end",),
        ("--rows", "stored", "--epoch-seconds", "10"),
    ),
    Engine(
        "Bytewax, stateful_map, tiles in dicts",
        "bytewax_stateful_map",
        (_EVENT,),
        environment="peers",
        rounds=2,
        events_checked=EVENTS_OF_SLOW,
    ),
    Engine(
        "the same in a bare Python loop",
        "python_loop",
        (_EVENT,),
        environment="peers",
        rounds=1,
    ),
    Engine(
        "Bytewax, its own sliding windows",
        "bytewax_sliding",
        (_WINDOWS,),
        environment="peers",
        events=EVENTS_OF_SLOW,
        rounds=1,
    ),
    Engine(
        "Pathway, sliding windows, static mode",
        "pathway_sliding",
        (_WINDOWS,),
        environment="peers",
        events=EVENTS_OF_SLOW,
        rounds=1,
    ),
    Engine(
        "Quix Streams, hopping windows, from Kafka",
        "quix_hopping",
        (_WINDOWS,),
        environment="peers",
        events=EVENTS_OF_SLOW,
        rounds=1,
        seconds_max=900.0,
    ),
    Engine(
        "Flink SQL, HOP",
        "flink_hop",
        (_WINDOWS,),
        rounds=1,
        seconds_max=900.0,
        events_checked=EVENTS_OF_SLOW,
    ),
    Engine(
        "Flink SQL, OVER",
        "flink_over",
        ("each_event_closed",),
        rounds=1,
        seconds_max=900.0,
        events_checked=EVENTS_OF_SLOW,
    ),
    Engine(
        "Polars, every event", "polars_batch", ("each_event_open",), ("--rows", "each"), "peers"
    ),
    Engine(
        "DuckDB, every event", "duckdb_batch", ("each_event_closed",), ("--rows", "each"), "peers"
    ),
    Engine("Polars, last values", "polars_batch", ("at_end",), ("--rows", "last"), "peers"),
    Engine("DuckDB, last values", "duckdb_batch", ("at_end",), ("--rows", "last"), "peers"),
    Engine(
        "parsing alone, polars.read_ndjson",
        "parse_only",
        ("parsed",),
        ("--columns", "all"),
        "peers",
    ),
    Engine("the same, three columns", "parse_only", ("parsed",), ("--columns", "wanted"), "peers"),
    Engine("the same, Headwater's decoder", "parse_decoder", ("parsed",)),
)
