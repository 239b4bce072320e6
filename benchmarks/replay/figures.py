"""Replays from files and from Kafka; all checked for equality."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks._ingest_flow import PARTITIONS, PATIENCE_SECONDS, check_redis, produce
from benchmarks._payments import make_payments
from benchmarks.replay.worlds import (
    check_sqlite,
    make_events,
    make_windows,
)

Figures = dict[str, Any]


def job(name: str, folder: Path, **settings: str) -> Figures:
    """Do one of ``benchmarks.replay.job`` in a new process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.replay.job", name, str(folder)]
    done = subprocess.run(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    if events := found.get("events"):
        found["events_per_cpu_second"] = events / found["cpu_seconds"]
        if "muted_cpu_seconds" in found:
            found["muted_events_per_cpu_second"] = events / found["muted_cpu_seconds"]
    return found


def from_files(folder: Path, count: int, cards: int, rounds: int) -> Figures:
    """Parsing alone, ``run --until-end``, and a replay over what that has left: same digests."""
    events = make_events(count, cards)
    made = make_windows(folder, events)
    found = []
    for _ in range(rounds):
        _wipe(made)
        one = {name: job(name, made) for name in ("parse", "run", "replay")}
        values = check_sqlite(made, events)
        for name in one:
            assert one[name]["events"] == count, f"{name} read {one[name]['events']} of {count}"
        assert one["replay"]["before"] == one["replay"]["after"] == one["run"]["digest"], one
        found.append(one)
    best = min(found, key=lambda one: float(one["replay"]["muted_cpu_seconds"]))
    return {"events": count, "cards": cards, "values_checked": values, **best, "rounds": found}


def from_kafka(
    folder: Path, servers: str, redis: str, count: int, cards: int, rounds: int
) -> Figures:
    """Reading alone, and a replay, values in Redis; beside them a replay of the same from files."""
    events = make_events(count, cards)
    made = make_payments(folder / "kafka", servers, redis, PARTITIONS)
    produce(made, events.times_us, events.of_card, events.amounts)
    files = make_windows(folder / "files", events)
    log = {"HEADWATER_LOG_URL": made.log_url}
    found = []
    for _ in range(rounds):
        _wipe(files)
        _wipe(made.folder)
        one = {
            "source": job("source", made.folder, **log),
            "files": job("replay", files),
            "replay": job("replay", made.folder, **log),
        }
        for name in one:
            assert one[name]["events"] == count, f"{name} read {one[name]['events']} of {count}"
        values = check_redis(made, events.times_us, events.of_card, events.amounts)
        assert values == check_sqlite(files, events)
        found.append(one)
    best = {
        name: min((one[name] for one in found), key=_cpu_seconds)
        for name in ("source", "files", "replay")
    }
    # Reading takes what it takes, and the rest is what it is from files.
    bound = best["source"]["cpu_seconds"] + best["files"]["muted_cpu_seconds"]
    share = bound / best["replay"]["muted_cpu_seconds"]
    return {
        "events": count,
        "cards": cards,
        "partitions": PARTITIONS,
        "values_checked": values,
        **best,
        "bound_events_per_cpu_second": count / bound,
        "share_of_bound": share,
        "rounds": found,
    }


def _cpu_seconds(one: Figures) -> float:
    return float(one["muted_cpu_seconds" if "muted_cpu_seconds" in one else "cpu_seconds"])


def _wipe(folder: Path) -> None:
    """Begin anew: no state, no stores."""
    data = folder / "data"
    for path in data.iterdir() if data.exists() else ():
        if path.name == "log":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
