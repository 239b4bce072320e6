"""One virtual shard: all views' entities whose key hashes to it, moved on by the watermark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from contracts.category import category_code
from contracts.plan import Plan
from dataflows.batches import KeyedRows, ShardInput, ShardOutput, ViewRows
from dataflows.erasure.matching import EntityMatcher
from dataflows.erasure.tombstones import NOTHING_APPLIED, Applied, Tombstones
from dataflows.watermark import NOT_YET, WatermarkTable
from dataflows.windows.view_state import NO_PIECES, Pending, Reads, ViewState

# A view, and whose keys and texts rows index: the ids of lists that the rows hold meanwhile.
_Kind = tuple[str, int, int]


class Shard:
    """Pure logic: inputs of all partitions in, rows and reads out. Not safe for threads.

    Attributes:
        taken: how many rows came in since it was run last.
    """

    def __init__(self, plan: Plan, number: int, partitions: int) -> None:
        self._number = number
        self._clocks = WatermarkTable(partitions)
        self._views = {view.name: ViewState(view) for view in plan.views}
        self._text_columns = {
            view.name: tuple(i for i, a in enumerate(view.aggregates) if a.dtype == "string")
            for view in plan.views
        }
        self._done_us = NOT_YET
        self.taken = 0
        # Late rows by view that no output has told of yet.
        self._late: dict[str, int] = {}
        self._forgotten: Applied = NOTHING_APPLIED

    def forget(self, tombstones: Tombstones) -> bool:
        """Let go of entities that were forgotten since; whether there were tombstones.

        ``dump`` must come before the next ``changes`` then.
        """
        newer = tombstones.after(self._forgotten)
        if not newer.tombstones:
            return False
        for state in self._views.values():
            matcher = EntityMatcher(newer, state.view.join_keys, state.view.join_key_types)
            if matcher.means_any:
                state.forget(matcher.of_keys, matcher.of_faded)
        self._forgotten = tombstones.newest
        return True

    def on_batch(self, inputs: Sequence[ShardInput]) -> ShardOutput | None:
        """``take`` and ``run``."""
        self.take(inputs)
        return self.run()

    def take(self, inputs: Sequence[ShardInput]) -> None:
        """Hold what came in."""
        # Live rows come in crumbs of all partitions: what is of one kind is held in one go.
        updates: dict[_Kind, list[KeyedRows]] = {}
        reads: dict[_Kind, list[KeyedRows]] = {}
        for item in inputs:
            for name, rows in item.updates.items():
                updates.setdefault((name, id(rows.keys), id(rows.texts)), []).append(rows)
            for name, rows in item.reads.items():
                reads.setdefault((name, id(rows.keys), id(rows.texts)), []).append(rows)
        self._clocks.update_all(clock for item in inputs for clock in (*item.before, item.clock))
        late = self._late
        for (name, _, _), parts in updates.items():
            joined = KeyedRows.join(parts)
            late[name] = late.get(name, 0) + self._hold(name, joined, updates=1)
            self.taken += len(joined.ranks)
        for (name, _, _), parts in reads.items():
            joined = KeyedRows.join(parts)
            self._hold(name, joined, updates=0)
            self.taken += len(joined.ranks)

    def run(self) -> ShardOutput | None:
        """Run what the watermark has passed; None if nothing moved."""
        watermark_us = self._clocks.watermark_us
        is_idle = self._clocks.is_idle
        has_news = is_idle or self.taken
        if watermark_us == NOT_YET or (watermark_us == self._done_us and not has_news):
            return None
        self._done_us = watermark_us
        self.taken = 0
        late, self._late = self._late, {}
        # When all is silent, updates of the very last moment need not wait for a later one.
        updates_before_us = watermark_us + 1 if is_idle else watermark_us
        return self._advance(watermark_us, updates_before_us, late)

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data. Silent entities are let go before."""
        return self._stored({name: state.dump() for name, state in self._views.items()})

    def changes(self, pieces: range = NO_PIECES) -> dict[str, Any]:
        """What changed since the last ``dump`` or ``changes``, and pieces of all, as plain data.

        ``pieces`` are as in ``ViewState.changes``.
        """
        return self._stored({name: state.changes(pieces) for name, state in self._views.items()})

    def silent_share(self) -> float:
        """Which part of the entities the next ``dump`` would let go, of the view with most."""
        return max((state.silent_share() for state in self._views.values()), default=0.0)

    @property
    def has_old_texts(self) -> bool:
        """Whether the next ``dump`` may let go of many texts."""
        return any(state.has_old_texts for state in self._views.values())

    @classmethod
    def load(cls, plan: Plan, number: int, partitions: int, parts: list[dict[str, Any]]) -> Shard:
        """A shard as it was at the last of ``parts``: what ``dump`` gave, then all changes.

        Instead of it may stand changes since which all pieces were told.
        """
        shard = cls(plan, number, partitions)
        newest = parts[-1]
        shard._clocks = newest["clocks"]
        shard._clocks.reopen()
        shard._done_us = newest["done_us"]
        shard._late = dict(newest["late"])
        shard._forgotten = newest.get("forgotten", NOTHING_APPLIED)
        for name in shard._views:
            base, *changes = (part["views"][name] for part in parts)
            shard._views[name] = ViewState.load(plan.view(name), base, changes)
        return shard

    def _stored(self, views: dict[str, Any]) -> dict[str, Any]:
        return {
            "clocks": self._clocks,
            "done_us": self._done_us,
            "late": self._late,
            "forgotten": self._forgotten,
            "views": views,
        }

    def _hold(self, name: str, rows: KeyedRows, updates: int) -> int:
        state = self._views[name]
        count = len(rows.ranks)
        if updates:
            values = state.with_own_texts(rows.texts, rows.values)
        else:
            values = np.zeros((count, state.inputs))
        effective_us = rows.effective_us
        if count and effective_us.min() < self._done_us:
            # Only a partition that was taken for idle can bring rows from before the watermark.
            effective_us = np.maximum(effective_us, self._done_us)
        state.hold(
            Pending(
                state.slots_of_codes(rows.keys, rows.codes),
                effective_us,
                rows.ranks,
                (np.ones if updates else np.zeros)(count, np.bool_),
                rows.event_us,
                values,
            )
        )
        return int(np.count_nonzero(effective_us != rows.event_us))

    def _advance(
        self, watermark_us: int, updates_before_us: int, late: dict[str, int]
    ) -> ShardOutput:
        new_rows: dict[str, ViewRows] = {}
        new_reads: dict[str, Reads] = {}
        for name, state in self._views.items():
            rows, reads = state.advance(watermark_us, updates_before_us)
            if len(rows.slots):
                new_rows[name] = ViewRows(state.keys, rows, state.texts, self._text_columns[name])
            if len(reads.ranks):
                columns = self._text_columns[name]
                new_reads[name] = _coded(reads, columns, state.texts) if columns else reads
        return ShardOutput(self._number, watermark_us, new_rows, new_reads, late)


def _coded(reads: Reads, columns: tuple[int, ...], texts: list[str]) -> Reads:
    """Reads with texts as vectors have them; places in ``texts`` mean nothing outside the shard."""
    values = reads.values.copy()
    for column in columns:
        places = values[:, column]
        is_there = ~np.isnan(places)
        used, which = np.unique(places[is_there].astype(np.int64), return_inverse=True)
        codes = np.array([category_code(texts[place]) for place in used.tolist()])
        values[is_there, column] = codes[which] if len(used) else places[is_there]
    return Reads(reads.ranks, values)
