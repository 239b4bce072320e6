"""Runs the flow: one process at a time per state folder, resumed from Bytewax's recovery."""

from __future__ import annotations

import errno
import gc
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig

from contracts.online_store import OnlineStoreConfigError, parse_online_store
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.build import build_flow
from dataflows.flow.errors import EngineError
from dataflows.flow.identity import check_identity
from dataflows.flow.progress import begin_progress
from dataflows.flow.recovery import open_recovery
from dataflows.flow.run_context import Places, RunContext, Tally
from dataflows.flow.state_lock import exclusive_state
from dataflows.flow.store_check import check_store, online_filler
from dataflows.sources.plan_log import PlanLog, open_log
from dataflows.stores.swap import finish_swap
from dataflows.windows.view_state import warm_up

ROOM_BYTES_MIN = 1024 * 1024
# In the text of the RuntimeError that comes of a panic in a thread of Bytewax's.
_RECOVERY_PANIC = "panicked at src/recovery.rs"
_SWITCH_SECONDS = 0.001


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        tally: the process's totals.
        seconds: from its first record to its end.
        was_stopped: whether a signal ended it, perhaps before the end of the log.
    """

    tally: Tally
    seconds: float
    was_stopped: bool


def default_places(repository: Repository, settings: DataflowSettings) -> Places:
    """Where the repository and the settings say that everything lies; raise EngineError."""
    try:
        online = parse_online_store(repository.store.online_store, repository.directory)
    except OnlineStoreConfigError as error:
        raise EngineError(f"feature_store.yaml: {error}") from error
    return Places(
        state=settings.state_dir,
        online=online,
        offline={v.name: Path(v.offline_path) for v in repository.plan.views if v.offline_path},
        examples=settings.examples_dir,
        models=settings.model_repository,
    )


def run_flow(
    repository: Repository, settings: DataflowSettings, places: Places, *, until_end: bool
) -> Summary:
    """Run until SIGTERM or SIGINT, or until what the log holds now is done.

    Raises:
        EngineError: another process runs, or the state belongs to other definitions.
        LogError, StateError, OnlineStoreError, ...: what went wrong, as one line.
    """
    with exclusive_state(places.state):
        finish_swap(swap_journal(places.state), online_filler(repository, settings, places))
        return run_locked(repository, settings, places, until_end=until_end)


def run_locked(
    repository: Repository, settings: DataflowSettings, places: Places, *, until_end: bool
) -> Summary:
    """As ``run_flow``, for a caller that holds ``exclusive_state`` already."""
    try:
        return _run_locked(repository, settings, places, until_end=until_end)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EngineError(
            f"{error.filename or places.state}: {error.strerror}; make room and start again "
            "(nothing is lost)"
        ) from error


def _run_locked(
    repository: Repository, settings: DataflowSettings, places: Places, *, until_end: bool
) -> Summary:
    places.state.mkdir(parents=True, exist_ok=True)
    _check_room(places.state)
    context = RunContext(settings, places, None, threading.Event())
    tell = begin_progress(context)
    with closing(_open_log(repository, context, tell)) as log:
        check_identity(repository, settings, log, places.state)
        check_store(context, repository.store.project, tell)
        context.git_commit = _git_commit(repository.directory)
        context.until_end = log.ends() if until_end else None
        warm_up()
        flow = build_flow(repository, log, context)
        with _stop_on_signals(context.stop):
            _run(flow, settings, places.state)
        if not context.failures:
            log.settle()
    if context.failures:
        raise context.failures[0]
    seconds = context.monotonic() - context.tally.started_at if context.tally.events else 0.0
    return Summary(context.tally, seconds, was_stopped=context.stop.is_set())


def _open_log(repository: Repository, context: RunContext, tell: Callable[[], None]) -> PlanLog:
    """The log; where brokers have to be asked, that is told as long as they do not answer."""
    servers = context.settings.log.bootstrap_servers
    if servers:
        context.waiting["log"] = f"Kafka at {','.join(servers)} to answer"
        tell()
    log = open_log(context.settings, repository.plan)
    context.waiting.pop("log", None)
    tell()
    return log


def _check_room(state: Path) -> None:
    """Raise EngineError if a run could not even begin: Bytewax would say so in Rust, at length."""
    free_bytes = shutil.disk_usage(state).free
    if free_bytes < ROOM_BYTES_MIN:
        raise EngineError(
            f"state folder {state}: {free_bytes // 1024:,} KiB are free on its disk, a run needs "
            f"{ROOM_BYTES_MIN // 1024:,} at the least; make room and start again (nothing is lost)"
        )


def swap_journal(state: Path) -> Path:
    """Where an unfinished swap of generations is written down."""
    return state.with_name(state.name + ".swap.json")


def _run(flow: Dataflow, settings: DataflowSettings, state: Path) -> None:
    recovery = state / "recovery"
    try:
        open_recovery(recovery)
    except sqlite3.Error as error:
        raise EngineError(
            f"{recovery}: {error}; rebuild everything from the log with `headwater replay`"
        ) from error
    # A run makes millions of small tuples and hundreds of thousands of objects stand from the
    # imports: without this the collector takes a tenth of the time, looking at the latter.
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    # The threads that read Kafka have little to do, but every step of theirs waits for the flow's.
    interval_seconds = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        cluster_main(
            flow,
            [],
            0,
            epoch_interval=timedelta(seconds=settings.epoch_seconds),
            recovery_config=RecoveryConfig(recovery),
            worker_count_per_proc=settings.workers,
        )
    except BaseException as error:
        root = _root(error)
        if type(root).__name__ == "PanicException" or _RECOVERY_PANIC in str(root):
            # Bytewax's own recovery store could not be written or read; it only says so in Rust.
            raise EngineError(
                f"state folder {state}: {' '.join(str(root).split())[:300]}; is the disk full? "
                "Make room and start again (nothing is lost), or rebuild it with `headwater replay`"
            ) from error
        raise root from error
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval_seconds)


def _root(error: BaseException) -> BaseException:
    """The error that made the flow stop, out of Bytewax's wrapping: our own if there is one."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    ours = (e for e in chain if type(e).__module__.split(".")[0] in ("dataflows", "contracts"))
    return next(ours, chain[-1])


@contextmanager
def _stop_on_signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _git_commit(directory: Path) -> str:
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
