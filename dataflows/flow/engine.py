"""Runs the flow in one process or as one of several, and resumes it where it ended."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contracts.online_store import OnlineStoreConfigError, parse_online_store
from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.build import build_flow
from dataflows.flow.errors import EngineError
from dataflows.flow.execution import execute, explained, prepare_recovery
from dataflows.flow.fence import check_fence, looking_for_fence
from dataflows.flow.identity import check_identity, identity_parts
from dataflows.flow.progress import begin_progress, join_progress
from dataflows.flow.refilling import online_filler
from dataflows.flow.room import check_start
from dataflows.flow.run_context import Places, RunContext, Tally
from dataflows.flow.session import Seat, Session, seat_of
from dataflows.flow.state_lock import exclusive_state, shared_state
from dataflows.flow.store_check import check_store
from dataflows.flow.target import LogEnd, TargetOf, log_end, never
from dataflows.flow.together import run_together
from dataflows.flow.waiting import teller
from dataflows.git_commit import git_commit
from dataflows.sources.archive_log import ArchivedLog, check_first_run
from dataflows.sources.plan_log import PlanLog, open_log
from dataflows.sources.span import Span
from dataflows.stores.handover import finish_handover
from dataflows.windows.view_state import warm_up

OpenLog = Callable[[DataflowSettings, Plan], PlanLog]


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

    With several processes each does its part, and all end together.

    Raises:
        EngineError: another process runs or is gone, or the state belongs to other definitions.
        LogError, StateError, OnlineStoreError, ...: what went wrong, as one line.
    """
    seat = seat_of(settings)
    if seat is not None:
        return _run_seat(repository, settings, places, seat, until_end=until_end)
    # Who has the folder then is no dataflow that somebody could stop.
    check_fence(places.state)
    stop = threading.Event()
    target_of = log_end if until_end else never
    opened = partial(open_log, is_stopping=stop.is_set)
    with exclusive_state(places.state), looking_for_fence(places.state, stop):
        check_fence(places.state)
        finish_handover(places.state, online_filler(repository, settings, places, stop))
        return run_locked(repository, settings, places, target_of, opened, stop=stop)


def run_locked(
    repository: Repository,
    settings: DataflowSettings,
    places: Places,
    target_of: TargetOf,
    open_plan_log: OpenLog = open_log,
    span: Span | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """As ``run_flow`` in one process, for a caller that holds ``exclusive_state`` already.

    Args:
        repository: what to run.
        settings: of this run.
        places: where everything lies.
        target_of: where it ends, once the log is known.
        open_plan_log: opens the log.
        span: rows of other event times are left out; None for all.
        stop: ends it in good order; None if only a signal does.
    """
    with asking_for_room(places.state):
        context = RunContext(settings, places, None, stop or threading.Event(), span=span)
        _make_folder(places.state)
        tell = begin_progress(context)
        with closing(_open_log(repository, context, tell, open_plan_log)) as log:
            context.target = target_of(log)
            _prepare(repository, log, context, tell)
            flow = build_flow(repository, log, context)
            with _stop_on_signals(context.stop), explained(places.state):
                execute(flow, context)
            return _summary(log, context)


def _run_seat(
    repository: Repository,
    settings: DataflowSettings,
    places: Places,
    seat: Seat,
    *,
    until_end: bool,
) -> Summary:
    """As ``run_flow``, as one of several processes. Process 0 makes everything ready for all."""
    stop = threading.Event()
    check = partial(check_fence, places.state)
    with (
        shared_state(places.state, seat.number) as keep_place,
        Session(places.state, settings, seat, check=check) as session,
        looking_for_fence(places.state, stop),
        asking_for_room(places.state),
    ):
        context = RunContext(settings, places, None, stop)
        context.processes, context.process = len(seat.addresses), seat.number
        tell = _say_nothing
        check()
        if seat.number == 0:
            finish_handover(places.state, online_filler(repository, settings, places, stop))
            _make_folder(places.state)
            tell = begin_progress(context)
        opened = partial(open_log, is_stopping=stop.is_set)
        with closing(_open_log(repository, context, tell, opened)) as log:
            _compile(repository, context, tell)
            terms = _terms(repository, log, settings, until_end=until_end)
            if seat.number == 0:
                session.gather(terms, lambda who: _tell_waiting(context, who, tell))
                ends = log.ends() if until_end else None
                _prepare(repository, log, context, tell)
                session.open(ends)
            else:
                ends = session.join(terms)
                check_identity(repository, settings, log, places.state)
                context.git_commit = git_commit(repository.directory)
            context.target = None if ends is None else LogEnd(ends)
            join_progress(context)
            flow = build_flow(repository, log, context)
            with _stop_on_signals(stop), explained(places.state):
                run_together(
                    lambda: execute(flow, context, seat.addresses),
                    flow,
                    stop,
                    session,
                    keep_place,
                )
            return _summary(log, context)


def _compile(repository: Repository, context: RunContext, tell: Callable[[], None]) -> None:
    """Have the kernel ready; that takes its time on a machine where it never ran."""
    context.waiting["kernel"] = "the windows to be compiled (once, up to a minute)"
    tell()
    warm_up(repository.plan.views)
    context.waiting.pop("kernel")
    tell()


def _prepare(
    repository: Repository,
    log: PlanLog,
    context: RunContext,
    tell: Callable[[], None],
) -> None:
    """Make sure that state, stores and log belong together."""
    state = context.places.state
    if not (state / "identity.json").exists():
        check_first_run(log, context.settings, repository.plan, context.stop.wait)
    check_identity(repository, context.settings, log, state)
    check_store(context, repository.store.project, tell)
    context.git_commit = git_commit(repository.directory)
    prepare_recovery(state)


def _terms(
    repository: Repository, log: PlanLog, settings: DataflowSettings, *, until_end: bool
) -> dict[str, str]:
    """What all processes of a run must have in common."""
    return {
        **identity_parts(repository, settings, log),
        "HEADWATER_ADDRESSES": settings.addresses,
        "HEADWATER_WORKERS": str(settings.workers),
        "--until-end": str(until_end),
    }


def _summary(log: PlanLog, context: RunContext) -> Summary:
    if context.failures:
        raise context.failures[0]
    log.settle()
    seconds = context.monotonic() - context.tally.started_at if context.tally.events else 0.0
    return Summary(context.tally, seconds, was_stopped=context.stop.is_set())


def _tell_waiting(context: RunContext, who: str, tell: Callable[[], None]) -> None:
    if context.waiting.get("processes", "") == who:
        return
    if who:
        context.waiting["processes"] = who
    else:
        context.waiting.pop("processes", None)
    tell()


def _say_nothing() -> None:
    """The progress of a process that has not begun: it is process 0 that says what it waits for."""


@contextmanager
def asking_for_room(state: Path) -> Iterator[None]:
    """Make an EngineError of a full disk. ``state`` is named if the system does not say where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EngineError(
            f"{error.filename or state}: {error.strerror}; make room and start again "
            "(nothing is lost)"
        ) from error


def _make_folder(state: Path) -> None:
    """Make it; raise EngineError if a run could not even begin: Bytewax says so at length."""
    state.mkdir(parents=True, exist_ok=True)
    check_start(state)


def _open_log(
    repository: Repository, context: RunContext, tell: Callable[[], None], open_plan_log: OpenLog
) -> PlanLog:
    """The log; where brokers have to be asked, that is told as long as they do not answer."""
    servers = context.settings.log.bootstrap_servers
    if servers:
        context.waiting["log"] = f"Kafka at {','.join(servers)} to answer"
        tell()
    log = open_plan_log(context.settings, repository.plan)
    if isinstance(log, ArchivedLog):
        log.tell = teller(context, "archive")
    context.waiting.pop("log", None)
    tell()
    return log


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
