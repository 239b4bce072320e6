"""One thing to be measured, in a process of its own.

    python -m benchmarks.replay.job JOB FOLDER

Settings come from the environment, as for ``headwater``. Answers with one line of JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._flow_run import parse, run
from benchmarks._ingest_flow import PATIENCE_SECONDS
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.delivery import Delivery
from dataflows.replay import replay as replaying
from dataflows.replay.options import ReplayOptions
from dataflows.sources.plan_log import open_log
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from dataflows.windows.view_state import warm_up

Job = Callable[[Repository, DataflowSettings], dict[str, Any]]


def replay_all(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    """Everything anew; CPU time by phase."""
    return _replay(repository, settings, ReplayOptions())


def replay_online(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    """As ``headwater replay --online``."""
    return _replay(repository, settings, ReplayOptions(results=("online",)))


def _replay(
    repository: Repository, settings: DataflowSettings, options: ReplayOptions
) -> dict[str, Any]:
    spent: Counter[str] = Counter()
    # Values are written by a thread of its own: what it takes is not part of the reading.
    _time(Delivery, "_stage", "online", spent, time.thread_time)
    for writer in (SqliteOnlineWriter, RedisOnlineWriter):
        _time(writer, "commit", "online", spent, time.thread_time)
    _time(replaying, "run_locked", "flow", spent, time.process_time)
    _time(replaying, "hand_over", "put_in_place", spent, time.process_time)
    _time(replaying, "digest", "digests", spent, time.process_time)
    _time(replaying, "digest_if_readable", "digests", spent, time.process_time)
    cpu, wall = time.process_time(), time.perf_counter()
    replayed = replaying.replay(repository, settings, options)
    return {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "events": replayed.events,
        "muted_cpu_seconds": spent["flow"] - spent["online"],
        "online_cpu_seconds": spent["online"],
        "put_in_place_cpu_seconds": spent["put_in_place"],
        "digests_cpu_seconds": spent["digests"],
        "before": asdict(replayed.before) if replayed.before else None,
        "after": asdict(replayed.after) if replayed.after else None,
    }


def _time(
    owner: object, name: str, phase: str, spent: Counter[str], clock: Callable[[], float]
) -> None:
    """Have calls of a function counted."""
    function = getattr(owner, name)

    def timed(*given: Any, **named: Any) -> Any:
        began = clock()
        try:
            return function(*given, **named)
        finally:
            spent[phase] += clock() - began  # type: ignore[assignment]  # a Counter adds floats too

    setattr(owner, name, timed)


def source(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    """Read all partitions in turns, as the flow does, and look at nothing."""
    with closing(open_log(settings, repository.plan)) as log:
        cpu, wall = time.process_time(), time.perf_counter()
        ends = log.ends()
        readers = {p.number: log.open(p, None) for p in log.partitions}
        events = 0
        deadline = time.monotonic() + PATIENCE_SECONDS
        while readers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {events} events came")
            for number, reader in list(readers.items()):
                chunk = reader.read(settings.batch_bytes, ends[number])
                if chunk is not None:
                    events += len(chunk.starts)
                elif reader.is_at_end(ends[number]):
                    readers.pop(number).close()
                else:
                    time.sleep(0.001)
        return {
            "cpu_seconds": time.process_time() - cpu,
            "seconds": time.perf_counter() - wall,
            "events": events,
        }


def materialize(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    """Feast's own way from its offline store to its online store."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(repository.directory))
    made = runpy.run_path(str(repository.directory / "definitions.py"))
    store.apply([made["card"], made["cards"]])
    begin, end = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    cpu, wall = time.process_time(), time.perf_counter()
    store.materialize(begin, end)
    return {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
    }


JOBS: dict[str, Job] = {
    "parse": parse,
    "run": run,
    "replay": replay_all,
    "replay_online": replay_online,
    "source": source,
    "materialize": materialize,
}


def main() -> None:
    """Do one job."""
    job, folder = JOBS[sys.argv[1]], Path(sys.argv[2])
    repository = load_repository(folder)
    warm_up(repository.plan.views)
    print(json.dumps(job(repository, DataflowSettings.for_repo(folder))))


if __name__ == "__main__":
    main()
