"""A process that imports everything once and forks a child for each command it is asked for.

One JSON object a line comes in: ``{"arguments", "environment", "output"}`` starts a command of
``headwater`` and is answered with its process id, ``{"pid"}`` asks whether it has ended and is
answered with its exit code or null (never null with ``"wait"`` too). What a command says goes to
``output``.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

# Everything that a run imports, so that a child has it from the start.
import feast  # noqa: F401
import river  # noqa: F401

import dataflows.replay
import dataflows.sources.kafka_dead_letters
import dataflows.sources.kafka_log
import dataflows.stores.redis_copy
import dataflows.stores.redis_writer  # noqa: F401
from cli.main import main as headwater
from dataflows.flow.engine import run_flow  # noqa: F401
from dataflows.windows.view_state import warm_up


def main() -> None:
    """Serve requests until the input ends."""
    warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            pid, status = os.waitpid(request["pid"], 0 if "wait" in request else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _run(request)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    """Run the command in this child and leave without the parent's exit handlers."""
    os.environ.update(request["environment"])
    handle = os.open(Path(request["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(handle, number)
    faulthandler.enable()  # one that hangs is ended with SIGABRT, to see where
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
    main()
