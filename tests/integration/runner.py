"""A process that imports everything once and forks a child for each command it is asked for.

One JSON object a line comes in: ``{"arguments", "environment", "output"}`` starts a command of
``headwater`` and is answered with its process id, ``{"pid"}``, once it has ended, with its exit
code. What a command says goes to ``output``, what it says of errors to ``errors`` if that is given;
``input`` is what it reads, ``folder`` where it runs.
``{"repository", "requests", "answers"}`` starts ``tests.flow.runner``, which talks over two FIFOs.

With the number of a listening socket as its argument it forks a process that does this for each who
connects, until its own input ends.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import select
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

# Everything that commands import, so that a child has it from the start.
import feast.infra.offline_stores.dask
import feast.infra.online_stores.redis
import feast.infra.online_stores.sqlite
import feast.infra.passthrough_provider
import feast.infra.registry.file
import feast.repo_operations  # noqa: F401
import rich.live
import rich.table  # noqa: F401
import river  # noqa: F401

import cli.run_progress  # noqa: F401
import dataflows.changes.report
import dataflows.flow.drift_metrics
import dataflows.flow.evaluation_metrics
import dataflows.replay.replay
import dataflows.sources.kafka_dead_letters
import dataflows.sources.kafka_log
import dataflows.status
import dataflows.stores.redis_refill
import dataflows.stores.redis_writer
import dataflows.stores.sqlite_refill
import dataflows.stores.sqlite_writer  # noqa: F401
import scorer.online_store  # noqa: F401
from cli.main import main as headwater
from dataflows.flow.engine import run_flow  # noqa: F401
from dataflows.windows.view_state import warm_up
from tests import kernels
from tests.flow.runner import run_flows


def main(arguments: list[str]) -> None:
    """Serve requests until the input ends: our own, or that of each who connects."""
    warm_up()
    kernels.compile_others()
    # What is here is never let go: children need not look at it, nor copy it to do so.
    gc.collect()
    gc.freeze()
    try:
        serve() if not arguments else serve_all(int(arguments[0]))
    finally:
        # Else extension modules tell at the end of all that they are not given back.
        gc.unfreeze()


def serve_all(listening: int) -> None:
    """Fork a process for each who connects there, until our own input ends."""
    with socket.socket(fileno=listening) as listener:
        while sys.stdin not in (ready := select.select([listener, sys.stdin], [], [])[0]):
            assert ready == [listener]
            connection, _ = listener.accept()
            if os.fork() == 0:
                _serve_one(listener, connection)
            connection.close()


def _serve_one(listener: socket.socket, connection: socket.socket) -> None:
    """Serve whoever connected in this child."""
    listener.close()
    for number in (0, 1):
        os.dup2(connection.fileno(), number)
    connection.close()
    code = 70
    try:
        serve()
        code = 0
    except Exception:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def serve() -> None:
    """Serve requests until they end."""
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            _, status = os.waitpid(request["pid"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _run_flows(request) if "repository" in request else _run(request)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _run_flows(request: dict[str, Any]) -> None:
    """Be the process that runs of the flow are forked from."""
    os.dup2(os.open(request["requests"], os.O_RDONLY), 0)
    os.dup2(os.open(request["answers"], os.O_WRONLY), 1)
    code = 70
    try:
        run_flows(Path(request["repository"]), os.fdopen(0))
        code = 0
    except Exception:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _run(request: dict[str, Any]) -> None:
    """Run the command in this child and leave without the parent's exit handlers."""
    os.environ.update(request["environment"])
    os.chdir(request.get("folder", "."))
    # What stands on the standard input are requests to the parent.
    os.dup2(os.open(request.get("input", os.devnull), os.O_RDONLY), 0)
    for number, name in enumerate(("output", "errors"), 1):
        path = request.get(name, request["output"])
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    # One that hangs is ended with SIGABRT, to see where; a run gives this output to libraries.
    faulthandler.enable(os.dup(2))
    code = 70
    try:
        headwater(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
