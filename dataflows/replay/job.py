"""One replay: what it runs, where it builds, and what of that is put in place at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from contracts.durable_files import replace_file
from contracts.settings import DataflowSettings
from dataflows.changes.definitions import window_us
from dataflows.definitions.repository import Repository
from dataflows.erasure.tombstones import read_tombstones
from dataflows.flow.engine import default_places
from dataflows.flow.errors import EngineError
from dataflows.flow.identity import definitions_of
from dataflows.flow.run_context import Places
from dataflows.flow.target import Cut, LogEnd, Target, TargetOf
from dataflows.replay.days import Days, day_after, day_of
from dataflows.replay.fitting import Gone, check_rest, check_unchanged, gone_from
from dataflows.replay.options import Moment, Offsets, ReplayOptions, check_options
from dataflows.replay.places import (
    check_exchangeable,
    fresh_places,
    gathered_values,
    selected,
    sibling,
)
from dataflows.replay.selection import Selection, closed, everything, restricted
from dataflows.sources.plan_log import PlanLog
from dataflows.sources.span import Span
from dataflows.stores.gathered_layout import FORMAT as GATHERED_FORMAT
from dataflows.stores.handover import remove_all


class ReplayError(EngineError):
    """A replay cannot be done as asked; the message says what to do."""


class Kind(Enum):
    """What becomes of the state: all of it is new, a part of it is, or it stays as it is."""

    WHOLE = "everything"
    GRAFT = "a part with its state"
    REPAIR = "results only"


@dataclass(frozen=True)
class Job:
    """What a replay does.

    Attributes:
        repository: all definitions.
        built: those of the selection, with all topics.
        selection: what is rebuilt.
        options: what was asked for.
        kind: what becomes of the state.
        live: where everything lies that is read and written now.
        fresh: where the replay builds.
        days: which days of tables are put in place.
        gone: what the live state has and the definitions do not, and what goes with this replay.
    """

    repository: Repository
    built: Repository
    selection: Selection
    options: ReplayOptions
    kind: Kind
    live: Places
    fresh: Places
    days: Days
    gone: Gone

    @property
    def span(self) -> Span | None:
        """Which event times are replayed; None for all. Windows are whole on the first day."""
        if not isinstance(self.options.begin, Moment) and not isinstance(self.options.end, Moment):
            return None
        from_us = self.days.from_us - self.warm_up_us if self.options.begin else 0
        return Span(from_us, self.days.to_us)

    @property
    def exchanged(self) -> list[Path]:
        """Folders that are replaced as a whole, or in which others are."""
        found = [self.live.offline[name] for name in self.fresh.offline]
        if self.kind is Kind.REPAIR:
            results = self.options.results
            examples = [self.live.examples] if "examples" in results else []
            return [*(found if "offline" in results else []), *examples]
        return [*found, self.live.examples, self.live.models, self.live.state]

    @property
    def warm_up_us(self) -> int:
        """How far before the first moment that counts reading must begin."""
        windows = [window_us(view) or 0 for view in self.built.plan.views]
        return max(windows, default=0) + self.delay_us

    @property
    def delay_us(self) -> int:
        """How far behind a record one may come that belongs before it."""
        return max((topic.watermark_delay_us for topic in self.built.plan.topics), default=0)

    @property
    def terms(self) -> bytes:
        """What an interrupted replay must have in common with the one that goes on with it."""
        content = {
            "options": repr(self.options),
            "gathered": str(GATHERED_FORMAT),
            "definitions": hashlib.sha256(definitions_of(self.built).encode()).hexdigest(),
        }
        if self.selection.models and (known := read_tombstones(self.live.state)) is not None:
            # What models have learned already they would not forget.
            content["tombstones"] = str(known.newest[1])
        return msgspec.json.encode(content)


def make_job(repository: Repository, settings: DataflowSettings, options: ReplayOptions) -> Job:
    """Find out what the options come to.

    Raises:
        OptionsError, SelectionError: that cannot be had.
        EngineError: the online store is none that can be used.
    """
    plan = repository.plan
    live = default_places(repository, settings)
    gone = gone_from(live.state, repository)
    selection = everything(plan)
    if options.views or options.models:
        old = [view.name for view in gone.views]
        views = [name for name in options.views if name not in old]
        models = [name for name in options.models if name not in gone.models]
        selection = closed(plan, views, models)
    check_options(options, plan, selection)
    if options.results:
        kind = Kind.REPAIR
        check_unchanged(live.state, repository)
    elif selection == everything(plan) and options.begin is None:
        kind = Kind.WHOLE
    else:
        kind = Kind.GRAFT
        check_rest(live.state, repository, selection)
    built = repository if kind is Kind.WHOLE else restricted(repository, selection)
    days = Days()
    if isinstance(options.begin, Moment):
        days = Days(day_of(options.begin.us), days.end)
    if isinstance(options.end, Moment):
        days = Days(days.first, day_after(options.end.us))
    fresh = selected(fresh_places(live), selection)
    job = Job(repository, built, selection, options, kind, live, fresh, days, gone)
    check_exchangeable(job.exchanged)
    return job


def final_target(job: Job, positions: Mapping[str, int], watermark_us: int) -> TargetOf:
    """Where a graft or a repair ends, the live state standing at ``positions``.

    ``watermark_us`` is how far the live state's watermark has come.
    """

    def target(log: PlanLog) -> Target:
        offsets = {}
        for partition in log.partitions:
            if partition.name not in positions:
                raise ReplayError(
                    f"the live state knows no partition {partition.name}: a part cannot be "
                    "replayed, replay everything with `headwater replay`"
                )
            end = job.options.end
            last = end.of(partition.name) if isinstance(end, Offsets) else None
            here = positions[partition.name]
            offsets[partition.number] = here if last is None else min(here, last)
        return LogEnd(offsets) if job.kind is Kind.REPAIR else Cut(offsets, watermark_us)

    return target


def take_up(job: Job) -> bool:
    """Make ready to build, or to go on with what an interrupted replay built; True for the latter.

    Raises:
        ReplayError: that was another replay.
    """
    path = _terms_path(job.live)
    terms = job.terms
    if path.exists():
        if path.read_bytes() == terms:
            return job.fresh.state.exists()
        raise ReplayError(
            "an interrupted replay with other options or definitions, or from before somebody was "
            "forgotten, has left what it built: go on with the same one, or remove it with "
            "`headwater replay --drop`"
        )
    drop(job.live)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, terms)
    return False


def leftovers(live: Places) -> list[Path]:
    """All that a replay builds and puts together, and last the terms on which."""
    fresh = fresh_places(live)
    gathered = gathered_values(fresh)
    files = [gathered.with_name(gathered.name + suffix) for suffix in ("-wal", "-shm", "")]
    folders = [fresh.state, fresh.examples, fresh.models, *fresh.offline.values()]
    folders += [sibling(live.state, suffix) for suffix in (".graft", ".graft.new")]
    folders += [sibling(p, ".days") for p in (*live.offline.values(), *_tables(live.examples))]
    return [*folders, *files, _terms_path(live)]


def drop(live: Places) -> bool:
    """Remove what an interrupted replay has built; True if there was any."""
    was_there = _terms_path(live).exists()
    remove_all(leftovers(live))
    return was_there


def _terms_path(live: Places) -> Path:
    return sibling(live.state, ".replay.json")


def _tables(examples: Path) -> list[Path]:
    return [path for path in examples.glob("*/*") if path.is_dir()]
