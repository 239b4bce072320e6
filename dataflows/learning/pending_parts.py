"""What waits, kept in parts: each epoch writes one with what is new, and none twice over.

A part is never changed. The head, which is written anew each time, says of every entry of every
part whether it still waits, in two bits. A part is dropped once all in it is forgotten; where there
are many of about the same size, or little is left of them, they become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataflows.learning import pending_kernel as kernel
from dataflows.learning.pending_types import Bytes, Entries, Ints
from dataflows.learning.waiting_rows import WaitingRows

# So many parts of about the same size become one; sizes that differ by this factor are the same.
_TIER_PARTS = 4
_TIER_ROWS = 256
# Parts from this size on are left alone: merging them would hold up an epoch.
_MERGED_ROWS_MAX = 16_384
# Entries that are remembered only take a tenth of what those that wait do.
_REMEMBERED_PER_ROW = 8
_FORGOTTEN = 3


@dataclass(frozen=True)
class Saved:
    """What to write.

    Attributes:
        head: plain data with arrays; small, and needed whole.
        parts: names of the parts that the head speaks of, in its order.
        new: of these, those that were not written before, with their contents.
    """

    head: dict[str, Any]
    parts: tuple[int, ...]
    new: dict[int, dict[str, Any]]


class Parts:
    """Which part each entry was saved in. Parts are numbered by place; free places are used again.

    Attributes:
        live: int64 ``[places]``, entries of the part that are not forgotten.
        waiting: int64 ``[places]``, entries of the part that wait.
    """

    def __init__(self) -> None:
        self.live = np.zeros(16, np.int64)
        self.waiting = np.zeros(16, np.int64)
        self._sizes = np.zeros(16, np.int64)  # entries as they were written; 0 for no such part
        self._names = np.zeros(16, np.int64)
        self._last_name = 0

    def save(self, entries: Entries, rows: WaitingRows) -> Saved:
        """See ``Pending.save``."""
        end = int(entries.marks[kernel.END])
        parts, slots = entries.parts[:end], entries.slots[:end]
        needless = self._needless()
        if len(needless):
            is_needless = np.zeros(len(self._sizes) + 1, np.bool_)  # the last is for -1
            is_needless[needless] = True
            parts[is_needless[parts]] = -1
            self._sizes[needless] = self.live[needless] = self.waiting[needless] = 0
        at = np.flatnonzero((parts == -1) & (slots != kernel.FORGOTTEN))
        new = {}
        if len(at):
            part = self._add(len(at), int((slots[at] >= 0).sum()))
            parts[at] = part
            entries.places[at] = np.arange(len(at))
            waiting = np.flatnonzero(slots[at] >= 0)
            new[int(self._names[part])] = {
                "numbers": entries.numbers[at],
                "lows": entries.lows[at],
                "times": entries.times[at],
                "waiting": waiting,
                "rows": rows.take(slots[at[waiting]].astype(np.int64)),
            }
        held = np.flatnonzero(self._sizes)
        offsets = np.zeros(len(self._sizes), np.int64)
        offsets[held] = np.cumsum(self._sizes[held]) - self._sizes[held]
        states = np.full(int(self._sizes.sum()), _FORGOTTEN, np.int8)
        kernel.states_of_parts(entries._replace(live=self.live), offsets, states)
        forget_at = int(entries.marks[kernel.FORGET_AT])
        head = {
            "marks": entries.marks.copy(),
            "forgotten_until": int(entries.numbers[forget_at]) if forget_at < end else None,
            "sizes": self._sizes[held],
            "states": _packed(states),
        }
        return Saved(head, tuple(self._names[held].tolist()), new)

    def write_anew(self, entries: Entries, parts: Ints) -> None:
        """Take what these parts (places; -1 for none) hold for not saved: the next save does it."""
        chosen = parts[parts >= 0]
        end = int(entries.marks[kernel.END])
        entries.parts[:end][np.isin(entries.parts[:end], chosen)] = -1
        self._sizes[chosen] = self.live[chosen] = self.waiting[chosen] = 0

    @classmethod
    def read(
        cls, head: dict[str, Any], parts: Sequence[dict[str, Any]], rows: WaitingRows
    ) -> dict[str, Any]:
        """Columns of all entries in order, ``marks``, and the parts (``saved``); fills ``rows``."""
        saved, sizes = cls(), head["sizes"]
        states = _unpacked(head["states"], int(sizes.sum()))
        columns: dict[str, list[Any]] = {
            name: [] for name in ("numbers", "lows", "times", "slots", "parts", "places")
        }
        begin = 0
        for part in parts:
            state = states[begin : begin + len(part["numbers"])]
            begin += len(part["numbers"])
            slots = -state.astype(np.int64)
            is_wanted = state[part["waiting"]] == 0
            wanted = np.flatnonzero(is_wanted)
            slots[part["waiting"][is_wanted]] = rows.put_back(part["rows"], wanted)
            live = np.flatnonzero(state != _FORGOTTEN)
            place = saved._add(len(state), len(wanted))
            saved.live[place] = len(live)
            for name in ("numbers", "lows", "times"):
                columns[name].append(part[name][live])
            columns["slots"].append(slots[live])
            columns["parts"].append(np.full(len(live), place))
            columns["places"].append(live)
        found: dict[str, Any] = {
            name: np.concatenate([np.empty(0, np.int64), *values]) if name != "lows"
            else np.concatenate([np.empty(0, np.uint64), *values])
            for name, values in columns.items()
        }  # fmt: skip
        order = np.argsort(found["numbers"])
        found = {name: column[order] for name, column in found.items()}
        marks, until = head["marks"].copy(), head["forgotten_until"]
        marks[kernel.EXPIRE_AT] = 0
        marks[kernel.FORGET_AT] = (
            len(order) if until is None else np.searchsorted(found["numbers"], until)
        )
        return {**found, "marks": marks, "saved": saved}

    @property
    def names(self) -> tuple[int, ...]:
        """Of all parts, in their order."""
        return tuple(self._names[np.flatnonzero(self._sizes)].tolist())

    def _add(self, size: int, waiting: int) -> int:
        free = np.flatnonzero(self._sizes == 0)
        if not len(free):
            free = np.array([len(self._sizes)])
            for name in ("live", "waiting", "_sizes", "_names"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        place = int(free[0])
        self._last_name += 1
        self._names[place] = self._last_name
        self._sizes[place] = self.live[place] = size
        self.waiting[place] = waiting
        return place

    def _needless(self) -> Ints:
        """Places of parts of which nothing is left, or that are to become one now."""
        weights = self.waiting + self.live // _REMEMBERED_PER_ROW
        is_empty = (self._sizes > 0) & (self.live == 0)
        is_small = (self._sizes > 0) & (self.live > 0) & (weights < _MERGED_ROWS_MAX)
        tiers = np.log(np.maximum(weights / _TIER_ROWS, 1.0)) // np.log(_TIER_PARTS)
        for tier in np.unique(tiers[is_small]).tolist():
            same = is_small & (tiers == tier)
            if same.sum() >= _TIER_PARTS:
                # A few more than usual may have become so small at once.
                chosen = np.flatnonzero(same)[: 2 * _TIER_PARTS]
                return np.concatenate([np.flatnonzero(is_empty), chosen])
        return np.flatnonzero(is_empty)


def _packed(states: Bytes) -> Any:
    """Four states in each byte, uint8."""
    padded = np.zeros(-(-len(states) // 4) * 4, np.uint8)
    padded[: len(states)] = states
    fours = padded.reshape(-1, 4)
    return fours[:, 0] | fours[:, 1] << 2 | fours[:, 2] << 4 | fours[:, 3] << 6


def _unpacked(packed: Any, count: int) -> Any:
    """int8 ``[count]``."""
    fours = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    return fours.reshape(-1)[:count].astype(np.int8)
