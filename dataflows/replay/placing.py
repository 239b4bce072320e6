"""What of a replay's results takes which place, once nobody writes any more."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from contracts.settings import DataflowSettings
from dataflows.flow.engine import OpenLog
from dataflows.flow.identity import generation
from dataflows.replay.days import Days, day_after, day_of, days_in, put_together
from dataflows.replay.job import Job, Kind, ReplayError, leftovers
from dataflows.replay.options import Offsets
from dataflows.replay.places import gathered_values, sibling
from dataflows.replay_state.graft import GraftFolders, graft
from dataflows.replay_state.positions import read_positions
from dataflows.stores.handover import Handover, Values
from dataflows.stores.keeping import KeptModel, keep
from dataflows.watermark import NOT_YET

_TABLES = ("examples", "outcomes")
_CHOOSE_ANEW = "choose an earlier --from, or a later --to"
Move = tuple[str, str]


class NoWholeDayError(ReplayError):
    """Nothing of what was built can be put in place, however often the same is asked for."""


def handover_of(job: Job, settings: DataflowSettings, open_log: OpenLog) -> Handover:
    """Make all ready that is to be exchanged, and say what; nothing has changed then."""
    models = _kept_models(job)
    keep(models)
    if job.kind is Kind.WHOLE:
        handover = _whole(job)
    elif job.kind is Kind.GRAFT:
        handover = _graft(job, settings, open_log)
    else:
        handover = _repair(job)
    gone = [] if job.kind is Kind.REPAIR else _of_gone_models(job)
    left = tuple(map(str, [*gone, *leftovers(job.live)]))
    return replace(handover, leftovers=left, models=() if job.kind is Kind.REPAIR else models)


def _kept_models(job: Job) -> tuple[KeptModel, ...]:
    roots = str(job.live.models.resolve()), str(job.fresh.models)
    return tuple(KeptModel(m.name, m.schema.fingerprint, *roots) for m in job.built.plan.models)


def _whole(job: Job) -> Handover:
    fresh, live = job.fresh, job.live
    folders = [(fresh.offline[name], live.offline[name]) for name in live.offline]
    return Handover(
        tuple(_moves([*folders, (fresh.examples, live.examples)])),
        _values(job, generation(fresh.state)),
        # Who reads online values with a model reads them first.
        tuple(_moves([(fresh.models, live.models), (fresh.state, live.state)])),
    )


def _graft(job: Job, settings: DataflowSettings, open_log: OpenLog) -> Handover:
    fresh, live = job.fresh, job.live
    out = sibling(live.state, ".graft")
    shutil.rmtree(out, ignore_errors=True)
    made = fresh.state if job.selection.views or job.selection.models else None
    folders = GraftFolders(live.state, made, out)
    with closing(open_log(settings, job.repository.plan)) as log:
        graft(folders, job.repository, job.selection, settings, log)
    names = job.selection.models
    examples = [(fresh.examples / name, live.examples / name) for name in names]
    models = [(fresh.models / name, live.models / name) for name in names]
    return Handover(
        tuple(_moves([*_offline(job), *examples])),
        _values(job, generation(out)),
        tuple(_moves([*models, (out, live.state)])),
    )


def _repair(job: Job) -> Handover:
    folders: list[tuple[Path, Path]] = []
    if "offline" in job.options.results:
        folders += _offline(job)
    if "examples" in job.options.results:
        topics = [topic.name for topic in job.built.plan.topics]
        for name in job.selection.models:
            days = _days_of(job, job.fresh.examples / name / "examples", topics)
            for table in _TABLES:
                places = job.fresh.examples / name / table, job.live.examples / name / table
                folders.append(_days(*places, days))
    wanted = "online" in job.options.results
    values = _values(job, generation(job.live.state)) if wanted else None
    return Handover(tuple(_moves(folders)), values)


def _of_gone_models(job: Job) -> Iterator[Path]:
    """A replay of everything takes them away with the folders that they lie in."""
    for name in job.gone.models:
        yield from (job.live.models / name, job.live.examples / name)


def _values(job: Job, mark: str) -> Values:
    return Values(
        gathered=str(gathered_values(job.fresh)) if job.selection.views else None,
        views=job.selection.views,
        gone=job.gone.views,
        manner="replace" if job.options.begin is None else "add",
        mark=mark,
    )


def _offline(job: Job) -> list[tuple[Path, Path]]:
    found = []
    for view in job.built.plan.views:
        if view.offline_path:
            fresh, live = job.fresh.offline[view.name], job.live.offline[view.name]
            found.append(_days(fresh, live, _days_of(job, fresh, [view.topic])))
    return found


def _days_of(job: Job, fresh: Path, topics: Collection[str]) -> Days:
    """The days of a table that are whole: where these topics were read from and to by offsets."""
    begin, end = job.options.begin, job.options.end
    days = job.days
    live = read_positions(job.live.state)
    for name, one in read_positions(job.fresh.state).items():
        if name.rpartition("/")[0] not in topics or live[name].newest_us == NOT_YET:
            continue
        if isinstance(begin, Offsets) and begin.of(name):
            if one.first_us == NOT_YET:
                raise NoWholeDayError(f"nothing was read of {name}: {_CHOOSE_ANEW}")
            days = Days(max(days.first, day_after(one.first_us + job.warm_up_us)), days.end)
        if isinstance(end, Offsets) and one.offset < live[name].offset:
            days = Days(days.first, min(days.end, day_of(one.newest_us - job.delay_us)))
    by_offsets = isinstance(begin, Offsets) or isinstance(end, Offsets)
    if by_offsets and not any(days.first <= day < days.end for day in days_in(fresh)):
        raise NoWholeDayError(
            "no whole day lies between --from and --to, in all partitions and with the longest "
            f"window before it: {_CHOOSE_ANEW}"
        )
    return days


def _days(fresh: Path, live: Path, days: Days) -> tuple[Path, Path]:
    if days.is_every:
        return fresh, live
    out = sibling(live, ".days")
    put_together(fresh, live, days, out)
    return out, live


def _moves(folders: list[tuple[Path, Path]]) -> Iterator[Move]:
    for new, live in folders:
        # Of a link it is the folder behind it that is exchanged.
        yield str(new), str(live.resolve())
