"""The scorer beside an empty echo, Feast's SDK and Feast's server: ``make bench-scorer``.

A request has 3 entity keys and 5 request values; the model is a scaler and a logistic regression on
3 × 20 features, stored in a real Redis, and those 5 values. Scorer, Redis and client share the
machine. Every answer of every round is compared with numpy before any figure is told.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._environment import describe, load_average, write
from benchmarks._scorer_world import make_world, online_store
from benchmarks._table import load_line, show
from benchmarks.scorer.feast_peers import feast_sdk, feast_server
from benchmarks.scorer.load import Client
from benchmarks.scorer.parts import Bench, calls, open_loop, processes, rows
from benchmarks.scorer.rollouts import rollouts
from benchmarks.scorer.rounds import Figures, Part
from benchmarks.scorer.swaps import swaps

PARTS: dict[str, Callable[[Bench], Part]] = {
    "calls": calls,
    "rows": rows,
    "feast_sdk": feast_sdk,
    "feast_server": feast_server,
    "swaps": swaps,
    "rollouts": rollouts,
    "open": open_loop,
    "processes": processes,
}
_PACKAGES = ["grpcio", "protobuf", "onnxruntime", "numpy", "river", "hiredis", "feast", "redis"]


def main() -> None:
    """Make the world, measure the parts, write, print."""
    options = _options()
    load = load_average()
    found: dict[str, Part] = {}
    with (
        TemporaryDirectory(prefix="headwater-bench-") as name,
        online_store(options.store, Path(name)) as store,
        Client() as client,
    ):
        folder = Path(name)
        world = make_world(folder, store)
        bench = Bench(
            world=world,
            client=client,
            seconds=options.seconds,
            rounds=options.rounds,
            folder=folder,
            swap_seconds=options.swap_seconds,
            echo_loop=options.echo_loop,
        )
        for part in options.only or list(PARTS):
            began, before = time.monotonic(), load_average()
            found[part] = PARTS[part](bench)
            found[part].more["load_average_before"] = before
            took = time.monotonic() - began
            print(f"{part}: {took:.0f} s", file=sys.stderr, flush=True)
    figures: dict[str, Any] = {
        "environment": describe(_PACKAGES),
        "load_average_before": load,
        "store": options.store,
        **world.shape(),
        "seconds_per_round": options.seconds,
        "rounds": options.rounds,
        "echo_loop": options.echo_loop,
        "max_abs_diff_to_numpy": max(part.max_abs_diff for part in found.values()),
        "parts": {
            name: {"lines": part.lines, "ratios": part.ratios, **part.more}
            for name, part in found.items()
        },
        "reach": [reach.described() for part in found.values() for reach in part.reaches],
    }
    write(options.output, figures)
    _print(figures, found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], help="parts; all without")
    parser.add_argument("--seconds", type=float, default=2.0, help="a round")
    parser.add_argument("--rounds", type=int, default=3, help="of each engine and load")
    parser.add_argument(
        "--swap-seconds", type=float, default=60.0, help="of the swaps; 300 to be sure"
    )
    parser.add_argument("--echo-loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--store", choices=["redis", "sqlite"], default="redis")
    parser.add_argument("--output", type=Path, default=Path("build/bench/scorer.json"))
    return parser.parse_args()


def _print(figures: Figures, found: dict[str, Part]) -> None:
    show(
        f"{figures['entity_keys']} entity keys, {figures['features']} features in "
        f"{figures['store']}; scores equal to numpy's within "
        f"{figures['max_abs_diff_to_numpy']:.0e}; "
        + load_line(figures["load_average_before"], os.cpu_count()),
        _HEADER,
        [_cells(name, line) for name, part in found.items() for line in part.lines],
        sys.stdout,
    )
    show(
        "ratios, medians of rounds",
        ("", "found"),
        [
            (f"{name}: {what}", f"{value:,.2f}")
            for name, part in found.items()
            for what, value in part.ratios.items()
        ],
        sys.stdout,
    )
    if not figures["reach"]:
        return
    show(
        "what is wanted",
        ("", "found", "wanted", ""),
        [
            (
                reach.name,
                f"{reach.found:,.2f}",
                f"{'>=' if reach.best == 'high' else '<='} {reach.limit:,g}",
                "met" if reach.is_met else "MISSED",
            )
            for part in found.values()
            for reach in part.reaches
        ],
        sys.stdout,
    )


# A client that is busy for more than this may be what answers wait for.
_CLIENT_CORES_MAX = 0.8
_HEADER = (
    "part",
    "engine",
    "in flight",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "server µs",
    "server cores",
    "rows/CPU-s",
    "client µs",
    "client cores",
)


def _cells(part: str, line: Figures) -> list[str]:
    limit = "client is the limit" if line["client_cores"] > _CLIENT_CORES_MAX else ""
    name = ", ".join(text for text in (line["engine"], line["note"], limit) if text)
    return [
        part,
        name,
        "open" if line["in_flight"] is None else str(line["in_flight"]),
        f"{line['requests_per_second']:,.0f}",
        f"{line['p50_ms']:.2f}",
        f"{line['p99_ms']:.2f}",
        f"{line['server_cpu_us']:.0f}",
        f"{line['server_cores']:.2f}",
        f"{line['rows_per_server_cpu_second']:,.0f}",
        f"{line['client_cpu_us']:.0f}",
        f"{line['client_cores']:.2f}",
    ]


if __name__ == "__main__":
    main()
