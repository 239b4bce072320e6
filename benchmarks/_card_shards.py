"""Shards of one view of cards, driven without Bytewax, and values from scratch to check them.

A card is a number; its key is what Feast makes of the name ``card-NUMBER``.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from benchmarks.kernel import FUNCTIONS, WINDOWS, brute_force, card_view
from contracts.feast_bytes import entity_key
from contracts.online_store import SqliteConfig
from contracts.plan import Column, Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.batches import KeyedRows, ShardInput
from dataflows.flow.logics import ShardHandle, ShardLogic
from dataflows.flow.run_context import Places, RunContext
from dataflows.watermark import PartitionClock
from dataflows.windows.inputs import KeyList

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHARDS = 16
VIEW = card_view("")
PLAN = Plan(
    "cards",
    (
        Topic(
            "payments",
            (
                Column("card", "string", False),
                Column("amount", "float64", False),
                Column("at", "timestamp", False),
            ),
            "at",
            0,
            "card",
        ),
    ),
    (VIEW,),
    (),
)


class Cards:
    """The keys of cards by shard, and which card is where.

    Attributes:
        lists: keys of each shard; a code is a place in it.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.lists = [KeyList() for _ in range(SHARDS)]
        self._shard_of = np.empty(count, np.int64)
        self._code_of = np.empty(count, np.int64)
        for card in range(count):
            key = entity_key(VIEW.join_keys, VIEW.join_key_types, (f"card-{card}",))
            shard = crc32(key) % SHARDS
            self._shard_of[card] = shard
            self._code_of[card] = len(self.lists[shard].keys)
            self.lists[shard].keys.append(key)

    def inputs(
        self, cards: Ints, times_us: Ints, amounts: Floats | None, watermark_us: int
    ) -> list[ShardInput]:
        """One for each shard: updates of these cards, or reads if there are no amounts."""
        clock = PartitionClock(0, watermark_us, watermark_us, is_idle=False)
        inputs = [ShardInput(shard, clock, {}, {}) for shard in range(SHARDS)]
        shards = self._shard_of[cards]
        order = np.argsort(shards.astype(np.int16), kind="stable")
        ends = np.searchsorted(shards[order], np.arange(SHARDS + 1)).tolist()
        for shard, (begin, end) in enumerate(pairwise(ends)):
            mine = order[begin:end]
            values = np.empty((end - begin, 0)) if amounts is None else amounts[mine].reshape(-1, 1)
            rows = KeyedRows(
                self.lists[shard],
                self._code_of[cards[mine]],
                times_us[mine],
                mine,
                times_us[mine],
                values,
            )
            into = inputs[shard].reads if amounts is None else inputs[shard].updates
            into[VIEW.name] = rows
        return inputs


class Shards:
    """All shards of the flow with their state in files, as Bytewax would have them."""

    def __init__(self, folder: Path, handles: Sequence[ShardHandle | None]) -> None:
        places = Places(folder, SqliteConfig(folder / "none.db"), {}, folder, folder)
        settings = DataflowSettings.for_repo(folder, shards=SHARDS)
        context = RunContext(settings, places, target=None, stop=threading.Event())
        self._logics = [ShardLogic(PLAN, 1, context, handle) for handle in handles]

    def run(self, inputs: Sequence[ShardInput]) -> int:
        """Take in what came; how many rows came of it."""
        rows = 0
        for logic, one in zip(self._logics, inputs, strict=True):
            for output in logic.on_batch([one])[0]:
                rows += sum(len(view.rows.slots) for view in output.rows.values())
        return rows

    def read(self, cards: Cards, wanted: Ints, at_us: int) -> Floats:
        """float64[n, 9]: the features of these cards, once the watermark is at ``at_us``."""
        found = np.full((len(wanted), len(WINDOWS) * len(FUNCTIONS)), np.nan)
        inputs = cards.inputs(wanted, np.full(len(wanted), at_us), None, at_us)
        for logic, one in zip(self._logics, inputs, strict=True):
            for output in logic.on_batch([one])[0]:
                for reads in output.reads.values():
                    found[reads.ranks] = reads.values
        return found

    def snapshot(self) -> list[ShardHandle]:
        """The end of an epoch."""
        return [logic.snapshot() for logic in self._logics]


class Sample:
    """All events of some cards, for a computation from scratch."""

    def __init__(self, cards: Ints) -> None:
        self.cards = cards
        self._parts: list[tuple[Ints, Ints, Floats]] = []

    def add(self, cards: Ints, times_us: Ints, amounts: Floats) -> None:
        """Remember the events that are of these cards."""
        mine = np.isin(cards, self.cards)
        self._parts.append((cards[mine], times_us[mine], amounts[mine]))

    def values(self, at_us: int) -> Floats:
        """float64[n, 9]: what reads at this moment are to see."""
        cards, times_us, amounts = (
            np.concatenate([part[i] for part in self._parts]) for i in range(3)
        )
        rows = []
        for card in self.cards.tolist():
            mine = cards == card
            rows.append(brute_force(times_us[mine], amounts[mine], at_us)[1][-1])
        return np.array(rows)


def resident_bytes() -> int:
    """What the process takes of the machine's memory, once all that was let go is given back."""
    gc.collect()
    # Else what comes next would go where something else was, and seem to take nothing.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
