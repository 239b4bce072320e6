"""Evaluators in processes of their own, killed at a chosen write to the disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contracts.evaluation_file
import contracts.model_decisions
import dataflows.served.state
from cli.evaluate import stopping
from contracts.plan import Plan
from dataflows.served.evaluator import Evaluator
from tests.served.world import World

SECONDS_MAX = 60.0
# Everything that an evaluator leaves on the disk goes through one of these.
_WRITERS: tuple[tuple[Any, str], ...] = (
    (dataflows.served.state, "replace_file"),
    (contracts.evaluation_file, "replace_file"),
    (contracts.model_decisions, "append_line"),
    (contracts.model_decisions, "replace_file"),
)


def processes() -> Any:
    """A context whose processes begin with everything imported, and with no thread of ours."""
    context = multiprocessing.get_context("forkserver")
    # The others are imported when they are first used, which takes each process a second.
    context.set_forkserver_preload([__name__, "pandas", "scipy.linalg", "numba.np.arraymath"])
    return context


def run(folder: Path, plan: Plan, given: dict[str, Any], *, until_end: bool) -> list[str]:
    """Run an evaluator here; the lines for people."""
    lines: list[str] = []
    evaluator = Evaluator(plan, World(folder).settings(**given), threading.Event(), lines.append)
    evaluator.run(until_end=until_end)
    return lines


def run_until_signal(folder: Path, plan: Plan) -> None:
    """The same as the command does it: until SIGTERM."""
    stop = threading.Event()
    with stopping(stop):
        Evaluator(plan, World(folder).settings(), stop, lambda _: None).run(until_end=False)


def without_disk(put: Callable[[Any, str, Any], None]) -> None:
    """Do not wait for the disk: a killed process leaves what the kernel has, written or not."""
    put(os, "fsync", lambda _: None)


def run_and_die(folder: Path, plan: Plan, given: dict[str, Any], write: int) -> None:
    """The same until the end, but die at the write of that number, before it."""
    left = [write]
    without_disk(setattr)

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*arguments)

        return call

    for module, name in _WRITERS:
        setattr(module, name, dying(getattr(module, name)))
    run(folder, plan, given, until_end=True)
