"""Predictions that wait for their label: a store of columns, matched and kept in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.learning import pending_kernel as kernel
from dataflows.learning.pending_parts import Parts, Saved
from dataflows.learning.pending_types import Entries, Events, Hashes, Ints, Rows, Rules, Walk
from dataflows.learning.waiting_rows import WaitingRows

Bools = NDArray[np.bool_]

_ENTRIES_MIN = 256
# Events of what is given up come in pieces of so many.
_EVENTS_MIN = 16_384
# Sums of a time and a timeout must not overflow.
_TIMEOUT_US_MAX = 2**61


@dataclass
class Call:
    """Predictions and labels on their way; ``Pending.begin`` makes it.

    Attributes:
        slots: int64 ``[n]``, where the predictions' vectors are.
        fates: int8 ``[m]``: what became of each label so far (``pending_kernel.MATCHED`` ...).
    """

    slots: Ints
    fates: NDArray[np.int8]
    _predictions: Rows
    _labels: Rows
    _walk: Walk
    _until_us: int
    _done: list[int] = field(default_factory=list)


class Pending:
    """All predictions that wait, and those that did not long ago. Not safe for threads.

    A label finds the waiting prediction of its key. Where there is none, it is *repeated* if the
    latest prediction of that key has its label, *late* if that was given up, and else *unmatched*.
    What waits no more is remembered until two timeouts have passed since the prediction, and not
    longer than ``Rules.remembered_max`` others.

    Keys are compared by 128 bits of hash: 64 the same everywhere, 64 that no one outside this
    process can know.

    Attributes:
        rows: what is kept of each prediction, by slot.
    """

    def __init__(self, width: int, rules: Rules, segments: int = 0) -> None:
        self._rules = rules._replace(timeout_us=min(rules.timeout_us, _TIMEOUT_US_MAX))
        self.rows = WaitingRows(width, segments)
        self._marks = np.zeros(kernel.MARKS, np.int64)
        self._marks[kernel.BOUNDARY_US] = kernel.NEVER_US
        self._parts = Parts()
        self._room(0)

    @property
    def waiting(self) -> int:
        """Predictions that wait."""
        return int(self._marks[kernel.WAITING])

    @property
    def remembered(self) -> int:
        """Predictions that wait no more and are not forgotten."""
        return int(self._marks[kernel.REMEMBERED])

    @property
    def boundary_us(self) -> int:
        """When the next version is due; never while nothing new was learned."""
        return int(self._marks[kernel.BOUNDARY_US])

    def pass_boundary(self) -> None:
        """The version that was due is published."""
        self._marks[kernel.BOUNDARY_US] = kernel.NEVER_US

    def begin(
        self, keys: Sequence[str], times_us: Ints, vectors: NDArray[np.float64],
        label_keys: Sequence[str], label_times_us: Ints, label_classes: Ints,
        is_known: NDArray[np.int8], until_us: int,
        segments: Sequence[Sequence[str | None]] = (), given_class: int = -1,
    ) -> Call:  # fmt: skip
        """Take in the rows of a call, all before ``until_us``; ``walk`` runs them.

        Args:
            keys: n of predictions.
            times_us: int64 ``[n]``, ascending.
            vectors: float64 ``[n, d]``.
            label_keys: m.
            label_times_us: int64 ``[m]``, ascending.
            label_classes: int64 ``[m]``, a place in ``is_known``; -1 for a label to ignore.
            is_known: int8 ``[classes]``, 1 for those learned before.
            until_us: all is run up to here, and what is overdue given up.
            segments: n texts for each segment.
            given_class: a place in ``is_known``, of what is given up; -1 for none.
        """
        self._room(len(keys))
        self._marks[kernel.CLASSES] = is_known.sum()
        slots = self.rows.put(vectors, keys, segments)
        predictions = Rows(*_hashes(keys), np.ascontiguousarray(times_us, np.int64), slots)
        labels = Rows(
            *_hashes(label_keys), np.ascontiguousarray(label_times_us, np.int64), label_classes
        )
        fates = np.zeros(len(label_keys), np.int8)
        early = np.full(1 << (2 * len(label_keys)).bit_length(), -1, np.int32)
        walk = Walk(np.zeros(3, np.int64), fates, early, is_known.copy(), given_class)
        return Call(slots, fates, predictions, labels, walk, until_us)

    def walk(self, call: Call) -> Iterator[Events]:
        """What happens, in order and in pieces; it ends at a boundary or once all is run.

        So it is to be called again until ``is_over``.
        """
        room = kernel.EVENTS_PER_ROW * (len(call.slots) + len(call.fates)) + _EVENTS_MIN
        while True:
            kinds = np.empty(room, np.int8)
            slots, rows, times, since = (np.empty(room, np.int64) for _ in range(4))
            events = Events(kinds, slots, rows, times, since)
            why, count = kernel.walk_rows(
                self._entries(), call._predictions, call._labels, call._until_us, call._walk,
                self._rules, events,
            )  # fmt: skip
            yield Events(kinds[:count], slots[:count], rows[:count], times[:count], since[:count])
            if why == kernel.AT_BOUNDARY:
                return
            if why == kernel.DONE:
                call._done.append(1)
                return

    def is_over(self, call: Call) -> bool:
        """Whether all rows of a call were run."""
        return bool(call._done)

    def newest(self, count: int) -> Ints:
        """Slots of the newest predictions that wait, newest first; at most so many."""
        slots = np.empty(count, np.int64)
        return slots[: kernel.newest_waiting(self._entries(), slots)]

    def forget(self, matches: Callable[[Hashes], Bools]) -> int:
        """Let go of what waits or is remembered of some keys; how many predictions waited.

        A label that comes for one of them fits nothing. Parts that hold one are written anew by the
        next ``save``.

        Args:
            matches: which of some keys, given as ``key_codes``, are meant.
        """
        entries, marks = self._entries(), self._marks
        end = int(marks[kernel.END])
        is_meant = matches(entries.lows[:end]) & (entries.slots[:end] != kernel.FORGOTTEN)
        gone = np.flatnonzero(is_meant)
        if not len(gone):
            return 0
        slots = entries.slots[gone]
        waited = slots[slots >= 0]
        marks[kernel.WAITING] -= len(waited)
        marks[kernel.REMEMBERED] -= len(slots) - len(waited)
        self._parts.write_anew(entries, np.unique(entries.parts[gone]))
        entries.slots[gone] = kernel.FORGOTTEN
        self.rows.release(waited.astype(np.int64))
        # The walks do not expect to find forgotten ones among those that are not old.
        self._have_room(0)
        return len(waited)

    @property
    def part_names(self) -> tuple[int, ...]:
        """Names of the parts that were saved or loaded, in their order."""
        return self._parts.names

    def save(self) -> Saved:
        """What to write so that ``load`` gives all this: only what was not written before."""
        return self._parts.save(self._entries(), self.rows)

    def whole(self) -> Saved:
        """All there is as if nothing had been written before; what ``save`` does stays as it is."""
        entries = self._entries()
        unsaved, places = np.full_like(entries.parts, -1), np.empty_like(entries.places)
        return Parts().save(entries._replace(parts=unsaved, places=places), self.rows)

    @classmethod
    def load(cls, empty: Pending, head: dict[str, Any], parts: Sequence[dict[str, Any]]) -> Pending:
        """Fill a new store with what was saved: the head, and its parts in their order."""
        found = Parts.read(head, parts, empty.rows)
        end = len(found["numbers"])
        empty._marks = found["marks"]
        empty._marks[kernel.END] = 0
        empty._room(end)
        empty._marks[kernel.END] = end
        for name in ("numbers", "lows", "times", "slots", "parts", "places"):
            getattr(empty._held, name)[:end] = found[name]
        empty._parts = found["saved"]
        kernel.fill_table(empty._entries())
        return empty

    def _entries(self) -> Entries:
        return self._held._replace(
            highs=self.rows.highs,
            live=self._parts.live,
            waiting=self._parts.waiting,
            marks=self._marks,
        )

    def _room(self, count: int) -> None:
        """Have places for so many more entries; let go of those that are forgotten."""
        end = int(self._marks[kernel.END])
        held: Entries | None = getattr(self, "_held", None)
        if held is None or end + count > len(held.lows):
            self._have_room(count)

    def _have_room(self, count: int) -> None:
        held: Entries | None = getattr(self, "_held", None)
        needed = self.waiting + self.remembered + count
        size = max(_ENTRIES_MIN, needed + needed // 4)
        places = [np.empty(size, np.int32) for _ in range(3)]
        # At most half of the table is taken.
        table = np.empty(1 << (2 * size - 1).bit_length(), np.int32)
        nothing = np.empty(0, np.int64)
        new = Entries(
            np.empty(size, np.int64), np.empty(size, np.uint64), np.empty(size, np.int64),
            places[0], places[1], places[2], table, nothing, nothing, nothing, self._marks,
        )  # fmt: skip
        if held is not None:
            kernel.compact(self._entries(), new)
        self._held = new
        kernel.fill_table(self._entries())


def key_codes(keys: Sequence[str]) -> Hashes:
    """uint64 ``[n]``: MurmurHash of keys, the same everywhere."""
    count = len(keys)
    text = "".join(keys).encode("utf-8", "surrogatepass")
    lengths = np.fromiter(map(len, keys), np.int64, count)
    if len(text) != lengths.sum():
        encoded = [key.encode("utf-8", "surrogatepass") for key in keys]
        lengths = np.fromiter(map(len, encoded), np.int64, count)
    codes: Hashes = kernel.hash_pieces(np.frombuffer(text, np.uint8), np.cumsum(lengths))
    return codes


def _hashes(keys: Sequence[str]) -> tuple[Hashes, Ints]:
    """(``key_codes``, int64 ``[n]`` by Python, whose seed nobody knows)."""
    return key_codes(keys), np.fromiter(map(hash, keys), np.int64, len(keys))
