"""Which entities and rows tombstones mean: of the log when it is read, of state when it is loaded.

A key is hashed once, when it is first met, and only if there are tombstones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.feast_bytes import decode_entity_key, entity_key_maker
from contracts.feature_schema import ValueType
from contracts.plan import ModelPlan, Plan
from dataflows.batches import OFFSET_BITS, partitions_of
from dataflows.erasure.tombstones import TombstoneError, Tombstones
from dataflows.sources.plan_log import PlanLog

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Kind = tuple[tuple[str, ...], tuple[ValueType, ...]]

NOT_FORGOTTEN = -1
_UNKNOWN = -2
# Distinct values that are remembered; past it, it starts anew.
_VALUES_MAX = 1_000_000


@dataclass
class _Group:
    """Tombstones of the same join keys, as entities that have these join keys look them up.

    Attributes:
        order: where among the entity's values theirs are.
        make_key: makes Feast's key of them.
        wanted: digest of a tombstone's entity -> its place.
        known: what was looked up before, of entities that have further join keys.
    """

    order: list[int]
    make_key: Callable[[Sequence[str | int]], bytes]
    wanted: dict[str, int] = field(default_factory=dict)
    known: dict[tuple[Any, ...], int] = field(default_factory=dict)


class EntityMatcher:
    """Which tombstones mean an entity of some join keys."""

    def __init__(self, tombstones: Tombstones, names: Sequence[str], types: Sequence[str]) -> None:
        self._tombstones = tombstones
        self._names = tuple(names)
        self._groups: dict[tuple[str, ...], _Group] = {}
        kinds = dict(zip(names, types, strict=True))
        for place, one in enumerate(tombstones.tombstones):
            own = one.join_keys
            if set(own) <= kinds.keys():
                if own not in self._groups:
                    make_key = entity_key_maker(own, [kinds[name] for name in own])
                    self._groups[own] = _Group([self._names.index(n) for n in own], make_key)
                self._groups[own].wanted[one.entity] = place

    @property
    def means_any(self) -> bool:
        """Whether any tombstone could mean such an entity."""
        return bool(self._groups)

    def places(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Places of the tombstones that mean the entity of these values, none of which is null."""
        found = []
        for group in self._groups.values():
            own = tuple([values[place] for place in group.order])
            # Entities with further join keys have some in common.
            place = group.known.get(own, _UNKNOWN)
            if place == _UNKNOWN:
                digest = self._tombstones.digest(group.make_key(own))
                place = group.wanted.get(digest, NOT_FORGOTTEN)
                if len(own) < len(values):
                    if len(group.known) > _VALUES_MAX:
                        group.known = {}
                    group.known[own] = place
            if place != NOT_FORGOTTEN:
                found.append(place)
        return tuple(found)

    def of_keys(self, keys: Sequence[bytes]) -> Bools:
        """bool[n]: which of these entity keys any tombstone means."""
        found = np.zeros(len(keys), np.bool_)
        for row, key in enumerate(keys):
            if key:  # the key of nobody, see ViewState.forget
                decoded = decode_entity_key(key)
                found[row] = bool(self.places([decoded[name] for name in self._names]))
        return found

    def of_faded(self, digests: Sequence[bytes]) -> Bools:
        """bool[n]: the same of entities of which only ``key_digest`` is left.

        Of entities with further join keys nothing can be told: they are not meant.
        """
        group = self._groups.get(tuple(sorted(self._names)))
        whole = {} if group is None else group.wanted
        digest_of = self._tombstones.digest_of_faded
        return np.fromiter((digest_of(one) in whole for one in digests), np.bool_, len(digests))


class KeyMarks:
    """Of entities of one kind: up to which offset of each partition their records are ignored.

    Safe for threads.
    """

    def __init__(self, matcher: EntityMatcher, bounds: Ints) -> None:
        self._matcher = matcher
        self._bounds = bounds
        self._rows: dict[tuple[int, ...], int] = {
            (place,): place for place in range(bounds.shape[0])
        }
        self._lock = threading.Lock()

    def mark(self, values: Sequence[Any]) -> int:
        """A number for ``dropped``; ``NOT_FORGOTTEN`` for one that no tombstone means."""
        places = self._matcher.places(values)
        if not places:
            return NOT_FORGOTTEN
        with self._lock:
            row = self._rows.get(places)
            if row is None:
                row = self._rows[places] = len(self._bounds)
                furthest = self._bounds[list(places)].max(axis=0, keepdims=True)
                self._bounds = np.concatenate([self._bounds, furthest])
        return row

    def dropped(self, marks: Ints, ranks: Ints) -> Bools:
        """bool[n]: which of the rows with these marks lie before the offsets."""
        found = np.zeros(len(marks), np.bool_)
        some = np.flatnonzero(marks >= 0)
        if len(some):
            offsets = ranks[some] & ((1 << OFFSET_BITS) - 1)
            found[some] = offsets < self._bounds[marks[some], partitions_of(ranks[some])]
        return found


class ColumnMarks:
    """``KeyMarks`` of rows in columns; values are remembered between batches. Safe for threads."""

    def __init__(self, names: Sequence[str], marks: KeyMarks) -> None:
        self._names = tuple(names)
        self._marks = marks
        self._known: dict[Any, int] = {}

    def dropped(self, columns: Mapping[str, Any], ranks: Ints) -> Bools:
        """bool[n]: which rows are to be ignored; those with a null in their key are not."""
        parts = [columns[name] for name in self._names]
        values = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
        known = self._known
        if len(known) > _VALUES_MAX:
            known = self._known = {}
        numbers = map(known.get, values, repeat(_UNKNOWN))
        found = np.fromiter(numbers, np.int64, len(ranks))
        for row in np.flatnonzero(found == _UNKNOWN).tolist():
            value = values[row]
            if value not in known:
                given = value if isinstance(value, tuple) else (value,)
                known[value] = NOT_FORGOTTEN if None in given else self._marks.mark(given)
            found[row] = known[value]
        return self._marks.dropped(found, ranks)


class ForgottenKeys:
    """What the tombstones mean in one log, for those who route its rows."""

    def __init__(self, tombstones: Tombstones, log: PlanLog) -> None:
        """Look up where in the log each tombstone ends.

        Raises:
            TombstoneError: one was made for another kind of log, in which offsets mean others.
        """
        self._tombstones = tombstones
        count = max((partition.number for partition in log.partitions), default=-1) + 1
        self._bounds = np.zeros((len(tombstones.tombstones), count), np.int64)
        for row, one in enumerate(tombstones.tombstones):
            if one.log != log.kind:
                raise TombstoneError(
                    f"tombstone {one.number} was made for a log of kind {one.log}, and "
                    f"HEADWATER_LOG_URL names one of kind {log.kind}: point it back, or `headwater "
                    "forget` that entity again"
                )
            for partition in log.partitions:
                then, now = one.topics.get(partition.topic), log.topic_ids.get(partition.topic)
                # In a topic that was made anew nothing is left of the old records.
                if then == now:
                    self._bounds[row, partition.number] = one.ends.get(partition.name, 0)

    def marks(self, names: Sequence[str], types: Sequence[str]) -> KeyMarks | None:
        """For entities of these join keys; None if no tombstone could mean one."""
        matcher = EntityMatcher(self._tombstones, names, types)
        return KeyMarks(matcher, self._bounds) if matcher.means_any else None


def model_keys(plan: Plan, model: ModelPlan) -> list[Kind]:
    """Join keys (and their types) of the views that a model reads; each combination once."""
    views = [plan.view(name) for name in model.views]
    return list(dict.fromkeys((view.join_keys, view.join_key_types) for view in views))


SpineMatcher = Callable[[npt.NDArray[np.uint64]], Bools]


def spine_matcher(tombstones: Tombstones, model: str) -> SpineMatcher:
    """Which spine rows of a model are of entities that were forgotten, by ``key_codes``."""
    wanted = {one for t in tombstones.tombstones for one in t.spine_keys.get(model, ())}

    def matches(codes: npt.NDArray[np.uint64]) -> Bools:
        if not wanted:
            return np.zeros(len(codes), np.bool_)
        digests = map(tombstones.spine_digest, codes.tolist())
        return np.fromiter((one in wanted for one in digests), np.bool_, len(codes))

    return matches
