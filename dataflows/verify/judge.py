"""Whether a served value is the one that was current, an earlier one of its entity, or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from dataflows.verify.history import EntityRows, History
from dataflows.verify.served_rows import ServedRow
from dataflows.verify.vector_reads import VectorReads, ViewRead, are_same, as_json_has

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Verdict = Literal["equal", "stale", "different", "ahead", "gone"]

# A value that is not (or no longer) current is looked for so far behind the moment too: whoever
# names a moment of the past gets what the store has now.
AHEAD_US = 600_000_000


@dataclass(frozen=True, slots=True)
class Judged:
    """One served value.

    Attributes:
        verdict: ``equal``; ``stale``: an earlier value of the entity; ``ahead``: a later one, which
            is a kind of different; ``different``: neither; ``gone``: the log no longer tells.
        current: what was current at the moment; NaN for what JSON cannot say.
        lag_us: for how long, in event time, a stale value had not been current any more; of one
            that is ahead, in how long it would be.
    """

    verdict: Verdict
    current: float
    lag_us: int = 0


EQUAL = Judged("equal", 0.0)


@dataclass(frozen=True, slots=True)
class _Entity:
    """Rows of an entity as of one moment.

    Attributes:
        now: place of the row that was current; -1 for none.
    """

    stamps_us: Ints
    values: Floats
    first_us: int | None
    now: int

    @classmethod
    def at(cls, rows: EntityRows, at_us: int) -> _Entity:
        stamps_us, values = rows.rows()
        now = int(stamps_us.searchsorted(at_us, "right")) - 1
        return cls(stamps_us, values, rows.first_us, now)


class Judge:
    """Judges rows of one model by the history of its entities."""

    def __init__(
        self,
        reads: VectorReads,
        history: History,
        gone_us: Mapping[str, int],
        lag_us_max: int | None,
    ) -> None:
        """Put the parts together.

        Args:
            reads: of the model's vector.
            history: with the rows of all entities of the rows to be judged.
            gone_us: as ``LogRows.gone_us``, by topic; looked at when rows are judged.
            lag_us_max: a value that is stale by more is different; None for no limit.
        """
        self._reads = reads
        self._history = history
        self._gone_us = gone_us
        self._lag_us_max = lag_us_max

    def judge(self, rows: Sequence[ServedRow]) -> list[dict[int, Judged]]:
        """For each row, place in the vector -> verdict; for places that can be compared."""
        reads = self._reads
        entities = [[self._entity(read, row) for read in reads.reads] for row in rows]
        places = np.array(
            [self._current(row, own) for row, own in zip(rows, entities, strict=True)]
        )
        reads.derive(places, rows)
        expected = reads.vector(places)
        same = are_same(expected, np.array([row.vector for row in rows]))
        found = []
        for number, row in enumerate(rows):
            judged: dict[int, Judged] = {}
            for read, entity in zip(reads.reads, entities[number], strict=True):
                if entity is not None:
                    judged.update(self._stored(row, read, entity, same[number], expected[number]))
            for place in reads.derived:
                current = float(expected[number, place])
                if any(self._is_gone(judged, one) for one in reads.inputs_of[place]):
                    judged[place] = Judged("gone", current)
                elif same[number, place]:
                    judged[place] = EQUAL
                else:
                    judged[place] = self._derived(
                        row, place, current, judged, entities[number], places[number]
                    )
            found.append(judged)
        return found

    def _entity(self, read: ViewRead, row: ServedRow) -> _Entity | None:
        key = read.key(row.inputs)
        return None if key is None else _Entity.at(self._history.of(read.view, key), row.at_us)

    def _current(self, row: ServedRow, entities: Sequence[_Entity | None]) -> Floats:
        places = self._reads.new_places(row)
        for read, entity in zip(self._reads.reads, entities, strict=True):
            if entity is not None and entity.now >= 0:
                values = entity.values[entity.now : entity.now + 1]
                stamps = entity.stamps_us[entity.now : entity.now + 1]
                places[list(read.places)] = _read_at(read, row.at_us, stamps, values)[0]
        return places

    def _stored(
        self,
        row: ServedRow,
        read: ViewRead,
        entity: _Entity,
        same: npt.NDArray[np.bool_],
        expected: Floats,
    ) -> dict[int, Judged]:
        found = {}
        for number, place in enumerate(read.places):
            if place >= self._reads.width:
                continue
            current = float(expected[place])
            if not self._is_known(read, number, entity, row.at_us):
                found[place] = Judged("gone", current)
            elif same[place]:
                found[place] = EQUAL
            else:
                found[place] = self._other(row, read, number, entity, current)
        return found

    def _is_known(self, read: ViewRead, number: int, entity: _Entity, at_us: int) -> bool:
        gone_us = self._gone_us.get(read.topic)
        if gone_us is None:
            return True
        after_us = read.known_after_us[number]
        return entity.now >= 0 and after_us is not None and at_us >= gone_us + after_us

    def _is_gone(self, judged: Mapping[int, Judged], place: int) -> bool:
        """Whether an input of a derived value is not known. Hidden ones are not judged at all."""
        one = judged.get(place)
        return one is not None and one.verdict == "gone"

    def _other(
        self, row: ServedRow, read: ViewRead, number: int, entity: _Entity, current: float
    ) -> Judged:
        """A value that is not the current one."""
        served, place = row.vector[read.places[number]], read.places[number]
        end = int(entity.stamps_us.searchsorted(row.at_us + AHEAD_US, "right"))
        begin = max(entity.now - self._history.look_back, 0)
        stamps_us = entity.stamps_us[begin:end]
        values = _read_at(read, row.at_us, stamps_us, entity.values[begin:end])[:, number]
        values = as_json_has(values)
        values[np.isnan(values)] = self._reads.defaults[place]
        places = np.flatnonzero(are_same(values, np.full(len(values), served))) + begin
        later = places[places > entity.now]
        earlier = places[places <= entity.now]
        lag_us = None
        if len(earlier):
            lag_us = row.at_us - int(entity.stamps_us[earlier[-1] + 1])
        elif entity.now >= 0 and self._is_default(place, row):
            # Before its first row it was missing.
            lag_us = row.at_us - (entity.first_us or 0)
        if lag_us is not None and (self._lag_us_max is None or lag_us <= self._lag_us_max):
            return Judged("stale", current, lag_us)
        if len(later) and entity.stamps_us[later[0]] <= row.until_us:
            # A request takes time: what was current at some moment of it is right.
            return EQUAL
        if len(later):
            return Judged("ahead", current, int(entity.stamps_us[later[0]]) - row.at_us)
        return Judged("different", current, lag_us or 0)

    def _is_default(self, place: int, row: ServedRow) -> bool:
        default = self._reads.defaults[place : place + 1]
        return bool(are_same(default, row.vector[place : place + 1])[0])

    def _derived(
        self,
        row: ServedRow,
        place: int,
        current: float,
        judged: Mapping[int, Judged],
        entities: Sequence[_Entity | None],
        places: Floats,
    ) -> Judged:
        """A derived value that is not the current one: is it what the values served make?"""
        inputs = self._reads.inputs_of[place]
        own = [judged[one] for one in inputs if one in judged]
        if any(one.verdict == "different" for one in own):
            return Judged("different", current)
        given = places.copy()
        for one in inputs:
            if one in judged:
                is_missing = self._reads.schema.places[one].name in row.missing
                given[one] = np.nan if is_missing else row.vector[one]
        tried = self._tries(row, inputs, entities, given)
        candidates = np.array([values for values, _ in tried])
        self._reads.derive(candidates, [row] * len(candidates))
        made = self._reads.vector(candidates)[:, place]
        for number in np.flatnonzero(are_same(made, np.full(len(made), row.vector[place]))):
            lags = [one.lag_us for one in own if one.verdict == "stale"]
            ahead = [one.lag_us for one in own if one.verdict == "ahead"]
            hidden_us = tried[number][1]
            if row.at_us - row.until_us <= hidden_us < 0:
                hidden_us = 0
            if ahead or hidden_us < 0:
                return Judged("ahead", current, max([*ahead, -hidden_us]))
            lag_us = max([*lags, hidden_us])
            if self._lag_us_max is not None and lag_us > self._lag_us_max:
                break
            return Judged("stale", current, lag_us) if lag_us or lags else EQUAL
        return Judged("different", current)

    def _tries(
        self,
        row: ServedRow,
        inputs: Sequence[int],
        entities: Sequence[_Entity | None],
        given: Floats,
    ) -> list[tuple[Floats, int]]:
        """Inputs as they may have been, with how stale they then were; the likeliest first.

        What stands in no vector is only known to be of some row of its entity.
        """
        found = [(given, 0)]
        for read, entity in zip(self._reads.reads, entities, strict=True):
            hidden = [
                (number, place)
                for number, place in enumerate(read.places)
                if place >= self._reads.width and place in inputs
            ]
            if not hidden or entity is None:
                continue
            end = int(entity.stamps_us.searchsorted(row.at_us + AHEAD_US, "right"))
            begin = max(entity.now - self._history.look_back, 0)
            values = _read_at(
                read, row.at_us, entity.stamps_us[begin:end], entity.values[begin:end]
            )
            for place_of_row in _by_distance(begin, end, entity.now):
                own = given.copy()
                for number, place in hidden:
                    own[place] = values[place_of_row - begin, number]
                found.append((own, _lag_us(entity, place_of_row, row)))
            if entity.now >= 0 and entity.first_us is not None:
                own = given.copy()
                own[[place for _, place in hidden]] = np.nan
                found.append((own, row.at_us - entity.first_us))
        return found


def _read_at(read: ViewRead, at_us: int, stamps_us: Ints, values: Floats) -> Floats:
    """What a read at that moment makes of rows that the store may hold: float64[n, features]."""
    found = values[:, list(read.columns)]
    if read.ttl_us:
        found[at_us - stamps_us > read.ttl_us] = np.nan
    return found


def _by_distance(begin: int, end: int, now: int) -> list[int]:
    """Rows before the current one, the nearest first, then those behind it."""
    return [*range(min(now, end) - 1, begin - 1, -1), *range(max(now + 1, begin), end)]


def _lag_us(entity: _Entity, place: int, row: ServedRow) -> int:
    if place > entity.now:
        return row.at_us - int(entity.stamps_us[place])
    return row.at_us - int(entity.stamps_us[place + 1])
