"""A process that imports everything once and forks a child for each run it is asked for.

One JSON object a line comes in, ``{"log", "out", "until_end", "settings"}``; for each the child's
pid goes out, then ``[exit code, error]`` when it has ended.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import run_flow
from tests.flow import shop


def main() -> None:
    """Serve requests until the input ends; the argument is the folder of the repository."""
    repository = load_repository(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        error = Path(request["out"] + ".error")
        error.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            _run(repository, request, error)
        _say(pid)
        _, status = os.waitpid(pid, 0)
        text = error.read_text() if error.exists() else ""
        _say([os.waitstatus_to_exitcode(status), text])


def _run(repository: Repository, request: dict[str, Any], error: Path) -> None:
    """Run the flow in this child and leave without the parent's exit handlers."""
    log, out = Path(request["log"]), Path(request["out"])
    settings = shop.settings(repository.directory, log, out, **request["settings"])
    code = 1
    try:
        run_flow(repository, settings, shop.places(out), until_end=request["until_end"])
        code = 0
    except BaseException:
        error.write_text(traceback.format_exc())
        raise
    finally:
        os._exit(code)


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - the answer is this process's output


if __name__ == "__main__":
    main()
