"""Replays: from files, from Kafka, beside Feast's materialization, beside a running dataflow.

Every part checks its values first, and stops if one is wrong. CPU-seconds are those of a process of
its own, without what is imported. *Muted* is the reading up to the end of the log with state saved;
what writes each entity's value at the end is told apart.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._environment import describe, load_average, write
from benchmarks._payments import services
from benchmarks._reach import Reach, hold
from benchmarks._table import load_line, show
from benchmarks.replay import materialized
from benchmarks.replay.figures import Figures, from_files, from_kafka

PARTS = ("files", "feast", "feast_redis", "kafka", "beside")
WORDS = {
    "parse": "parsing alone",
    "run": "run --until-end, all of it",
    "source": "reading Kafka alone",
    "files": "replay of the same from files",
    "replay": "replay",
}


def main() -> None:
    """Check, measure, print, write; exit 1 below a bound."""
    options = _options()
    load = load_average()
    figures: Figures = {}
    reaches: list[Reach] = []
    with TemporaryDirectory(prefix="headwater-bench-") as name:
        folder = Path(name)
        if "files" in options.only:
            figures["files"] = from_files(
                folder / "f", options.events, options.cards, options.rounds
            )
        if "feast" in options.only:
            figures["feast"] = materialized.in_sqlite(
                folder / "feast", options.feast_events, options.feast_cards
            )
        if "feast_redis" in options.only:
            figures["feast_redis"] = materialized.in_redis(
                folder / "feast_redis", options.feast_events, options.feast_cards
            )
        if {"kafka", "beside"} & set(options.only):
            _with_services(options, folder, figures)
    environment = describe(["bytewax", "feast", "kafka-python", "numpy", "numba", "pyarrow"])
    for part, tell in TELLING.items():
        if part in figures:
            reaches += tell(figures[part])
    write(
        options.output,
        {
            "environment": environment,
            "load_average_before": load,
            **figures,
            "reach": [reach.described() for reach in reaches],
        },
    )
    print(load_line(load, os.cpu_count()))
    hold(reaches)


def _with_services(options: argparse.Namespace, folder: Path, figures: Figures) -> None:
    from benchmarks.replay.beside import beside_replay

    with services(folder) as (servers, redis):
        if "kafka" in options.only:
            figures["kafka"] = from_kafka(
                folder / "k", servers, redis, options.kafka_events, options.cards, options.rounds
            )
        if "beside" in options.only:
            figures["beside"] = beside_replay(
                folder / "b",
                servers,
                redis,
                history=options.history,
                rate=options.rate,
                seconds=options.seconds,
                rounds=options.turns,
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts")
    parser.add_argument("--events", type=int, default=2_000_000, help="of the log of files")
    parser.add_argument("--cards", type=int, default=100_000)
    parser.add_argument("--kafka-events", type=int, default=1_000_000)
    parser.add_argument("--feast-events", type=int, default=1_000_000)
    parser.add_argument("--feast-cards", type=int, default=100_000)
    parser.add_argument("--history", type=int, default=4_000_000, help="events that are replayed")
    parser.add_argument("--rate", type=int, default=1_000, help="live events a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of probing, each time")
    parser.add_argument("--rounds", type=int, default=2, help="of files and kafka")
    parser.add_argument("--turns", type=int, default=6, help="of probing, alone and beside")
    parser.add_argument("--output", type=Path, default=Path("build/bench/replay.json"))
    return parser.parse_args()


def _tell_files(figures: Figures) -> list[Reach]:
    _show("From files", figures, ("parse", "run", "replay"))
    muted = figures["replay"]["muted_events_per_cpu_second"]
    return [Reach("from files, muted, events per CPU-second", muted, least=400_000)]


def _tell_kafka(figures: Figures) -> list[Reach]:
    _show("From Kafka", figures, ("source", "files", "replay"))
    share = figures["share_of_bound"]
    return [Reach("from Kafka, muted, of what reading and the rest allow", share, least=0.8)]


def _show(title: str, figures: Figures, names: tuple[str, ...]) -> None:
    def row(name: str) -> tuple[str, ...]:
        one = figures[name]
        cpu = [one["cpu_seconds"]]
        if "muted_cpu_seconds" in one:
            cpu = [
                one[f"{phase}cpu_seconds"]
                for phase in ("muted_", "online_", "put_in_place_", "digests_", "")
            ]
        cells = [f"{seconds:.2f}" for seconds in cpu]
        if len(cells) == 1:
            cells = ["", "", "", "", *cells]
        rate = one.get("muted_events_per_cpu_second", one["events_per_cpu_second"])
        return (WORDS[name], f"{rate:,.0f}", *cells)

    show(
        f"{title}: {figures['events']:,} events of {figures['cards']:,} cards, 9 windowed "
        f"features; digests equal, {figures['values_checked']:,} values checked; CPU-seconds",
        ("", "events/CPU-s", "muted", "online", "put in place", "digests", "all"),
        [row(name) for name in names],
    )


def _tell_feast(figures: Figures, store: str) -> list[Reach]:
    show(
        f"Latest row: {figures['events']:,} events of {figures['cards']:,} cards to {store}; "
        f"{figures['values_checked']:,} values equal",
        ("", "events/CPU-s", "CPU-seconds"),
        [
            (
                word,
                f"{figures[name]['events_per_cpu_second']:,.0f}",
                f"{figures[name]['cpu_seconds']:.2f}",
            )
            for name, word in (
                ("materialize", "feast materialize"),
                ("replay", "headwater replay --online"),
            )
        ],
    )
    return [Reach(f"times feast materialize, {store}", figures["times_materialize"], least=20)]


def _tell_beside(figures: Figures) -> list[Reach]:
    columns = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
    show(
        f"Produced → readable in Redis at {figures['events_per_second']:,.0f} events/s; "
        f"{figures['cards_checked']:,} cards checked",
        ("", "probes", "p50 ms", "p90 ms", "p99 ms", "max ms"),
        [
            (
                word,
                str(figures[name]["probes"]),
                *(f"{figures[name][column]:.1f}" for column in columns),
            )
            for name, word in (("alone", "alone"), ("beside", "beside replay --cores 1"))
        ],
    )
    return [Reach("p99 beside a replay, times that alone", figures["p99_ratio"], most=1.2)]


TELLING: dict[str, Callable[[dict[str, Any]], list[Reach]]] = {
    "files": _tell_files,
    "kafka": _tell_kafka,
    "feast": partial(_tell_feast, store="SQLite"),
    "feast_redis": partial(_tell_feast, store="Redis"),
    "beside": _tell_beside,
}


if __name__ == "__main__":
    main()
