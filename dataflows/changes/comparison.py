"""What changed between two sets of definitions, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.plan import Aggregate, Plan
from dataflows.changes.definitions import topic_details, view_details
from dataflows.changes.detail import Change, Detail, moved, moved_members
from dataflows.changes.made_of import MadeOf
from dataflows.changes.model_definitions import model_details


@dataclass(frozen=True)
class Changes:
    """All names of either side, each sort in order of name.

    Attributes:
        whole: what is about everything at once: the project, shards, partitions.
        services: feature services; no state depends on them.
    """

    whole: tuple[Detail, ...]
    topics: tuple[Change, ...]
    views: tuple[Change, ...]
    models: tuple[Change, ...]
    services: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both sides are the same."""
        every = (*self.topics, *self.views, *self.models, *self.services)
        return not self.whole and all(change.kind == "unchanged" for change in every)


@dataclass(frozen=True)
class Parting:
    """How the log and the entities are parted; state fits no other parting.

    Attributes:
        shards: of the entities.
        log_kind: what offsets mean.
        partitions: ``TOPIC/PARTITION``, sorted.
    """

    shards: int
    log_kind: str
    partitions: tuple[str, ...]


def compare(before: MadeOf, after: MadeOf) -> Changes:
    """What changed from ``before`` to ``after``."""
    code = [one.code for one in (before, after)]
    learners = [one.learners for one in (before, after)]
    return Changes(
        whole=tuple(moved("project", before.plan.project, after.plan.project)),
        topics=_paired(before.plan.topics, after.plan.topics, topic_details),
        views=_paired(
            before.plan.views,
            after.plan.views,
            lambda one, other: view_details(one, other, *_known(code, one.name)),
        ),
        models=_paired(
            before.plan.models,
            after.plan.models,
            lambda one, other: model_details(one, other, *_known(learners, one.name)),
        ),
        services=_services(before, after),
    )


def parting_details(before: Parting, after: Parting) -> tuple[Detail, ...]:
    """What differs between two partings; topics that are new or gone are told as such elsewhere."""
    found = list(moved("HEADWATER_SHARDS", before.shards, after.shards))
    if before.log_kind != after.log_kind:
        found += moved("kind of the log", before.log_kind, after.log_kind)
    else:
        then, now = _by_topic(before.partitions), _by_topic(after.partitions)
        for topic in sorted(then.keys() & now.keys()):
            what = f"partitions of {topic}"
            found += moved(what, len(then[topic]), len(now[topic])) or moved(
                what, then[topic], now[topic]
            )
    return tuple(found)


def features_of(before: Plan, after: Plan, views: Collection[str]) -> dict[str, str]:
    """``view:feature`` -> ``new``, ``changed``, ``gone`` or ``same``, of these views."""
    then, now = (_features(plan, views) for plan in (before, after))
    words = {}
    for name in sorted({*then, *now}):
        if name not in then:
            words[name] = "new"
        elif name not in now:
            words[name] = "gone"
        else:
            words[name] = "same" if then[name] == now[name] else "changed"
    return words


def _features(plan: Plan, views: Collection[str]) -> dict[str, Aggregate]:
    return {
        f"{view.name}:{one.feature}": one
        for view in plan.views
        if view.name in views
        for one in view.aggregates
    }


def _paired(
    before: Sequence[Any], after: Sequence[Any], details: Callable[[Any, Any], tuple[Detail, ...]]
) -> tuple[Change, ...]:
    then, now = ({one.name: one for one in side} for side in (before, after))
    found = []
    for name in sorted({*then, *now}):
        if name not in then:
            found.append(Change(name, "new"))
        elif name not in now:
            found.append(Change(name, "removed"))
        else:
            differing = details(then[name], now[name])
            found.append(Change(name, "changed" if differing else "unchanged", differing))
    return tuple(found)


def _known(sides: list[dict[str, str] | None], name: str) -> tuple[str | None, str | None]:
    """A digest of either side; "" where there is nothing, None where that is not known."""
    before, after = (None if side is None else side.get(name, "") for side in sides)
    return before, after


def _services(before: MadeOf, after: MadeOf) -> tuple[Change, ...]:
    found = []
    for name in sorted({*before.services, *after.services}):
        if name not in before.services:
            found.append(Change(name, "new"))
        elif name not in after.services:
            found.append(Change(name, "removed"))
        else:
            then, now = (
                {f"{view}:{feature}": "" for view, feature in side.services[name]}
                for side in (before, after)
            )
            differing = tuple(moved_members("feature", then, now))
            found.append(Change(name, "changed" if differing else "unchanged", differing))
    return tuple(found)


def _by_topic(partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
    numbers: dict[str, list[int]] = {}
    for name in partitions:
        topic, _, number = name.rpartition("/")
        numbers.setdefault(topic, []).append(int(number))
    return {topic: tuple(sorted(found)) for topic, found in numbers.items()}
