"""Rows that wait to be written to the online store: the last one of each entity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflows.batches import ViewRows
from dataflows.windows.view_state import Rows

# So few rows are looked through one by one; of more numpy is quicker.
_FEW_ROWS = 64


@dataclass(frozen=True)
class LastRows:
    """One row for each entity of a view: ``keys`` are n distinct entity keys.

    Attributes:
        view: name of the view.
        keys: n serialized entity keys.
        stamps_us: int64[n].
        values: float64[n, F]; a text is its place in ``texts``.
        texts: those of the view.
    """

    view: str
    keys: list[bytes]
    stamps_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    texts: list[str]


class Outbox:
    """Gathers rows of all shards and views; later rows of an entity replace earlier ones.

    Attributes:
        rows: how many rows it holds, those that are replaced already included.
    """

    def __init__(self) -> None:
        # Parts that can replace each other: a slot is an entity within one list of keys only, and
        # a shard may make new ones. Earlier lists come first.
        self._parts: dict[tuple[int, str, int, int], list[ViewRows]] = {}
        self.rows = 0

    def add(self, shard: int, view: str, new: ViewRows) -> None:
        """Take the rows of one shard's view, later than all it gave before."""
        last = _last_rows([new])
        # The lists are held by the parts, so nobody else has their ids meanwhile.
        place = (shard, view, id(new.keys), id(new.texts))
        self._parts.setdefault(place, []).append(last)
        self.rows += len(last.rows.slots)

    def compact(self) -> None:
        """Let go of the rows that others have replaced."""
        for place, parts in self._parts.items():
            if len(parts) > 1:
                self._parts[place] = [_last_rows(parts)]
        self.rows = sum(len(part.rows.slots) for parts in self._parts.values() for part in parts)

    def drain(self) -> Iterator[LastRows]:
        """Everything, view by view, shards without texts together; it is empty afterwards."""
        parts, self._parts, self.rows = self._parts, {}, 0
        together: dict[str, dict[int, ViewRows]] = {}
        for (shard, view, _, _), held in parts.items():
            last = _last_rows(held)
            if last.text_columns != ():
                yield _gathered(view, [last])
                continue
            shards = together.setdefault(view, {})
            if shard in shards:
                # Of a new list of the same entities, which would come twice.
                yield _gathered(view, list(shards.values()))
                shards.clear()
            shards[shard] = last
        for view, shards in together.items():
            yield _gathered(view, list(shards.values()))


def _gathered(view: str, parts: list[ViewRows]) -> LastRows:
    """The rows of parts that have no entity in common; of several parts none has texts."""
    keys = [part.keys[slot] for part in parts for slot in part.rows.slots.tolist()]
    if len(parts) == 1:
        rows = parts[0].rows
        return LastRows(view, keys, rows.stamps_us, rows.values, parts[0].texts)
    stamps_us = np.concatenate([part.rows.stamps_us for part in parts])
    values = np.concatenate([part.rows.values for part in parts])
    return LastRows(view, keys, stamps_us, values, parts[0].texts)


def _last_rows(parts: list[ViewRows]) -> ViewRows:
    """The last row of each slot; all parts index the same growing lists of keys and texts."""
    if len(parts) == 1:
        few = parts[0].rows.slots
        if len(few) <= _FEW_ROWS and len(set(few.tolist())) == len(few):
            return parts[0]
    slots = np.concatenate([part.rows.slots for part in parts])
    places = np.arange(len(slots))
    place_of = np.empty(int(slots.max(initial=-1)) + 1, np.int64)
    # Of several numbers that are put into one place the last one stays.
    place_of[slots] = places
    last = np.flatnonzero(place_of[slots] == places)
    if len(parts) == 1 and len(last) == len(slots):
        return parts[0]
    stamps_us = np.concatenate([part.rows.stamps_us for part in parts])
    values = np.concatenate([part.rows.values for part in parts])
    rows = Rows(slots[last], stamps_us[last], values[last])
    return ViewRows(parts[-1].keys, rows, parts[-1].texts, parts[-1].text_columns)
