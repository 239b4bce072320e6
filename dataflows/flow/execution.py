"""Hands a flow to Bytewax, and makes one line of what Bytewax says when it fails."""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bytewax._bytewax import cluster_main, run_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig

from dataflows.flow.errors import EngineError
from dataflows.flow.guards import guard
from dataflows.flow.hush import Hush
from dataflows.flow.recovery import open_recovery
from dataflows.flow.run_context import RunContext

# In the text of what comes of a panic in a thread of Bytewax's, or in ours.
_RECOVERY_PANICS = ("panicked at src/recovery.rs", "SqliteFailure", "database or disk is full")
_SWITCH_SECONDS = 0.001


def prepare_recovery(state: Path) -> None:
    """Make Bytewax's recovery store fit to be used, by one process before any runs a flow.

    Raises:
        EngineError: it is damaged.
    """
    folder = _recovery(state)
    try:
        open_recovery(folder)
    except sqlite3.Error as error:
        raise EngineError(
            f"{folder}: {error}; rebuild everything from the log with `headwater replay`"
        ) from error


def execute(flow: Dataflow, context: RunContext, addresses: Sequence[str] = ()) -> None:
    """Run the flow to its end; ``addresses`` are those of all processes, if there are several."""
    settings = context.settings
    epoch_interval = timedelta(seconds=settings.epoch_seconds)
    recovery = RecoveryConfig(_recovery(context.places.state))
    if context.workers == 1:
        # In this thread. Otherwise it would look for signals every millisecond, and for each look
        # take the interpreter from the thread that works.
        with _few_interruptions(), Hush() as hush:
            guard(flow, hush.begin, _nothing)
            run_main(flow, epoch_interval=epoch_interval, recovery_config=recovery)
        return
    with _few_interruptions():
        cluster_main(
            flow,
            list(addresses),
            context.process,
            epoch_interval=epoch_interval,
            recovery_config=recovery,
            worker_count_per_proc=settings.workers,
        )


@contextmanager
def explained(state: Path) -> Iterator[None]:
    """Out of Bytewax's wrapping comes our own error, or one that says what to do."""
    try:
        yield
    except BaseException as error:
        root = _root(error)
        if not _is_ours(root) and any(map(_is_of_recovery, _chain(error))):
            # Bytewax's own recovery store could not be written or read; it only says so in Rust.
            raise EngineError(
                f"state folder {state}: {' '.join(str(root).split())[:300]}; is the disk full? "
                "Make room and start again (nothing is lost), or rebuild it with `headwater replay`"
            ) from error
        raise root from error


@contextmanager
def _few_interruptions() -> Iterator[None]:
    # A run makes millions of small tuples and hundreds of thousands of objects stand from the
    # imports: without this the collector takes a tenth of the time, looking at the latter.
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    # The threads that read Kafka have little to do, but every step of theirs waits for the flow's.
    interval_seconds = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval_seconds)


def _nothing() -> None:
    """What is to be done when Bytewax begins."""


def _recovery(state: Path) -> Path:
    return state / "recovery"


def _root(error: BaseException) -> BaseException:
    """The error that made the flow stop, out of Bytewax's wrapping: our own if there is one."""
    chain = _chain(error)
    return next(filter(_is_ours, chain), chain[-1])


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("dataflows", "contracts")


def _is_of_recovery(error: BaseException) -> bool:
    if type(error).__name__ == "PanicException":
        return True
    return any(mark in str(error) for mark in _RECOVERY_PANICS)
