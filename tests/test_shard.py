"""Routing and shards together: rows and reads depend on nothing but the records."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.feast_bytes import decode_entity_key
from contracts.feature_schema import FeatureSchema, ValueType
from contracts.plan import Column, ModelPlan, Plan, Topic, View
from dataflows import routing
from dataflows.batches import ShardInput, ShardOutput, SourceBatch, ranks_of
from dataflows.routing import ShardRouter
from dataflows.shard import Shard
from dataflows.watermark import NOT_YET, PartitionClock
from tests.windows.oracle import Entity, Event
from tests.windows.stream import feature

_COLUMNS = (
    Column("user", "string", True),
    Column("shop", "int64", True),
    Column("x", "float64", True),
    Column("at", "timestamp", False),
)
_TOPICS = tuple(Topic(name, _COLUMNS, "at", delay, "user") for name, delay in [("a", 0), ("b", 4)])
_Kind = tuple[tuple[str, ...], tuple[ValueType, ...]]
_USER: _Kind = ("user",), ("string",)
_BOTH: _Kind = ("user", "shop"), ("string", "int64")
_VIEWS = (
    View("a_both", "a", *_BOTH, (feature("s", "sum", 12, 4), feature("l", "last")), 0, "a"),
    View("a_user", "a", *_USER, (feature("c", "count", 10, 5), feature("m", "max", 3, 3)), 0, "b"),
    View("b_user", "b", *_USER, (feature("x", "latest"),), 15, "c"),
)
# No model reads strings; its entities come and go, as all its windows end.
_WORDS = View(
    "a_words",
    "a",
    ("shop",),
    ("int64",),
    (
        feature("last", "last", 12, 4, "user", "string"),
        feature("users", "count_distinct", 8, 4, "user", "string"),
        feature("n", "count", 12, 4, "x"),
    ),
    0,
    "d",
)
_NAMES = tuple(view.name for view in _VIEWS)
PLAN = Plan(
    "p",
    _TOPICS,
    (*_VIEWS, _WORDS),
    (ModelPlan("m", "b", "id", "a", "id", "x", 1, 1, _NAMES, FeatureSchema("p", ())),),
)
# Number in the flow -> topic.
PARTITIONS = ("a", "a", "a", "b", "b")

Rows = list[tuple[str, bytes, int, list[Any]]]
Seen = dict[tuple[str, int], list[Any]]


@dataclass(frozen=True)
class Row:
    """One record: where it stands, when it happened and takes effect, and what it says."""

    partition: int
    offset: int
    event_us: int
    effective_us: int
    user: str | None
    shop: int | None
    x: float | None


def _clock(partition: int, newest_us: int, is_idle: int) -> PartitionClock:
    delay_us = PLAN.topic(PARTITIONS[partition]).watermark_delay_us
    return PartitionClock(partition, max(newest_us - delay_us, NOT_YET), newest_us, bool(is_idle))


def _batch(partition: int, rows: list[Row], newest_us: int, is_idle: int = 0) -> SourceBatch:
    return SourceBatch(
        PARTITIONS[partition],
        _clock(partition, newest_us, is_idle),
        ranks_of(partition, np.array([row.offset for row in rows], np.int64)),
        np.array([row.event_us for row in rows], np.int64),
        np.array([row.effective_us for row in rows], np.int64),
        {
            "user": [row.user for row in rows],
            "shop": [row.shop for row in rows],
            "x": np.array([row.x for row in rows], np.float64),
        },
    )


_RECORDS = st.tuples(
    st.integers(0, len(PARTITIONS) - 1),
    st.integers(0, 60),
    st.sampled_from(["u0", "u1", "u2", None]),
    st.sampled_from([0, -1, 2**62, None]),
    st.sampled_from([None, 1.0, 2.0, -3.0]),
)


def _rows_of(records: list[Any]) -> list[list[Row]]:
    """Per partition the rows with their effective times, by the plain rule."""
    parts: list[list[Row]] = [[] for _ in PARTITIONS]
    newest = [NOT_YET] * len(PARTITIONS)
    for partition, event_us, user, shop, x in records:
        delay_us = PLAN.topic(PARTITIONS[partition]).watermark_delay_us
        effective_us = max(event_us, newest[partition] - delay_us)
        newest[partition] = max(newest[partition], event_us)
        offset = 100 * len(parts[partition])
        parts[partition].append(Row(partition, offset, event_us, effective_us, user, shop, x))
    return parts


def _batches(parts: list[list[Row]], rng: random.Random) -> Iterator[SourceBatch]:
    """All rows in batches of random sizes, partitions interleaved at random; then all idle."""
    at = [0] * len(parts)
    newest = [NOT_YET] * len(parts)
    open_parts = list(range(len(parts)))
    while open_parts:
        number = rng.choice(open_parts)
        rows = parts[number][at[number] : at[number] + rng.choice([1, 2, 5, 50])]
        at[number] += len(rows)
        newest[number] = max([newest[number], *(row.event_us for row in rows)])
        is_last = at[number] == len(parts[number])
        yield _batch(number, rows, newest[number])
        if is_last:
            open_parts.remove(number)
            yield _batch(number, [], newest[number], is_idle=1)


def _run(
    parts: list[list[Row]], shards: int, seed: int
) -> tuple[Rows, Seen, dict[bytes, set[int]]]:
    """Rows and reads of a run, and the shards in which each entity was seen."""
    rng = random.Random(seed)
    router = ShardRouter(PLAN, shards)
    running = [Shard(PLAN, number, len(PARTITIONS)) for number in range(shards)]
    # Of each shard what a base and all changes since then were stored as.
    stored: list[list[bytes]] = [[] for _ in range(shards)]
    waiting: list[list[ShardInput]] = [[] for _ in range(shards)]
    rows: Rows = []
    reads: Seen = {}
    homes: dict[bytes, set[int]] = {}
    was_idle = False
    for batch in [*_batches(parts, rng), None]:
        for key, item in router.route(batch) if batch else []:
            assert int(key) == item.shard
            waiting[item.shard].append(item)
        was_idle = was_idle or batch is None or batch.clock.is_idle
        for number, items in enumerate(waiting):
            if batch is None or rng.random() < 0.6:
                running[number].take(items)
                items.clear()
            # It need not run each time that something came.
            if batch is None or rng.random() < 0.6:
                output = running[number].run()
                if output is not None:
                    _collect(output, rows, reads, homes)
            if not was_idle and rng.random() < 0.2:
                running[number] = _stored(running[number], number, stored[number], rng)
    return sorted(rows, key=lambda row: row[:3]), reads, homes


def _stored(shard: Shard, number: int, parts: list[bytes], rng: random.Random) -> Shard:
    """The shard once all of it, or what changed, is stored; perhaps as it was loaded again."""
    if parts and rng.random() < 0.7:
        parts.append(pickle.dumps(shard.changes()))
    else:
        parts[:] = [pickle.dumps(shard.dump())]
    if rng.random() < 0.5:
        return shard
    return Shard.load(PLAN, number, len(PARTITIONS), [pickle.loads(part) for part in parts])


def _collect(output: ShardOutput, rows: Rows, reads: Seen, homes: dict[bytes, set[int]]) -> None:
    for name, new in output.rows.items():
        stamps = new.rows.stamps_us.tolist()
        assert stamps == sorted(stamps)
        for slot, stamp, values in zip(new.rows.slots, stamps, new.rows.values, strict=True):
            found = _plain(values)
            for i, aggregate in enumerate(PLAN.view(name).aggregates):
                if aggregate.dtype == "string" and found[i] is not None:
                    found[i] = new.texts[int(found[i])]
            rows.append((name, new.keys[slot], stamp, found))
            homes.setdefault(new.keys[slot], set()).add(output.shard)
    for name, seen in output.reads.items():
        for rank, values in zip(seen.ranks.tolist(), seen.values, strict=True):
            assert (name, rank) not in reads
            reads[name, rank] = _plain(values)


def _plain(values: Any) -> list[Any]:
    return [None if value != value else float(value) for value in values]


def _expected(parts: list[list[Row]]) -> tuple[dict[str, Any], Seen]:
    """View -> {(key parts, stamp): values}, and the reads, from the oracle."""
    everything = [row for part in parts for row in part]
    newest_us = max(row.event_us for row in everything)
    rows: dict[str, Any] = {}
    reads: Seen = {}
    for view in PLAN.views:
        events: dict[tuple[Any, ...], list[Event]] = {}
        for row in everything:
            key = tuple(getattr(row, name) for name in view.join_keys)
            if PARTITIONS[row.partition] == view.topic and None not in key:
                order = row.partition * 1_000_000 + row.offset
                event = Event(row.event_us, row.effective_us, order, {"x": row.x, "user": row.user})
                events.setdefault(key, []).append(event)
        found: dict[Any, Any] = {}
        for key, own in events.items():
            # When all is silent, decay stands at the newest event, and updates of it count.
            end_us = newest_us + any(event.effective_us == newest_us for event in own)
            found.update({(key, stamp): v for stamp, v in Entity(view, own).rows(end_us)})
        rows[view.name] = found
        for row in everything if view in _VIEWS else []:
            key = tuple(getattr(row, name) for name in view.join_keys)
            if PARTITIONS[row.partition] == "b" and None not in key:
                rank = int(ranks_of(row.partition, np.array([row.offset]))[0])
                entity = Entity(view, events.get(key, []))
                reads[view.name, rank] = entity.read(row.effective_us)
    return rows, reads


@settings(max_examples=40)
@given(st.lists(_RECORDS, min_size=1, max_size=60), st.integers(0, 2**32))
def test_only_the_records_count(records: list[Any], seed: int) -> None:
    """Any shards, interleaving, cuts and reloads give the rows and reads of the oracle."""
    parts = _rows_of(records)
    wanted_rows, wanted_reads = _expected(parts)
    for shards in (1, 4, 16):
        rows, reads, homes = _run(parts, shards, seed + shards)
        found: dict[str, Any] = {view.name: {} for view in PLAN.views}
        for name, key, stamp, values in rows:
            place = tuple(decode_entity_key(key)[part] for part in PLAN.view(name).join_keys), stamp
            assert place not in found[name]
            found[name][place] = values
        assert found == wanted_rows
        assert reads == wanted_reads
        assert all(len(home) == 1 for home in homes.values())


def test_what_comes_after_silence_takes_effect_after_it() -> None:
    """Once all was silent, ties of the last moment and older rows come later, one row a stamp."""
    rows = [Row(0, i, 50, 50, "u", 1, 1.0) for i in range(5)]
    late = Row(0, 5, 46, 50, "u", 1, 1.0)
    shard = Shard(PLAN, 0, len(PARTITIONS))
    router = ShardRouter(PLAN, 1)
    found: Rows = []
    for batches in (
        [_batch(0, rows[:2], 50, 1), *(_batch(i, [], NOT_YET, 1) for i in range(1, 5))],
        [_batch(0, rows[2:4], 50, 1)],
        [_batch(0, [rows[4], late], 50, 1)],
    ):
        output = shard.on_batch([router.route(batch)[0][1] for batch in batches])
        assert output is not None
        _collect(output, found, {}, {})
    counts = [(stamp, values[0]) for name, _, stamp, values in found if name == "a_user"]
    assert [count for _, count in counts] == [2.0, 4.0, 6.0]
    stamps = [stamp for stamp, _ in counts]
    assert stamps[0] == 51
    assert stamps == sorted(set(stamps))


def test_what_wakes_late_takes_effect_at_the_watermark() -> None:
    """A partition taken for idle that brings an older event changes nothing in the past."""
    shard = Shard(PLAN, 0, len(PARTITIONS))
    router = ShardRouter(PLAN, 1)
    idle = [_batch(i, [], NOT_YET, 1) for i in range(1, 5)]
    first = [_batch(0, [Row(0, 0, 50, 50, "u", None, 1.0)], 60), *idle]
    assert shard.on_batch([router.route(batch)[0][1] for batch in first]) is not None
    woken = [_batch(1, [Row(1, 0, 52, 52, "v", None, 1.0)], 52), _batch(1, [], 52, 1)]
    output = shard.on_batch([router.route(batch)[0][1] for batch in [*woken, _batch(0, [], 63)]])
    assert output is not None
    assert output.rows["a_user"].rows.stamps_us.tolist()[0] == 61
    assert output.late == {"a_user": 1}


def test_late_rows_are_counted_by_view() -> None:
    """Updates whose effective time is not their event time are counted for their view."""
    rows = [Row(0, 0, 50, 50, "u", 1, 1.0), Row(0, 1, 40, 50, "u", None, 1.0)]
    shard = Shard(PLAN, 0, len(PARTITIONS))
    idle = [_batch(i, [], NOT_YET, 1) for i in range(1, 5)]
    items = [ShardRouter(PLAN, 1).route(b)[0][1] for b in [_batch(0, rows, 50), *idle]]
    output = shard.on_batch(items)
    assert output is not None
    assert output.late == {"a_user": 1, "a_both": 0, "a_words": 0}


def test_late_rows_of_the_time_before_the_first_watermark_are_counted_too() -> None:
    """What came late while nothing could run yet is told with the first output, and once."""
    rows = [Row(0, 0, 50, 50, "u", 1, 1.0), Row(0, 1, 40, 50, "u", None, 1.0)]
    shard = Shard(PLAN, 0, len(PARTITIONS))
    (first,) = ShardRouter(PLAN, 1).route(_batch(0, rows, 50))
    assert shard.on_batch([first[1]]) is None
    idle = [_batch(i, [], NOT_YET, 1) for i in range(1, 5)]
    output = shard.on_batch([ShardRouter(PLAN, 1).route(b)[0][1] for b in idle])
    assert output is not None
    assert output.late == {"a_user": 1, "a_both": 0, "a_words": 0}
    again = shard.on_batch([ShardRouter(PLAN, 1).route(_batch(0, [], 60))[0][1]])
    assert again is not None
    assert again.late == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_known_again_whoever_brings_them(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers number keys as they come, and start anew when they are many: the entity is one."""
    rng = random.Random(5)
    batches = [
        [Row(0, 10 * n + i, n, n, f"u{rng.randrange(300)}", None, 1.0) for i in range(10)]
        for n in range(100)
    ]
    wanted = _rows_by_name(batches, [ShardRouter(PLAN, 1)], rng)
    monkeypatch.setattr(routing, "KEY_CACHE_ENTRIES_MAX", 20)
    found = _rows_by_name(batches, [ShardRouter(PLAN, 1) for _ in range(workers)], rng)
    assert len({key for _, key, _, _ in wanted}) > 200
    assert found == wanted


def _rows_by_name(batches: list[list[Row]], routers: list[ShardRouter], rng: random.Random) -> Rows:
    """All rows of partition 0, each batch routed by any of the routers, all else being idle."""
    shard = Shard(PLAN, 0, len(PARTITIONS))
    shard.on_batch([routers[0].route(_batch(i, [], NOT_YET, 1))[0][1] for i in range(1, 5)])
    found: Rows = []
    for rows in [*batches, []]:
        newest_us = rows[-1].event_us if rows else 200
        output = shard.on_batch([rng.choice(routers).route(_batch(0, rows, newest_us))[0][1]])
        if output is not None:
            _collect(output, found, {}, {})
    return sorted(found, key=lambda row: row[:3])


@pytest.mark.parametrize("shards", [1, 4])
def test_nothing_new_gives_nothing(shards: int) -> None:
    """A batch that brings neither rows nor time gives no output."""
    shard = Shard(PLAN, 0, len(PARTITIONS))
    router = ShardRouter(PLAN, shards)
    item = router.route(_batch(0, [], 50))[0][1]
    assert shard.on_batch([item]) is None
    first = [router.route(_batch(i, [], 50))[0][1] for i in range(5)]
    assert shard.on_batch(first) is not None
    assert shard.on_batch(first) is None
