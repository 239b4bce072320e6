"""Headwater and what people would pick instead, given the same work: ``make bench-windows``.

Every engine is a process of its own (``measure`` says what it must do). It runs once to have all
its results compared with a computation from scratch, of its own semantics (``check``); if one is
wrong there are no figures. Then the engines run in turn, and the best of the rounds counts; once
``--seconds`` have gone by no further round begins. An engine that cannot be run here is told as
such in the table and in the JSON, with what it said.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._environment import describe, load_average, write
from benchmarks._table import load_line, show
from benchmarks.peers.check import check
from benchmarks.peers.engines import ENGINES, Engine
from benchmarks.peers.reach import compare
from benchmarks.peers.workload import CARDS, EVENTS, FEATURES, Events, make_events, write_events

ROOT = Path(__file__).resolve().parent.parent.parent
_SAID_CHARACTERS_MAX = 500


class EngineFailedError(Exception):
    """An engine could not be run; the message is the end of what it said."""


class Bench:
    """The workload in files, and what runs engines on it."""

    def __init__(self, folder: Path, peers_python: Path, share: float) -> None:
        """Write nothing yet.

        Args:
            folder: for the events and the results; to be removed by the caller.
            peers_python: interpreter that has the peers.
            share: of the events of each engine, to try things out; 1 is all.
        """
        self._folder = folder
        self._pythons = {"ours": Path(sys.executable), "peers": peers_python}
        self._share = share
        self._events = make_events(round(EVENTS * share), CARDS)

    def run(self, engine: Engine, keep: Path | None) -> dict[str, Any]:
        """One run of an engine; its report. Raise EngineFailedError."""
        output = self._folder / "report.json"
        output.unlink(missing_ok=True)
        # Some engines would outlive us, and wait for ever for what ended with us.
        setpriv = shutil.which("setpriv")
        command = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        command += [str(self._pythons[engine.environment]), "-W", "ignore"]
        command += ["-m", f"benchmarks.peers.{engine.module}", str(self._input(engine))]
        command += [str(output), *engine.options]
        if keep is not None:
            command += ["--keep", str(keep)]
        load = load_average()
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=engine.seconds_max,
                check=False,
            )
        except OSError as error:
            raise EngineFailedError(f"{command[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise EngineFailedError(f"not done after {engine.seconds_max:g} s") from error
        if done.returncode or not output.exists():
            said = done.stdout.strip()[-_SAID_CHARACTERS_MAX:]
            raise EngineFailedError(said or f"ended with {done.returncode} and said nothing")
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        if found["events"] != len(self.events_of(engine).cards):
            raise EngineFailedError(f"it read {found['events']:,} events")
        return {**found, "load_average_before": load}

    def check(self, engine: Engine) -> dict[str, Any]:
        """Run it once and compare all that it computed; what it reported and what was compared."""
        with TemporaryDirectory(dir=self._folder) as name:
            keep = Path(name)
            engine = replace(engine, events=min(engine.events, engine.events_checked))
            found = self.run(engine, keep)
            events = self.events_of(engine)
            return {**found, "checked": {kind: check(kind, keep, events) for kind in engine.kinds}}

    def events_of(self, engine: Engine) -> Events:
        """The events that an engine gets."""
        return self._events.first(round(engine.events * self._share))

    def _input(self, engine: Engine) -> Path:
        events = self.events_of(engine)
        path = self._folder / f"{len(events.cards)}.ndjson"
        if not path.exists():
            write_events(events, path)
        return path


def measure(bench: Bench, engines: Sequence[Engine], seconds: float) -> list[dict[str, Any]]:
    """Check all, then run all in turn; a line for each engine.

    Args:
        bench: runs them.
        engines: in the order of the table.
        seconds: from now on; no round but the first begins later.

    Raises:
        WrongResultsError: an engine computed something else than it says.
    """
    until = time.monotonic() + seconds
    checked: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for engine in engines:
        print(f"checking {engine.name}", file=sys.stderr, flush=True)
        try:
            checked[engine.name] = bench.check(engine)
        except EngineFailedError as error:
            failed[engine.name] = str(error)
            print(f"{engine.name} cannot be run: {error}", file=sys.stderr, flush=True)
    runs = {
        engine.name: [checked[engine.name]] if engine.is_measured_as_checked else []
        for engine in engines
        if engine.name in checked
    }
    for number in range(max(engine.rounds for engine in engines)):
        if number and time.monotonic() > until:
            break
        for engine in engines:
            is_over = number >= engine.rounds or engine.is_measured_as_checked
            if engine.name in runs and not is_over:
                print(f"round {number + 1}: {engine.name}", file=sys.stderr, flush=True)
                try:
                    runs[engine.name].append(bench.run(engine, None))
                except EngineFailedError as error:
                    failed[engine.name] = str(error)
                    del runs[engine.name]
                    print(f"{engine.name} cannot be run: {error}", file=sys.stderr, flush=True)
    return [
        _line(engine, runs[engine.name], checked[engine.name])
        if engine.name in runs
        else {"name": engine.name, "title": engine.title, "failed": failed[engine.name]}
        for engine in engines
    ]


def _line(engine: Engine, runs: list[dict[str, Any]], checked: dict[str, Any]) -> dict[str, Any]:
    best = min(runs, key=lambda one: float(one["cpu_seconds"]))
    return {
        "name": engine.name,
        "title": engine.title,
        **best,
        "events_per_cpu_second": best["events"] / best["cpu_seconds"],
        "events_per_second": best["events"] / best["seconds"],
        "checked": {
            "events": checked["events"],
            "values": checked["checked"],
            "equal": True,
        },
        "rounds": [
            {name: one[name] for name in ("cpu_seconds", "seconds", "load_average_before")}
            for one in runs
        ],
    }


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers-python", type=Path, default=Path("build/peers-venv/bin/python"))
    parser.add_argument("--only", nargs="+", default=[], help="modules; all without")
    parser.add_argument("--share", type=float, default=1.0, help="of the events, to try it out")
    parser.add_argument("--seconds", type=float, default=800.0, help="no round begins later")
    parser.add_argument("--output", type=Path, default=Path("build/bench/windows.json"))
    options = parser.parse_args()
    engines = [one for one in ENGINES if not options.only or one.module in options.only]
    load = load_average()
    with TemporaryDirectory(prefix="headwater-bench-") as folder:
        # Not resolved: a virtual environment's interpreter is a link to the system's.
        bench = Bench(Path(folder), options.peers_python.absolute(), options.share)
        lines = measure(bench, engines, options.seconds)
    figures = {
        "events": round(EVENTS * options.share),
        "cards": CARDS,
        "features": list(FEATURES),
        "engines": lines,
        "reach": compare(lines),
    }
    environment = describe(["numpy", "pyarrow"])
    write(options.output, {"environment": environment, "load_average_before": load, **figures})
    show(
        f"nine windowed features of {CARDS:,} cards; all results equal to a computation from "
        f"scratch; {load_line(load, os.cpu_count())}",
        ("", "events", "events/CPU-s", "CPU-s", "s", "start CPU-s", "peak MB", "emits"),
        [_cells(line) for line in lines],
    )


def _cells(line: dict[str, Any]) -> list[str]:
    if "failed" in line:
        return [line["title"], "cannot be run here", *[""] * 6]
    return [
        line["title"],
        f"{line['events']:,}",
        f"{line['events_per_cpu_second']:,.0f}",
        f"{line['cpu_seconds']:.1f}",
        f"{line['seconds']:.1f}",
        f"{line['start_cpu_seconds']:.1f}",
        f"{line['peak_mb']:,.0f}",
        line["emits"],
    ]


if __name__ == "__main__":
    main()
