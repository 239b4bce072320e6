"""Drift: what watching costs, false alarms on streams that stay, and rows until drift is found.

At the default settings, with 20 columns of all kinds: normal, heavy-tailed, whole numbers, codes,
constant, mostly missing. Streams that stay differ by their seed; planted drift begins after 40,000
rows of them.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._environment import describe, load_average, write
from benchmarks._reach import Reach, hold
from contracts.drift_record import DriftAlert
from contracts.model_spec import Drift
from dataflows.definitions.drift import compile_drift
from dataflows.drift.monitor import DriftMonitor
from dataflows.drift.spec import DriftSpec

Floats = NDArray[np.float64]
Rows = tuple[Floats, Floats, Floats]  # vectors, scores, losses
FIELDS = 20
CHUNK = 10_000
BEFORE_DRIFT = 40_000
AFTER_DRIFT = 5_000
CALL_ROWS = 10
NOMINAL = (6, 10)


def spec() -> DriftSpec:
    """The model that is watched."""
    plan = compile_drift(Drift(), "the benchmark")
    assert plan is not None, "the default watches"
    names = tuple(f"f{place}" for place in range(FIELDS))
    return DriftSpec("benchmark", names, tuple(place in NOMINAL for place in range(FIELDS)), plan)


def make_rows(rng: np.random.Generator, n: int) -> Rows:
    """Rows of a world that stays as it is."""
    rows = rng.normal(size=(n, FIELDS))
    rows[:, 1] = rng.standard_cauchy(n)
    rows[:, 2] = rng.pareto(0.5, n)
    rows[:, 3] = rng.poisson(3, n)
    rows[:, 4] = 7.0
    rows[rng.random(n) < 0.98, 5] = np.nan
    rows[:, 6] = rng.integers(0, 5_000, n)
    rows[:, 7] = rng.random(n) < 0.01
    rows[rng.random(n) < 0.02, 8] = np.nan
    rows[:, 9] = np.where(rng.random(n) < 0.6, 0.0, rng.exponential(size=n))
    rows[:, 10] = rng.integers(0, 8, n) * 12_345.0
    rows[:, 11] = np.nan
    rows[:, 12] = rng.lognormal(sigma=2.0, size=n)
    return rows, rng.beta(2, 5, n), (rng.random(n) < 0.2).astype(np.float64)


def _mean(rng: np.random.Generator, rows: Rows) -> None:
    rows[0][:, 0] += 0.5


def _scale(rng: np.random.Generator, rows: Rows) -> None:
    rows[0][:, 0] *= 1.5


def _missing(rng: np.random.Generator, rows: Rows) -> None:
    rows[0][:, 8] = rng.normal(size=len(rows[0]))
    rows[0][rng.random(len(rows[0])) < 0.1, 8] = np.nan


def _category(rng: np.random.Generator, rows: Rows) -> None:
    rows[0][rng.random(len(rows[0])) < 0.1, 10] = 777.0


def _scores(rng: np.random.Generator, rows: Rows) -> None:
    rows[1][:] = rng.beta(3, 4, len(rows[1]))


def _errors(rng: np.random.Generator, rows: Rows) -> None:
    rows[2][:] = rng.random(len(rows[2])) < 0.35


PLANTED: dict[str, tuple[Callable[[np.random.Generator, Rows], None], str]] = {
    "mean of a normal column + 0.5 σ": (_mean, "f0"),
    "its scale × 1.5": (_scale, "f0"),
    "missing rate 2 % → 10 %": (_missing, "f8"),
    "a new category, 10 % of rows": (_category, "f10"),
    "scores Beta(2, 5) → Beta(3, 4)": (_scores, ""),
    "error rate 0.20 → 0.35": (_errors, ""),
}


def calls(rows: Rows, size: int) -> Iterator[Rows]:
    """The rows in calls of that size."""
    for begin in range(0, len(rows[1]), size):
        vectors, scores, losses = (part[begin : begin + size] for part in rows)
        yield vectors, scores, losses


def follow(monitor: DriftMonitor, first: int, rows: Rows) -> list[DriftAlert]:
    """Give rows to the monitor, one a second from that second on."""
    vectors, scores, losses = rows
    times_us = (first + np.arange(len(scores), dtype=np.int64)) * 1_000_000
    found = monitor.add_predictions(times_us, vectors, scores)
    return found + monitor.add_outcomes(times_us, losses)


def stays(seed: int, count: int) -> int:
    """Alerts over a stream that stays as it is."""
    rng, monitor = np.random.default_rng(seed), DriftMonitor(spec())
    parts = range(0, count, CHUNK)
    return sum(len(follow(monitor, first, make_rows(rng, CHUNK))) for first in parts)


def rows_to_detection(seeds: range) -> dict[str, Any]:
    """Of each kind of planted drift, rows until the first alert of what was changed."""
    found: dict[str, list[int | None]] = {name: [] for name in PLANTED}
    others = 0
    for seed in seeds:
        rng, monitor = np.random.default_rng(seed), DriftMonitor(spec())
        assert not follow(monitor, 0, make_rows(rng, BEFORE_DRIFT)), "nothing has changed yet"
        state = pickle.dumps(monitor.dump())
        for name, (change, feature) in PLANTED.items():
            monitor = DriftMonitor.load(spec(), pickle.loads(state))
            rows = make_rows(rng, AFTER_DRIFT)
            change(rng, rows)
            first: int | None = None
            for number, part in enumerate(calls(rows, CALL_ROWS), 1):
                alerts = follow(monitor, BEFORE_DRIFT + number * CALL_ROWS, part)
                others += sum(alert.feature != feature for alert in alerts)
                if alerts and first is None:
                    first = number * CALL_ROWS
            found[name].append(first)
    assert others == 0, "alerts of what was not changed"
    return {
        name: {
            "found": sum(one is not None for one in each),
            "of": len(each),
            "rows_median": float(np.median([one for one in each if one is not None])),
            "rows_max": max(one for one in each if one is not None),
        }
        for name, each in found.items()
    }


def cost(count: int) -> dict[str, float]:
    """CPU-microseconds a row, of predictions in large and small calls, and of losses."""
    rows = make_rows(np.random.default_rng(1), count)
    times_us = np.arange(count, dtype=np.int64) * 1_000_000
    follow(DriftMonitor(spec()), 0, make_rows(np.random.default_rng(2), 1_000))  # compiles
    figures = {}
    for size in (10_000, 100, 1):
        monitor = DriftMonitor(spec())
        started = time.process_time()
        for first in range(0, count, size):
            part = slice(first, first + size)
            monitor.add_predictions(times_us[part], rows[0][part], rows[1][part])
        used = time.process_time() - started
        figures[f"prediction_calls_of_{size}"] = used / count * 1e6
    monitor = DriftMonitor(spec())
    started = time.process_time()
    monitor.add_outcomes(times_us, rows[2])
    figures["loss"] = (time.process_time() - started) / count * 1e6
    return figures


def reaches(figures: dict[str, Any]) -> list[Reach]:
    """No false alarm, and each planted drift is found."""
    quiet = Reach("alerts of streams that stay", figures["stationary"]["alerts"], most=0)
    planted = [
        Reach(f"{name}: share found", one["found"] / one["of"], least=1.0)
        for name, one in figures["planted"].items()
    ]
    return [quiet, *planted]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("build/bench/drift.json"))
    options = parser.parse_args()
    load = load_average()
    used = cost(min(options.rows, 200_000))
    alarms = [stays(seed, options.rows) for seed in range(options.seeds)]
    found = rows_to_detection(range(options.seeds))
    figures = {
        "environment": describe(["river", "numba", "numpy"]),
        "load_average": load,
        "fields": FIELDS,
        "cpu_us_per_row": used,
        "stationary": {"rows": options.rows, "streams": options.seeds, "alerts": sum(alarms)},
        "planted": found,
        "state_bytes": len(pickle.dumps(DriftMonitor(spec()).dump(), protocol=5)),
    }
    write(options.output, figures)
    for name, each_us in used.items():
        print(f"{name:32} {each_us:6.2f} µs")
    print(f"{options.seeds} streams of {options.rows:,} rows that stay: {sum(alarms)} alerts")
    for name, one in found.items():
        rows = f"{one['rows_median']:,.0f} rows (at most {one['rows_max']:,})"
        print(f"{name:32} found {one['found']} of {one['of']}, after {rows}")
    hold(reaches(figures))


if __name__ == "__main__":
    main()
