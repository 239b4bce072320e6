"""What a change comes to: names, the replay it takes, how long, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from contracts.plan import Plan
from dataflows.changes.comparison import (
    Changes,
    Parting,
    compare,
    features_of,
    parting_details,
)
from dataflows.changes.compiled import Compiled
from dataflows.changes.detail import Detail
from dataflows.changes.log_extent import LogExtent, lost_beginnings
from dataflows.changes.made_of import MadeOf
from dataflows.changes.model_definitions import has_another_vector
from dataflows.changes.origin import Origin
from dataflows.changes.parts import Replay, replay_for
from dataflows.changes.rate import Rate

_NOTHING = MadeOf(Plan("", (), (), ()), {}, {})


@dataclass(frozen=True)
class Measured:
    """What was seen around the definitions.

    Attributes:
        log: how much it holds now.
        shards: as set now.
        rate: how fast it was read here; None if that is not known.
        newest_us: the newest event time that the dataflow has read, or the time now where it has
            read nothing (microseconds since 1970 UTC).
    """

    log: LogExtent
    shards: int
    rate: Rate | None
    newest_us: int


@dataclass(frozen=True)
class Report:
    """What a change comes to.

    Attributes:
        origin: what was compared with.
        commit: whose definitions were compared; empty for the working tree.
        changes: by name.
        replay: that it takes.
        online_features: of the views that are replayed, ``view:feature`` -> ``new``, ``changed``,
            ``gone`` or ``same``: all of them change hands at the cut.
        other_vectors: models whose versions for the old vector cannot score the new one.
        values_from_us: current values need the log from this event time on; None for its beginning,
            or if nothing is read.
        log: how much there is to read.
        lost: partitions of which the beginning is gone, in words.
        rate: how fast it was read here.
        steps: what to do next, in order; none if there is nothing to do.
    """

    origin: Origin
    commit: str
    changes: Changes
    replay: Replay
    online_features: Mapping[str, str]
    other_vectors: tuple[str, ...]
    values_from_us: int | None
    log: LogExtent
    lost: tuple[str, ...]
    rate: Rate | None
    steps: tuple[str, ...]

    @property
    def is_reading(self) -> bool:
        """Whether the replay reads the log; it does not if all that changed is gone."""
        return bool(self.replay.views or self.replay.models)

    @property
    def seconds(self) -> float | None:
        """About how long the replay reads; None if that is not known."""
        if not self.is_reading:
            return 0.0
        if self.rate is None or self.log.records is None:
            return None
        return self.log.records / self.rate.events_per_second


def make_report(origin: Origin, new: Compiled, seen: Measured, commit: str = "") -> Report:
    """Compare, and say what it comes to."""
    old = origin.made_of or _NOTHING
    changes = compare(old, new.made_of)
    if origin.made_of is None:
        changes = replace(changes, whole=())
    else:
        changes = replace(changes, whole=(*changes.whole, *_partings(origin, new, seen)))
    replay = _replay(origin, changes, old.plan, new.made_of.plan)
    selected = {*replay.views, *replay.gone_views}
    reach_us = replay.reach_us if replay.views else None
    begins = {} if origin.noted is None else origin.noted.begins
    return Report(
        origin=origin,
        commit=commit,
        changes=changes,
        replay=replay,
        online_features=features_of(old.plan, new.made_of.plan, selected),
        other_vectors=_other_vectors(old.plan, new.made_of.plan),
        values_from_us=None if reach_us is None else max(0, seen.newest_us - reach_us),
        log=seen.log,
        lost=() if replay.scope == "nothing" else lost_beginnings(seen.log, begins),
        rate=seen.rate,
        steps=_steps(origin, changes, replay, new, commit),
    )


def _replay(origin: Origin, changes: Changes, old: Plan, new: Plan) -> Replay:
    if origin.kind == "nothing":
        # The first run reads the log from its beginning.
        return Replay("nothing")
    if origin.kind != "state":
        # What was applied last may be newer than the state, so that a part might not do.
        return replay_for(_with_reason(changes, origin.note), old, new)
    replay = replay_for(changes, old, new)
    if replay.scope == "nothing" and not origin.fits and origin.noted is None:
        return replay_for(_with_reason(changes, "its definitions changed"), old, new)
    return replay


def _with_reason(changes: Changes, reason: str) -> Changes:
    return replace(changes, whole=(Detail(reason), *changes.whole))


def _partings(origin: Origin, new: Compiled, seen: Measured) -> tuple[Detail, ...]:
    """How shards and partitions differ; partitions only where both are known."""
    noted = origin.noted
    if noted is None:
        return ()
    then = Parting(noted.shards, noted.log_kind, tuple(sorted(noted.begins)))
    there = tuple(one.name for one in seen.log.partitions)
    now = Parting(seen.shards, seen.log.kind, then.partitions if seen.log.problem else there)
    return parting_details(then, now)


def _other_vectors(old: Plan, new: Plan) -> tuple[str, ...]:
    known = {model.name: model for model in old.models}
    return tuple(
        model.name
        for model in new.models
        if model.name in known and has_another_vector(known[model.name], model)
    )


def _steps(
    origin: Origin, changes: Changes, replay: Replay, new: Compiled, commit: str
) -> tuple[str, ...]:
    applied = origin.applied
    is_applied = (
        applied is not None
        and applied.plan == new.made_of.plan
        and applied.services == new.made_of.services
    )
    steps = [] if is_applied else ["headwater apply"]
    if replay.command:
        steps.append(replay.command)
    if origin.kind == "nothing" or replay.command:
        steps.append("headwater run")
    elif any(change.kind == "changed" for change in (*changes.views, *changes.models)):
        steps.append("start headwater run again")
    if steps and commit:
        steps.insert(0, f"git checkout {commit[:12]}")
    return tuple(steps)
