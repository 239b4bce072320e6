"""Figures of all versions of a model, whole and by segment, from outcomes as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.manifest import version_order
from contracts.model_spec import Task
from dataflows.evaluation.anomaly import ANOMALY
from dataflows.evaluation.binary import BINARY
from dataflows.evaluation.exact_sums import Ints
from dataflows.evaluation.groups import Groups, SliceKey, Sparse
from dataflows.evaluation.judged import Judged
from dataflows.evaluation.multiclass import MULTICLASS
from dataflows.evaluation.regression import REGRESSION
from dataflows.evaluation.segment_codes import ALL, SegmentCodes
from dataflows.evaluation.task_metrics import COUNT, UNUSABLE, Figures, TaskMetrics

TASK_METRICS: dict[Task, TaskMetrics] = {
    "binary": BINARY,
    "multiclass": MULTICLASS,
    "regression": REGRESSION,
    "anomaly": ANOMALY,
}
_EARLIER: SliceKey = ("earlier", "")
_RECENT: SliceKey = ("recent", "")
_DUMP_FORMAT = 1
# ``recent`` figures are of so many to twice as many intervals of publishing.
RECENT_INTERVALS = 4
# What a saved board and this one must agree on, and what people call it.
_TERMS = {
    "format": "format",
    "task": "task",
    "segments": "segments",
    "span": "publish_every (by which figures are recent)",
}


@dataclass(frozen=True)
class Limits:
    """Bounds of a board.

    Attributes:
        versions: so many of the newest have figures of their own; the others share some.
        values: so many values of each segment are told apart, those that came first.
        groups: as many (up to 10 KB each) as all versions may have together; the oldest give way.
    """

    versions: int = 50
    values: int = 100
    groups: int = 2_000


class BoardStateError(ValueError):
    """Saved state does not belong to this board; the message says what differs."""


class EvaluationBoard:
    """Adds up outcomes. What comes of it depends on which outcomes came, not on their calls.

    ``recent`` figures are of the labels of the last one to two spans of ``recent_us``, by event
    time: two spans are kept, and the newest is not over.
    """

    def __init__(
        self, task: Task, segments: Sequence[str], recent_us: int, limits: Limits | None = None
    ) -> None:
        """A board without outcomes.

        Args:
            task: what is predicted.
            segments: names of the columns that ``add`` will be given.
            recent_us: length of a span of time, in microseconds, above 0.
            limits: how much it may hold.
        """
        self._task = task
        self._metrics = TASK_METRICS[task]
        self._recent_us = recent_us
        self._limits = limits or Limits()
        self._codes = SegmentCodes(segments, self._limits.values)
        self._groups = Groups(self._metrics, self._codes.count)
        self._floor = (-1, -1)  # versions up to here were folded: they get no slice again
        self._looked_at = 0  # number of groups when the limits were last looked at
        self._kept: frozenset[str] = frozenset()
        self._until_us: int | None = None
        self._figures: dict[tuple[SliceKey, int], Figures] = {}

    @property
    def versions(self) -> list[str]:
        """Those that have figures of their own, oldest first."""
        found = [name for kind, name in self._groups.keys if kind == "version"]
        return sorted(found, key=version_order)

    def keep(self, versions: Iterable[str]) -> None:
        """Versions that never give way from now on, however old they are; replaces those before."""
        self._kept = frozenset(versions)

    def add(
        self,
        rows: Judged,
        versions: Ints | Sequence[str],
        segments: Sequence[Sequence[str | None]] = (),
    ) -> None:
        """Add outcomes.

        Args:
            rows: k of them.
            versions: k: which version made each prediction, as a number or by name.
            segments: one column of k values for each segment.

        Raises:
            ValueError: the lengths do not fit.
        """
        count = len(rows)
        if len(versions) != count:
            raise ValueError(f"{count} outcomes need as many versions, got {len(versions)}")
        codes = self._codes.codes(segments, count)
        if not count:
            return
        groups = self._groups.rows(
            *_factorized(versions, lambda version: self._slice_of(str(version))), codes
        )
        latest_us = int(rows.label_times_us.max())
        self._until_us = max(latest_us, self._until_us or latest_us)
        spans = rows.label_times_us // self._recent_us
        fresh = spans >= self._newest_span() - 1
        recent = self._groups.rows(*_factorized(spans[fresh], _span), codes[fresh])
        if fresh.all():
            self._groups.add(np.concatenate([groups, recent], axis=1), rows)
        else:
            self._groups.add(groups, rows)
            self._groups.add(recent, rows.take(fresh))
        self._give_way()

    def report(self, classes: tuple[str, ...] = ()) -> dict[str, Any]:
        """All figures as plain data, in the layout of ``contracts.evaluation_file``.

        Args:
            classes: names of a multi-class model's classes, by place.
        """
        versions = self.versions
        spans = [key for key in self._groups.keys if key[0] == "span"]
        every: list[SliceKey] = [*(("version", name) for name in versions), _EARLIER]
        whole = self._slice_report(("all", ""), every, classes)
        begin_us = None if self._until_us is None else (self._newest_span() - 1) * self._recent_us
        return {
            "task": self._task,
            "outcomes": whole["all"]["outcomes"] + whole["all"]["unusable"],
            "until_us": self._until_us,
            "segments": list(self._codes.segments),
            "versions": {
                name: self._slice_report(("version", name), [("version", name)], classes)
                for name in versions
            },
            "earlier": self._slice_report(_EARLIER, [_EARLIER], classes),
            "recent": {"from_us": begin_us, **self._slice_report(_RECENT, spans, classes)},
            "all": whole,
        }

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data and arrays; ``changes`` goes on from here."""
        return {**self._head(), "groups": self._groups.dump()}

    def changes(self) -> dict[str, Any]:
        """The same of the groups that were added to since the last ``dump`` or ``changes``."""
        return {**self._head(), "groups": self._groups.touched()}

    def load(self, parts: Sequence[dict[str, Any]]) -> None:
        """Take in a dump and the changes since, in order; the board must be new.

        Raises:
            BoardStateError: they are of another format, task or segments.
        """
        for part in parts:
            own = self._head()
            other = [called for name, called in _TERMS.items() if part.get(name) != own[name]]
            if other:
                raise BoardStateError(f"the saved evaluation is of another {' and '.join(other)}")
            for key in self._groups.keys:
                if key not in part["slices"]:
                    self._groups.drop(key)
            groups: dict[SliceKey, Sparse] = part["groups"]
            for key, found in groups.items():
                self._groups.put(key, found)
            self._codes.load(part["values"])
            self._floor, self._until_us = part["floor"], part["until_us"]

    def _head(self) -> dict[str, Any]:
        return {
            "format": _DUMP_FORMAT,
            "task": self._task,
            "segments": self._codes.segments,
            "span": self._recent_us,
            "values": self._codes.dump(),
            "floor": self._floor,
            "until_us": self._until_us,
            "slices": self._groups.keys,
        }

    def _slice_of(self, version: str) -> SliceKey:
        key: SliceKey = ("version", version)
        if version_order(version) > self._floor or version in self._kept or key in self._groups:
            return key
        return _EARLIER

    def _newest_span(self) -> int:
        return (self._until_us or 0) // self._recent_us

    def _give_way(self) -> None:
        """Keep to the limits. Which versions go depends on what came, not on when it was added."""
        for key in self._groups.keys:
            if key[0] == "span" and int(key[1]) < self._newest_span() - 1:
                self._groups.drop(key)
        if len(self._groups) == self._looked_at:
            return
        sizes = {name: len(self._groups.codes(("version", name))) for name in self.versions}
        free = [name for name in sizes if name not in self._kept]
        while len(free) > 1 and (
            len(free) > self._limits.versions or sum(sizes.values()) > self._limits.groups
        ):
            oldest = free.pop(0)
            del sizes[oldest]
            self._groups.fold(("version", oldest), _EARLIER)
            self._floor = max(self._floor, version_order(oldest))
            for code in range(self._codes.count):
                self._figures.pop((("version", oldest), code), None)
        self._looked_at = len(self._groups)

    def _slice_report(
        self, name: SliceKey, keys: list[SliceKey], classes: tuple[str, ...]
    ) -> dict[str, Any]:
        """Figures of some slices put together; ``name`` is what they are called together."""
        found = {code for key in keys for code in self._groups.codes(key)}
        total = self._groups.total(keys, ALL)
        segments = {
            segment: {
                value: self._read(name, code, self._groups.total(keys, code))
                for value, code in self._codes.values(place).items()
                if code in found
            }
            for place, segment in enumerate(self._codes.segments)
        }
        whole = self._read(name, ALL, total) | self._metrics.details(total, classes)
        return {"all": whole, "segments": segments}

    def _read(self, name: SliceKey, code: int, row: Ints) -> Figures:
        """The figures of a group; those that were read before if nothing came to it since."""
        before = self._figures.get((name, code))
        # Nothing is ever taken out of a slice but of the recent ones: equal counts, equal group.
        if (
            before is None
            or name == _RECENT
            or (before["outcomes"], before["unusable"]) != (int(row[COUNT]), int(row[UNUSABLE]))
        ):
            before = self._figures[name, code] = self._metrics.figures(row)
        return before


def _span(number: int) -> SliceKey:
    return "span", str(number)


def _factorized(values: Any, key_of: Callable[[Any], SliceKey]) -> tuple[list[SliceKey], Ints]:
    """The slices of some values, and for each value the place of its slice."""
    if isinstance(values, np.ndarray):
        distinct, at = np.unique(values, return_inverse=True)
        names = distinct.tolist()
    else:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(values))}
        names, at = list(numbers), np.array([numbers[value] for value in values], dtype=np.int64)
    keys: dict[SliceKey, int] = {}
    places = [keys.setdefault(key_of(name), len(keys)) for name in names]
    return list(keys), np.array(places, dtype=np.int64)[at]
