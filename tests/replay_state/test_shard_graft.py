"""Shards put together of two lose no row, apply none twice, and none out of order."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema
from contracts.plan import Column, ModelPlan, Plan, Topic, View
from dataflows.batches import ShardInput, ShardOutput, SourceBatch, ranks_of
from dataflows.erasure.tombstones import Tombstone, Tombstones, no_tombstones
from dataflows.replay_state.shard_graft import MissingViewError, ShardGraft
from dataflows.routing import ShardRouter
from dataflows.shard import Shard
from dataflows.watermark import NOT_YET, PartitionClock
from dataflows.windows.names import parted
from tests.windows.stream import feature

_COLUMNS = (
    Column("user", "string", True), Column("x", "float64", True), Column("at", "timestamp", False),
)  # fmt: skip
_DELAYS_US = (0, 4)
_TOPICS = tuple(Topic(f"t{i}", _COLUMNS, "at", d, "user") for i, d in enumerate(_DELAYS_US))


def _view(name: str, topic: str) -> View:
    aggregates = (
        feature("n", "count"), feature("s", "sum", 12, 4), feature("c", "count", 10, 5),
        feature("u", "last", 8, 4, "user", "string"),
    )  # fmt: skip
    return View(name, topic, ("user",), ("string",), aggregates, 0, name)


VIEWS = (_view("old", "t0"), _view("stays", "t1"), _view("changed", "t0"), _view("new", "t1"))
FRESH = ("changed", "new")
PLAN = Plan(
    "p", _TOPICS, VIEWS,
    (ModelPlan("m", "t1", "user", "t0", "user", "x", 1, 1, ("stays",), FeatureSchema("p", ())),),
)  # fmt: skip
LIVE_PLAN = replace(PLAN, views=(_view("gone", "t0"), *VIEWS[:3]))
FRESH_PLAN = replace(PLAN, views=VIEWS[2:], models=())

# Partition, event time, user, x.
Record = tuple[int, int, str, float]
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 60),
        st.sampled_from(["u0", "u1", "u2"]),
        st.sampled_from([1.0, 2.0, -3.0]),
    ),
    max_size=40,
)
# Which partitions say that they are idle at the cut, and how many records a batch has.
SIDES = st.tuples(st.sets(st.integers(0, 1)), st.integers(1, 9))
Side = tuple[set[int], int]


@dataclass(frozen=True)
class Seen:
    """What came out: rows as (view, key, stamp, values), and how often each read came.

    ``told_us`` is the last watermark that was told with it: all before it is said to be done.
    """

    rows: list[tuple[str, bytes, int, tuple[float | str | None, ...]]]
    reads: Counter[tuple[str, int]]
    told_us: int = NOT_YET

    def of(self, views: Sequence[str]) -> Seen:
        """What concerns some views."""
        reads = Counter({key: n for key, n in self.reads.items() if key[0] in views})
        return Seen([row for row in self.rows if row[0] in views], reads, self.told_us)

    def joined(self, later: Seen) -> Seen:
        """This, then that."""
        told_us = max(self.told_us, later.told_us)
        return Seen([*self.rows, *later.rows], self.reads + later.reads, told_us)


class _Log:
    """Positions and clocks of the partitions: what was read, whoever reads it."""

    def __init__(self, plan: Plan) -> None:
        self._router = ShardRouter(plan, 1)
        self._newest = [NOT_YET, NOT_YET]
        self._offsets = [0, 0]

    def inputs(self, records: Sequence[Record], size: int) -> Iterator[ShardInput]:
        """Batches of records of one partition each."""
        for begin in range(0, len(records), size):
            for partition in (0, 1):
                part = [r for r in records[begin : begin + size] if r[0] == partition]
                if part:
                    yield self._input(partition, part)

    def idle(self, partition: int) -> ShardInput:
        """This partition has nothing more."""
        return self._input(partition, [], is_idle=True)

    def _input(
        self, partition: int, records: Sequence[Record], *, is_idle: bool = False
    ) -> ShardInput:
        delay_us = _DELAYS_US[partition]
        effective = []
        for record in records:
            effective.append(max(record[1], self._newest[partition] - delay_us))
            self._newest[partition] = max(self._newest[partition], record[1])
        first, self._offsets[partition] = (
            self._offsets[partition], self._offsets[partition] + len(records),
        )  # fmt: skip
        newest_us = self._newest[partition]
        clock = PartitionClock(partition, max(newest_us - delay_us, NOT_YET), newest_us, is_idle)
        batch = SourceBatch(
            f"t{partition}",
            clock,
            ranks_of(partition, np.arange(first, first + len(records))),
            np.array([r[1] for r in records], np.int64),
            np.array(effective, np.int64),
            {"user": [r[2] for r in records], "x": np.array([r[3] for r in records])},
        )
        ((_, found),) = self._router.route(batch)
        return found


def _run(shard: Shard, inputs: Iterator[ShardInput] | list[ShardInput]) -> Seen:
    seen = Seen([], Counter())
    for item in inputs:
        output = shard.on_batch([item])
        if output is not None:
            seen = seen.joined(_seen(output))
    return seen


def _seen(output: ShardOutput) -> Seen:
    rows: list[Any] = []
    for name, new in output.rows.items():
        for slot, stamp, values in zip(
            new.rows.slots, new.rows.stamps_us, new.rows.values, strict=True
        ):
            shown = tuple(
                None if value != value else new.texts[int(value)] if i == 3 else float(value)
                for i, value in enumerate(values)
            )
            rows.append((name, new.keys[slot], int(stamp), shown))
    return Seen(
        rows,
        Counter((name, int(rank)) for name, read in output.reads.items() for rank in read.ranks),
        output.watermark_us,
    )


def _side(plan: Plan, records: Sequence[Record], side: Side) -> tuple[Seen, list[dict[str, Any]]]:
    """A shard of a plan that has read the records: what came out, and its state in two parts."""
    idle, size = side
    log, shard = _Log(plan), Shard(plan, 0, 2)
    half = len(records) // 2
    seen = _run(shard, log.inputs(records[:half], size))
    base = _copied(shard.dump())
    seen = seen.joined(_run(shard, log.inputs(records[half:], size)))
    seen = seen.joined(_run(shard, [log.idle(number) for number in sorted(idle)]))
    return seen, [base, _copied(shard.changes())]


def _copied(data: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = pickle.loads(pickle.dumps(data))
    return copied


def _gone_on(
    before: Sequence[Record], after: Sequence[Record], live: Side, fresh: Side
) -> tuple[Seen, Seen, Seen]:
    """What came out by the cut on the sides that count, and after it of both together."""
    live_seen, live_parts = _side(LIVE_PLAN, before, live)
    fresh_seen, fresh_parts = _side(FRESH_PLAN, before, fresh)
    grafted = ShardGraft(PLAN, 2, FRESH, None).joined(0, live_parts, fresh_parts)
    shard = Shard.load(PLAN, 0, 2, [_copied(grafted)])
    log = _Log(PLAN)
    # A source remembers where it was.
    list(log.inputs(before, 9))
    later = _run(shard, log.inputs(after, 2))
    later = later.joined(_run(shard, [log.idle(0), log.idle(1)]))
    return live_seen.of(("old", "stays")), fresh_seen.of(FRESH), later


@given(RECORDS, RECORDS, SIDES, SIDES)
@settings(max_examples=40)
def test_two_sides_go_on_as_one_shard(
    before: list[Record], after: list[Record], live: Side, fresh: Side
) -> None:
    """Whoever was idle at the cut, rows and reads are those of one shard from the beginning."""
    # Later than all before, so that nothing is late because somebody was taken for idle.
    after = [(p, event_us + 100, user, x) for p, event_us, user, x in after]
    kept, replayed, later = _gone_on(before, after, live, fresh)
    log, whole = _Log(PLAN), Shard(PLAN, 0, 2)
    expected = _run(whole, log.inputs([*before, *after], 7))
    expected = expected.joined(_run(whole, [log.idle(0), log.idle(1)]))
    found = kept.joined(replayed).joined(later)
    assert sorted(found.rows, key=repr) == sorted(expected.rows, key=repr)
    assert found.reads == expected.reads


@given(RECORDS, RECORDS, SIDES, SIDES)
@settings(max_examples=40)
def test_late_rows_are_counted_once_and_never_change_the_past(
    before: list[Record], after: list[Record], live: Side, fresh: Side
) -> None:
    """Rows that are late for one side take effect after all that it said was done."""
    kept, replayed, later = _gone_on(before, after, live, fresh)
    for name, _, stamp, _ in later.rows:
        assert stamp > (replayed if name in FRESH else kept).told_us
    found = kept.joined(replayed).joined(later)
    counts: dict[tuple[str, bytes], Any] = {}
    for name, key, _, values in sorted(found.rows, key=lambda row: row[2]):
        counts[name, key] = values[0]
    for view in VIEWS:
        rows = Counter(r[2] for r in [*before, *after] if view.topic == f"t{r[0]}")
        counted = sorted(n for (name, _), n in counts.items() if name == view.name)
        assert counted == sorted(rows.values())
    assert set(found.reads.values()) <= {1}


def test_a_side_without_a_record_is_an_empty_one() -> None:
    """Whoever has read nothing yet has no shards at all, and knows of no entity."""
    _, live = _side(LIVE_PLAN, [(0, 5, "u0", 1.0), (0, 9, "u1", 1.0)], (set(), 1))
    graft = ShardGraft(PLAN, 2, FRESH, None)
    grafted = Shard.load(PLAN, 0, 2, [graft.joined(0, live, [])])
    seen = _run(grafted, [_Log(PLAN).idle(1), _Log(PLAN).idle(0)])
    assert {row[0] for row in seen.rows} <= {"old"}
    assert graft.joined(0, [], [])["views"].keys() == {view.name for view in VIEWS}


def test_a_view_that_a_side_does_not_know_is_named() -> None:
    """The state of a plan without the view says nothing of it."""
    parts = _side(LIVE_PLAN, [(0, 5, "u0", 1.0)], (set(), 1))[1]
    with pytest.raises(MissingViewError, match="new"):
        ShardGraft(PLAN, 2, FRESH, None).joined(0, parts, parts)


def test_who_was_forgotten_is_so_on_both_sides() -> None:
    """A side that had not heard of a tombstone hears of it; one that had lets nobody go again."""
    records = [(0, 5, "u0", 1.0), (0, 6, "u1", 1.0), (1, 7, "u0", 1.0)]
    live, fresh = (_side(plan, records, (set(), 1))[1] for plan in (LIVE_PLAN, FRESH_PLAN))
    tombstones = _forgotten("u0")
    heard = Shard.load(FRESH_PLAN, 0, 2, fresh)
    assert heard.forget(tombstones)
    # It has come back since: what is known of it now is not to go.
    log = _Log(FRESH_PLAN)
    list(log.inputs(records, 1))
    _run(heard, log.inputs([(0, 20, "u0", 1.0), (0, 30, "u1", 1.0)], 1))
    graft = ShardGraft(PLAN, 2, FRESH, tombstones)
    views = graft.joined(0, live, [_copied(heard.dump())])["views"]
    found = {name: b"".join(parted(view["keys"])) for name, view in views.items()}
    assert b"u0" not in found["old"]
    assert b"u1" in found["old"]
    assert b"u0" in found["changed"]


def _forgotten(user: str) -> Tombstones:
    none = no_tombstones()
    digest = none.digest(entity_key(("user",), ("string",), (user,)))
    ends = {"t0/0": 3, "t1/0": 3}
    return none.added([Tombstone(0, ("user",), digest, "file", {}, ends, {}, "", "")])
