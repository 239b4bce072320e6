"""The whole flow on the flights' log: with both models, without any, and the parsing alone.

Each run of the flow is a process of its own that begins with nothing: JSON in; windows, online and
offline stores, recovery state and (with models) vectors, learning and ONNX versions out. Two runs
with models must leave the same digest of everything. A run without models must leave the same rows
in the offline store, up to the end of the shortest topic: there the two differ by right, because
the run without models does not read the topic that only models need.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks._environment import describe, load_average, write
from benchmarks._table import load_line, show
from cli.demo.csv_files import TIME_FIELD
from cli.demo.flight_log import Counts, FlightLog
from cli.demo.flights import flight_records, installed_files
from contracts.settings import PREFIX

REPOSITORY = Path(__file__).resolve().parent.parent / "feature_repo"
JOB_SECONDS_MAX = 900.0
END_SECONDS_MAX = 30.0
ROUNDS = 2
# Feast sets these when it is imported; a child would mix its metrics with ours.
NOT_INHERITED = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
REPORTED = (
    "cpu_seconds",
    "seconds",
    "peak_mb",
    "events",
    "late",
    "labels",
    "versions",
    "online_rows",
    "offline_rows",
)
WITHOUT_MODELS = """

for _name in [name for name, value in globals().items() if isinstance(value, Model)]:
    del globals()[_name]
"""


def write_log(folder: Path, events: int) -> tuple[Counts, int]:
    """The first ``events`` records of the flights' log (0 is all), and when the first topic ends.

    Records of the moment at which the last one would stand are left out with it.
    """
    records = flight_records(installed_files())
    times = {topic: table[TIME_FIELD].to_numpy() for topic, table in records.items()}
    ordered = np.sort(np.concatenate(list(times.values())))
    until_us = int(ordered[events]) if 0 < events < len(ordered) else int(ordered[-1]) + 1
    counts = FlightLog(records).write(folder, until_us=until_us)
    return counts, min(int(one[one < until_us].max()) for one in times.values())


def copy_repository(folder: Path, addition: str = "") -> Path:
    """A copy of ``feature_repo`` without data, with more at the end of its definitions."""
    shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    with (folder / "definitions.py").open("a", encoding="utf-8") as file:
        file.write(addition)
    return folder


class Runner:
    """The process that does the jobs; see ``benchmarks._flow_run``."""

    def __init__(self, log: Path) -> None:
        """Start it; it imports what it needs while the log is being written to ``log``."""
        self._log = log
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(PREFIX) and name not in NOT_INHERITED
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._flow_run"],
            cwd=REPOSITORY.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A group of its own, so that a job that hangs can be ended with its parent.
            start_new_session=True,
        )

    def do(self, job: str, repository: Path) -> dict[str, Any]:
        """One job; raise RuntimeError with what it said if it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"job": job, "repository": str(repository), "log": str(self._log)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = {"failed": f"no answer within {JOB_SECONDS_MAX:g} s"}
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if selector.select(JOB_SECONDS_MAX):
                line = self._process.stdout.readline()
                answer = json.loads(line) if line else {"failed": "the process ended"}
        if "failed" in answer:
            raise RuntimeError(f"{job} failed in {repository}:\n{answer['failed']}")
        done: dict[str, Any] = answer["done"]
        return done

    def __enter__(self) -> Self:
        """For ``with``."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, and a job that is under way."""
        if error is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=END_SECONDS_MAX)


def check(
    with_models: list[dict[str, Any]], without: list[dict[str, Any]], until_us: int
) -> dict[str, Any]:
    """Whether the runs did the same work; what was compared.

    Raises:
        AssertionError: they did not.
    """
    first = with_models[0]
    assert first["models"], "the definitions have no model"
    assert not without[0]["models"], "a model was left over"
    for runs in (with_models, without):
        for one in runs:
            assert one["digest"] == runs[0]["digest"], "two runs on one log differ"
            assert one["bad"] == 0, "bad records"
            assert not one["refused"], f"versions refused: {one['refused']}"
    rows = {}
    for view, folder in first["offline"].items():
        mine = _rows_until(Path(folder), until_us)
        other = _rows_until(Path(without[0]["offline"][view]), until_us)
        assert mine.num_rows > 0, f"no rows of {view}"
        assert mine.equals(other), f"rows of {view} differ with and without models"
        rows[view] = mine.num_rows
    return {
        "digests_of_runs_equal": True,
        "offline_rows_equal_with_and_without_models": rows,
        "digest": first["digest"],
    }


def _rows_until(folder: Path, until_us: int) -> pa.Table:
    """All rows of a view with stamps up to a moment, in order of all columns."""
    files = sorted(folder.rglob("*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    stamps = pc.cast(table[TIME_FIELD], pa.timestamp("us", "UTC")).cast(pa.int64())
    table = table.filter(pc.less_equal(stamps, until_us))
    return table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()


def measure(events: int, folder: Path) -> dict[str, Any]:
    """Make the log, run everything, check, and only then count."""
    log = folder / "log"
    complete = [copy_repository(folder / f"with-{number}") for number in range(ROUNDS)]
    bare = [copy_repository(folder / f"without-{n}", WITHOUT_MODELS) for n in range(ROUNDS)]
    with_models, without = [], []
    with Runner(log) as runner:
        counts, until_us = write_log(log, events)
        parsed = runner.do("parse", complete[0])
        # In turn, so that whatever else the machine does meets both.
        for repository, bare_repository in zip(complete, bare, strict=True):
            with_models.append(runner.do("run", repository))
            without.append(runner.do("run", bare_repository))
    assert parsed["events"] == counts.total == with_models[0]["events"], "events got lost"
    checked = check(with_models, without, until_us)
    ways = {"parsing": parsed, "without_models": _best(without), "with_models": _best(with_models)}
    whole = ways["with_models"]["cpu_seconds"]
    return {
        "records": dict(counts.records),
        "log_megabytes": parsed["megabytes"],
        "checked": checked,
        **{name: _with_rates(one) for name, one in ways.items()},
        "share_of_cpu": {name: one["cpu_seconds"] / whole for name, one in ways.items()},
        "rounds": {
            name: [{key: one[key] for key in ("seconds", "cpu_seconds")} for one in runs]
            for name, runs in (("with_models", with_models), ("without_models", without))
        },
    }


def _best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run that took the least CPU time."""
    best = min(runs, key=lambda one: float(one["cpu_seconds"]))
    return {name: best[name] for name in REPORTED}


def _with_rates(one: dict[str, Any]) -> dict[str, Any]:
    return {
        **one,
        "events_per_second": one["events"] / one["seconds"],
        "events_per_cpu_second": one["events"] / one["cpu_seconds"],
    }


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=300_000, help="first so many; 0 is all")
    parser.add_argument("--output", type=Path, default=Path("build/bench/flow.json"))
    options = parser.parse_args()
    load = load_average()
    with TemporaryDirectory(prefix="headwater-bench-") as folder:
        figures = measure(options.events, Path(folder))
    environment = describe(["bytewax", "feast", "numba", "msgspec", "pyarrow", "river", "onnx"])
    write(options.output, {"environment": environment, "load_average_before": load, **figures})
    names = ("parsing", "without_models", "with_models")
    show(
        f"{sum(figures['records'].values()):,} events, {figures['log_megabytes']:.0f} MB of JSON; "
        f"results equal; {load_line(load, os.cpu_count())}",
        ("", "events", "seconds", "CPU-seconds", "events/s", "events/CPU-s", "share of CPU"),
        [_row(name, figures[name], figures["share_of_cpu"][name]) for name in names],
    )


def _row(name: str, one: dict[str, Any], share: float) -> list[str]:
    return [
        name.replace("_", " "),
        f"{one['events']:,}",
        f"{one['seconds']:.1f}",
        f"{one['cpu_seconds']:.1f}",
        f"{one['events_per_second']:,.0f}",
        f"{one['events_per_cpu_second']:,.0f}",
        f"{share:.0%}",
    ]


if __name__ == "__main__":
    main()
