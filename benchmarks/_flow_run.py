"""Jobs of the flow's benchmark, each in a process of its own: ``python -m benchmarks._flow_run``.

Importing Feast takes seconds, so one process imports everything and forks a child for each job.
Jobs come in as lines of JSON, ``{"job", "repository", "log"}``, and each is answered by one line.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contracts.file_log import PartitionFile, partition_files
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import default_places, run_flow
from dataflows.replay.contents import digest
from dataflows.sources.decoding import make_decoder
from dataflows.windows.view_state import warm_up

PARSING_ROUNDS = 3
TALLIED = (
    "events",
    "bad",
    "late",
    "online_rows",
    "offline_rows",
    "versions",
    "labels",
    "refused",
)


def run(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    """The flow until the end of the log, then the digest of everything written.

    State, stores, examples and models go to the repository's ``data``, which must be empty.
    """
    places = default_places(repository, settings)
    cpu, wall = time.process_time(), time.perf_counter()
    summary = run_flow(repository, settings, places, until_end=True)
    return {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **{name: getattr(summary.tally, name) for name in TALLIED},
        "models": [model.name for model in repository.plan.models],
        "offline": {name: str(path) for name, path in places.offline.items()},
        "digest": asdict(digest(repository, places)),
    }


def parse(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    """Decode the whole log in reads of the size that the flow uses; the best of some rounds."""
    rounds = [_parse_once(repository, settings) for _ in range(PARSING_ROUNDS)]
    return min(rounds, key=lambda one: float(one["cpu_seconds"]))


def _parse_once(repository: Repository, settings: DataflowSettings) -> dict[str, Any]:
    log = settings.log.folder
    assert log is not None
    events, bad, size = 0, 0, 0
    cpu, wall = time.process_time(), time.perf_counter()
    for topic in repository.plan.topics:
        decoder = make_decoder(topic)
        for path in partition_files(log, topic.name).values():
            file = PartitionFile(path, 0)
            while (chunk := file.read(settings.batch_bytes)) is not None:
                decoded = decoder.decode(chunk)
                events += len(decoded.event_us)
                bad += len(decoded.bad)
                size += len(chunk.records)
            file.close()
    return {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "events": events,
        "bad": bad,
        "megabytes": size / 1e6,
    }


JOBS: dict[str, Callable[[Repository, DataflowSettings], dict[str, Any]]] = {
    "run": run,
    "parse": parse,
}


def main() -> None:
    """Take jobs until the input ends."""
    warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(request)
        os.waitpid(pid, 0)


def _child(request: dict[str, str]) -> None:
    """Do a job, answer, and leave without the parent's exit handlers."""
    answer: dict[str, Any]
    try:
        folder, log = Path(request["repository"]), Path(request["log"])
        settings = DataflowSettings.for_repo(folder, log_url=log.absolute().as_uri())
        answer = {"done": JOBS[request["job"]](load_repository(folder), settings)}
    except BaseException:  # noqa: BLE001 - the parent says it, whatever it is
        answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
