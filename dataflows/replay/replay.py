"""Rebuilds from the log and hands over to what it has built, beside a running dataflow or alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.engine import Summary, asking_for_room, default_places, run_locked
from dataflows.flow.fence import fenced, rebuilding
from dataflows.flow.refilling import online_filler
from dataflows.flow.state_lock import is_held
from dataflows.flow.target import TargetOf, cut_at_end, log_end
from dataflows.replay import job as jobs
from dataflows.replay.catching_up import behind_the_live, is_near
from dataflows.replay.contents import Digest, digest, digest_if_readable
from dataflows.replay.earlier import finish_earlier, patience_seconds
from dataflows.replay.job import Job, Kind, ReplayError
from dataflows.replay.opening import replay_log
from dataflows.replay.options import ReplayOptions
from dataflows.replay.placing import NoWholeDayError, handover_of
from dataflows.replay.stretch import Stretch
from dataflows.replay_state.positions import read_positions, read_watermark
from dataflows.stores.handover import hand_over, journal_path

_PASSES_MAX = 20
# A replay that was killed does an epoch again; each epoch writes all values and states that changed
# in it. So epochs are longer than those of a dataflow, whose rows somebody waits for.
_EPOCHS_TOGETHER = 60
_EPOCH_SECONDS_MAX = 60.0
_EPOCH_BYTES_MAX = 1024 * 1024 * 1024


class ReplayInterruptedError(Exception):
    """A signal ended the replay; nothing of it is to be seen."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did.

    Attributes:
        job: what it was.
        events: records that it read.
        seconds: of reading.
        pause_seconds: how long nobody wrote: from the end of the dataflow that ran to the end of
            the handover; None if none ran.
        before: what was there; None where a dataflow went on writing meanwhile.
        after: what is there now; None likewise.
    """

    job: Job
    events: int
    seconds: float
    pause_seconds: float | None
    before: Digest | None
    after: Digest | None


def replay(
    repository: Repository,
    settings: DataflowSettings,
    options: ReplayOptions = ReplayOptions(),  # noqa: B008 - frozen
    stretch: Stretch | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Replayed:
    """Build what the options say from the log, and put it in the place of what is there.

    Until it is put in place nobody sees anything of it. A running dataflow goes on until the replay
    is close behind it; then it is made to end. What an interrupted one has built stays for the
    next call with the same options and definitions.

    Raises:
        OptionsError, SelectionError: the options cannot be had.
        ReplayInterruptedError: a signal came.
        EngineError: the dataflow did not end, or log, state or a store cannot be used.
    """
    with rebuilding(default_places(repository, settings).state):
        finish_earlier(repository, settings)
        job = jobs.make_job(repository, settings, options)
        with asking_for_room(job.fresh.state), _keeping_what_is_built(job):
            return _replayed(job, settings, stretch or Stretch(), monotonic)


def _replayed(
    job: Job, settings: DataflowSettings, stretch: Stretch, monotonic: Callable[[], float]
) -> Replayed:
    repository = job.repository
    with ExitStack() as alone:
        work = _Work(job, settings, stretch)
        is_beside = is_held(job.live.state)
        if is_beside:
            work.catch_up()
        alone.enter_context(fenced(job.live.state, "a replay", patience_seconds(settings)))
        paused_at = monotonic()
        before = None if is_beside else digest_if_readable(repository, job.live)
        work.finish(is_beside=is_beside)
        after = digest(repository, job.fresh) if before and job.kind is Kind.WHOLE else None
        handover = handover_of(job, settings, work.open_log)
        hand_over(handover, job.live.state, online_filler(repository, settings, job.live))
        pause_seconds = monotonic() - paused_at if is_beside else None
        if before and after is None:
            after = digest_if_readable(repository, job.live)
    return Replayed(job, work.events, work.seconds, pause_seconds, before, after)


@contextmanager
def _keeping_what_is_built(job: Job) -> Iterator[None]:
    """Take up what an interrupted replay built; one that never began leaves nothing behind.

    Nor does one with nothing that could be put in place.
    """
    jobs.take_up(job)
    try:
        yield
    except BaseException as error:
        if journal_path(job.live.state).exists():
            raise
        is_of_no_use = isinstance(error, NoWholeDayError)
        if is_of_no_use or not (job.fresh.state / "shards").exists():
            jobs.drop(job.live)
        elif isinstance(error, Exception) and "`headwater replay`" in str(error):
            # Said of a state on which nothing can go on; here that is the one under way.
            raise ReplayError(
                f"{error}. Before that remove what is built already: `headwater replay --drop`"
            ) from error
        raise


class _Work:
    """The reading: in passes while a dataflow runs, and the last one when it has ended."""

    def __init__(self, job: Job, settings: DataflowSettings, stretch: Stretch) -> None:
        self._job = job
        self._stretch = stretch
        self._settings = _long_epochs(settings).model_copy(update={"addresses": "", "process": 0})
        self.open_log = replay_log(job, self._settings)
        self.events = 0
        self.seconds = 0.0

    def catch_up(self) -> None:
        """Read until hardly anything is left; what comes meanwhile is for the next pass."""
        before = None
        if not self._job.selection.views and not self._job.selection.models:
            return
        for _ in range(_PASSES_MAX):
            if self._job.kind is Kind.WHOLE:
                summary = self._run(cut_at_end)
            else:
                summary = self._run(behind_the_live(self._job.live.state))
            if is_near(summary, before):
                return
            before = summary

    def finish(self, *, is_beside: bool) -> None:
        """Read to where the live state stands, or to the end."""
        job = self._job
        if not job.selection.views and not job.selection.models:
            return  # what is gone needs no reading
        if job.kind is Kind.WHOLE:
            # What comes after a running dataflow goes on; what comes after none may be the end.
            self._run(cut_at_end if is_beside else log_end)
            return
        positions = {name: one.offset for name, one in read_positions(job.live.state).items()}
        if not positions:
            raise ReplayError(
                f"there is no state in {job.live.state} that a part could belong to: replay "
                "everything with `headwater replay`"
            )
        self._check_behind(positions)
        self._run(jobs.final_target(job, positions, read_watermark(job.live.state)))

    def _check_behind(self, live: Mapping[str, int]) -> None:
        """A dataflow that was killed goes on from before where a pass saw it."""
        if not (self._job.fresh.state / "recovery").exists():
            return
        for name, position in read_positions(self._job.fresh.state).items():
            if position.offset > live.get(name, position.offset):
                raise ReplayError(
                    f"the dataflow was killed and stands at {name}={live[name]}, before where the "
                    f"replay has read to ({position.offset}): start `headwater run` until it has "
                    "passed, then the same replay again"
                )

    def _run(self, target_of: TargetOf) -> Summary:
        job = self._job
        summary = run_locked(
            job.built,
            self._settings,
            job.fresh,
            self._stretch.noting(target_of),
            self.open_log,
            job.span,
        )
        self.events += summary.tally.events
        self.seconds += summary.seconds
        if summary.was_stopped:
            raise ReplayInterruptedError(
                "the replay was stopped before its end; everything is as it was. What it has built "
                "stays: the same command goes on with it, `headwater replay --drop` removes it"
            )
        return summary


def _long_epochs(settings: DataflowSettings) -> DataflowSettings:
    """Settings with epochs that are longer than those given, never shorter."""
    seconds, size = settings.epoch_seconds, settings.epoch_bytes_max
    longer = {
        "epoch_seconds": max(seconds, min(seconds * _EPOCHS_TOGETHER, _EPOCH_SECONDS_MAX)),
        "epoch_bytes_max": max(size, min(size * _EPOCHS_TOGETHER, _EPOCH_BYTES_MAX)),
    }
    return settings.model_copy(update=longer)
