"""A process that has loaded a repository and forks a child for each run it is asked for.

One JSON object a line comes in. ``{"log", "out", "until_end", "settings"}`` is answered with the
pid of the child that runs the flow; ``{"pid"}``, once that child has ended, with ``[exit code,
error]``. Among the settings there may be ``batch_records``, the most that one read takes, and
``kill_at_head``: the child is killed once it has written so many heads of models' states.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from contracts.file_log import PartitionFile
from contracts.log import Chunk
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import run_flow
from dataflows.state_files import Handle, StateFiles
from tests.flow import shop


def run_flows(folder: Path, requests: TextIO) -> None:
    """Serve requests until they end; answers go to the standard output as it is at first."""
    answers = os.fdopen(os.dup(1), "w")
    # Bytewax says on the standard output that it has to wait for another process.
    os.dup2(2, 1)
    repository = load_repository(folder)
    errors: dict[int, Path] = {}
    for number, line in enumerate(requests):
        request = json.loads(line)
        if "pid" in request:
            _, status = os.waitpid(request["pid"], 0)
            error = errors.pop(request["pid"])
            text = error.read_text() if error.exists() else ""
            _say(answers, [os.waitstatus_to_exitcode(status), text])
            continue
        error = Path(f"{request['out']}.error{number}")
        error.parent.mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if pid == 0:
            _run(repository, request, error)
        errors[pid] = error
        _say(answers, pid)


def _run(repository: Repository, request: dict[str, Any], error: Path) -> None:
    """Run the flow in this child and leave without the parent's exit handlers."""
    log, out = Path(request["log"]), Path(request["out"])
    given = dict(request["settings"])
    if "batch_records" in given:
        _read_at_most(given.pop("batch_records"))
    if "kill_at_head" in given:
        _kill_at_head(given.pop("kill_at_head"))
    settings = shop.settings(repository.directory, log, out, **given)
    places = shop.places(out, [view.name for view in repository.plan.views])
    code = 1
    try:
        run_flow(repository, settings, places, until_end=request["until_end"])
        code = 0
    except BaseException as failure:
        error.write_text(f"{traceback.format_exc()}\n{failure}")
        raise
    finally:
        os._exit(code)


def _read_at_most(records: int) -> None:
    """Have each read of a file end after so many records: settings know of bytes only."""
    chunk = PartitionFile._chunk

    def first_ones(self: PartitionFile, lines: bytes) -> Chunk:
        return chunk(self, b"".join(lines.splitlines(keepends=True)[:records]))

    setattr(PartitionFile, "_chunk", first_ones)  # noqa: B010 - mypy knows that it is no variable


def _kill_at_head(count: int) -> None:
    """End this process, as a kill does, between a state that is written and its commit."""
    write, left = StateFiles.write_head, iter(range(count, 0, -1))

    def write_and_die(self: StateFiles, data: Any, parts: Sequence[int]) -> Handle:
        handle = write(self, data, parts)
        if next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return handle

    setattr(StateFiles, "write_head", write_and_die)  # noqa: B010 - as above


def _say(answers: TextIO, what: Any) -> None:
    answers.write(f"{json.dumps(what)}\n")
    answers.flush()
