"""Served rows and labels, joined by key, whichever comes first.

A row's label is the first one of its key, in the order of the log, that is of the row's moment or
later, and no later than the timeout.
So a label is held as long as a row may come for which it is the first; which rows meet which labels
does not depend on which of the two logs was read first. A row whose time is over gets the model's
``on_timeout``, or is given up.

A waiting row takes 57 bytes, 4 more for each segment, and 110 for its key: 170 to 200 with the room
that arrays have to grow. One of a multi-class model also holds its probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from dataflows.served.joined import NO_NAME, JoinCounts, Joined, Names
from dataflows.served.rows import ServedRow
from dataflows.served.table import KeyedTable

ROWS_MAX = 1_000_000
_ASSIGNED = ("", "champion", "challenger")


class ServedJoin:
    """The rows and labels of one model that wait for each other. Pure logic."""

    def __init__(
        self,
        timeout_us: int,
        segments: int,
        *,
        has_classes: bool,
        on_timeout: float | str | None,
        rows_max: int = ROWS_MAX,
    ) -> None:
        """An empty join.

        Args:
            timeout_us: how long after its moment a row may get a label.
            segments: how many segments rows have.
            has_classes: whether labels are classes, as texts.
            on_timeout: label of a row whose time is over; None for none.
            rows_max: of rows, and of labels.
        """
        self._timeout_us = timeout_us
        self._rows_max = rows_max
        self._has_classes = has_classes
        self._on_timeout = on_timeout
        columns: list[tuple[Any, ...]] = [
            ("at_us", np.int64),
            ("pair", np.int64),
            ("score", np.float64),
            ("version", np.int32),
            ("predicted", np.int32),
            ("assigned", np.int8),
            ("is_answer", np.bool_),
            ("unit", np.int32),
            ("segments", np.int32, (segments,)),
        ]
        self._rows = KeyedTable(columns, rows_max)
        self._labels = KeyedTable(
            [("at_us", np.int64), ("value", np.float64), ("is_used", np.bool_)], rows_max
        )
        self._probabilities: dict[int, tuple[tuple[str, ...], tuple[float, ...]]] = {}
        self._versions, self._values, self._classes = Names(), Names(), Names()
        self._segments = segments
        self._clock_us = -(2**62)
        self.counts = JoinCounts()

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes that were seen, in that order."""
        return tuple(self._classes.texts)

    @property
    def waiting(self) -> int:
        """How many rows wait for their label."""
        return len(self._rows)

    def add(
        self,
        rows: Sequence[ServedRow],
        label_keys: Sequence[int],
        label_times_us: Sequence[int],
        label_values: Sequence[float | str | None],
        clock_us: int,
    ) -> Joined:
        """Take in rows and labels, each kind in its order; what found each other.

        Args:
            rows: scored rows.
            label_keys: ``text_code`` of each label's key.
            label_times_us: when each came.
            label_values: None or NaN for one that says nothing.
            clock_us: all labels before this are known; never less than before.
        """
        found: list[tuple[Any, ...]] = []
        self._clock_us = max(self._clock_us, clock_us)
        for first in range(0, len(rows), self._rows_max):
            self._take_rows(rows[first : first + self._rows_max], found)
        self._take_labels(label_keys, label_times_us, label_values, found)
        self._expire(found)
        return self._joined(found)

    def _take_rows(self, rows: Sequence[ServedRow], found: list[tuple[Any, ...]]) -> None:
        self.counts.rows += len(rows)
        columns = {
            "at_us": [row.at_us for row in rows],
            "pair": [row.pair for row in rows],
            "score": [row.score for row in rows],
            "version": [self._versions.code(row.version) for row in rows],
            "predicted": [
                self._classes.code(row.predicted) if self._has_classes else NO_NAME for row in rows
            ],
            "assigned": [_ASSIGNED.index(row.assigned) for row in rows],
            "is_answer": [row.is_answer for row in rows],
            "unit": [row.unit for row in rows],
            "segments": np.array(
                [[self._values.code(value) for value in row.segments] for row in rows], np.int32
            ).reshape(len(rows), self._segments),
        }
        keys = np.array([row.key for row in rows], np.int64)
        slots, dropped = self._rows.add(keys, columns)
        self.counts.dropped_rows += dropped
        gone: list[int] = []
        for slot, row in zip(slots.tolist(), rows, strict=True):
            if self._has_classes:
                self._probabilities[slot] = (row.classes, row.probabilities)
            label = self._first_label(row.key, row.at_us)
            if label is not None:
                self._labels.column("is_used")[label] = True
                at_us = int(self._labels.column("at_us")[label])
                found.append(self._row(slot, float(self._labels.column("value")[label]), at_us))
                gone.append(slot)
        self._rows.remove(gone)

    def _first_label(self, key: int, at_us: int) -> int | None:
        times_us = self._labels.column("at_us")
        for slot in self._labels.find(key):
            if self._is_in_time(at_us, int(times_us[slot])):
                return slot
        return None

    def _is_in_time(self, at_us: int, label_us: int) -> bool:
        return bool(at_us <= label_us <= at_us + self._timeout_us)

    def _take_labels(
        self,
        keys: Sequence[int],
        times_us: Sequence[int],
        values: Sequence[float | str | None],
        found: list[tuple[Any, ...]],
    ) -> None:
        held: list[tuple[int, int, float, bool]] = []
        new: set[tuple[int, int]] = set()
        for key, at_us, given in zip(keys, times_us, values, strict=True):
            self.counts.labels += 1
            value = self._label_value(given)
            if value is None:
                self.counts.ignored_labels += 1
                continue
            slots = self._rows.find(key)
            rows_us = self._rows.column("at_us")
            slots = [slot for slot in slots if self._is_in_time(int(rows_us[slot]), at_us)]
            found += [self._row(slot, value, at_us) for slot in slots]
            self._rows.remove(slots)
            known = self._labels.column("at_us")[self._labels.find(key)].tolist()
            if at_us in known or (key, at_us) in new:
                self.counts.repeated_labels += 1
                continue
            new.add((key, at_us))
            held.append((key, at_us, value, bool(slots)))
        for first in range(0, len(held), self._rows_max):
            own_keys, own_us, own_values, used = zip(
                *held[first : first + self._rows_max], strict=True
            )
            columns = {"at_us": own_us, "value": own_values, "is_used": used}
            _, dropped = self._labels.add(np.array(own_keys, np.int64), columns)
            self.counts.dropped_labels += dropped

    def _label_value(self, given: float | str | None) -> float | None:
        if given is None:
            return None
        if self._has_classes:
            return float(self._classes.code(str(given)))
        value = float(given)
        return value if np.isfinite(value) else None

    def _expire(self, found: list[tuple[Any, ...]]) -> None:
        """Rows and labels whose time is over, as the clock of the labels says."""
        before_us = self._clock_us - self._timeout_us
        late = self._rows.where(self._rows.column("at_us") < before_us).tolist()
        value = self._label_value(self._on_timeout) if late else None
        for slot in late:
            if value is None:
                self.counts.unlabelled += 1
                self._probabilities.pop(slot, None)
            else:
                self.counts.given += 1
                at_us = int(self._rows.column("at_us")[slot]) + self._timeout_us
                found.append(self._row(slot, value, at_us))
        self._rows.remove(late)
        gone = self._labels.where(self._labels.column("at_us") < before_us)
        self.counts.unmatched_labels += int((~self._labels.column("is_used")[gone]).sum())
        self._labels.remove(gone.tolist())

    def _row(self, slot: int, label: float, label_us: int) -> tuple[Any, ...]:
        """All of a row that found its label, as ``_joined`` puts it into columns."""
        self.counts.joined += 1
        columns = ("pair", "version", "assigned", "is_answer", "score", "predicted", "unit")
        truth = 0.0
        if self._has_classes:
            classes, probabilities = self._probabilities.pop(slot, ((), ()))
            name = self._classes.texts[int(label)]
            if name in classes[: len(probabilities)]:
                truth = probabilities[classes.index(name)]
        values = tuple(self._rows.column(name)[slot] for name in columns)
        segments = self._rows.column("segments")[slot].tolist()
        return (label_us, *values, segments, label, truth)

    def _joined(self, found: list[tuple[Any, ...]]) -> Joined:
        # In order of the labels: what follows from it should not depend on which log was ahead.
        found.sort(key=lambda row: row[0])
        columns = list(zip(*found, strict=True)) if found else [()] * 11
        times_us, pairs, versions, assigned, is_answer, scores, predicted, units = columns[:8]
        segments, labels, truths = columns[8:]
        none = not self._has_classes
        return Joined(
            pairs=[int(pair) for pair in pairs],
            versions=[self._versions.texts[code] for code in versions],
            assigned=[_ASSIGNED[code] for code in assigned],
            is_answer=np.array(is_answer, np.bool_),
            units=[int(unit) for unit in units],
            scores=np.array(scores, np.float64),
            labels=np.array(labels, np.float64),
            label_times_us=np.array(times_us, np.int64),
            segments=tuple(
                [self._values.text(row[place]) for row in segments]
                for place in range(self._segments)
            ),
            predicted=np.array([] if none else predicted, np.int64),
            truth_probabilities=np.array([] if none else truths, np.float64),
        )

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data and arrays; ``load`` is its inverse."""
        rows = self._rows.dump()
        slots = self._rows.where(np.ones(len(self._rows.column("key")), np.bool_)).tolist()
        return {
            "rows": rows,
            "labels": self._labels.dump(),
            "probabilities": [self._probabilities.get(slot) for slot in slots],
            "names": [each.texts for each in (self._versions, self._values, self._classes)],
            "clock_us": self._clock_us,
            "counts": asdict(self.counts),
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take in what ``dump`` gave; the join must be new. The oldest go if it holds fewer now.

        Raises:
            ValueError: the model has other segments now.
        """
        if data["rows"]["segments"].shape[1:] != (self._segments,):
            raise ValueError("the model's segments have changed")
        dropped_rows = self._rows.load(data["rows"])
        dropped_labels = self._labels.load(data["labels"])
        slots = self._rows.where(np.ones(len(self._rows.column("key")), np.bool_)).tolist()
        self._probabilities = {
            slot: given
            for slot, given in zip(slots, data["probabilities"][dropped_rows:], strict=True)
            if given is not None
        }
        self._versions, self._values, self._classes = (Names(list(t)) for t in data["names"])
        self._clock_us = data["clock_us"]
        known = {each.name for each in fields(JoinCounts)}
        self.counts = JoinCounts(**{n: v for n, v in data["counts"].items() if n in known})
        self.counts.dropped_rows += dropped_rows
        self.counts.dropped_labels += dropped_labels
