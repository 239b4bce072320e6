"""Which rows of the log are passed over, against a look at each row by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema, ValueType
from contracts.plan import Column, ModelPlan, Plan, Topic, View
from dataflows.batches import SourceBatch, ranks_of, split_ranks
from dataflows.erasure.matching import EntityMatcher, ForgottenKeys
from dataflows.erasure.tombstones import (
    Tombstone,
    TombstoneError,
    Tombstones,
    key_digest,
    no_tombstones,
)
from dataflows.routing import ModelRouter, ShardRouter
from dataflows.sources.plan_log import LogPartition
from dataflows.watermark import PartitionClock
from tests.windows.stream import feature

TYPES: dict[str, ValueType] = {"user": "string", "shop": "int64"}
USERS, SHOPS = ["u0", "u1", "u2", None], [0, -1, 2**62, None]
PARTITIONS = [LogPartition(0, "a", 0), LogPartition(1, "a", 1)]
LAST = (feature("l", "last"),)
VIEWS = (
    View("both", "a", ("user", "shop"), ("string", "int64"), LAST, 0, ""),
    View("by_shop", "a", ("shop",), ("int64",), LAST, 0, ""),
    View("by_user", "a", ("user",), ("string",), LAST, 0, ""),
)
TOPIC = Topic("a", (Column("id", "string", False),), "at", 0, "id")
PLAN = Plan(
    "p",
    (TOPIC,),
    VIEWS,
    tuple(
        ModelPlan(name, "a", "id", "", "", "", 1, 1, views, FeatureSchema("p", ()))
        for name, views in [("all", ("both", "by_shop", "by_user")), ("shops", ("by_shop",))]
    ),
)
Forgotten = tuple[tuple[str, ...], tuple[Any, ...], tuple[int, int]]


@dataclass
class FakeLog:
    """What is asked of a log here."""

    kind: str = "file"
    partitions: list[LogPartition] = field(default_factory=lambda: PARTITIONS)
    topic_ids: dict[str, str] = field(default_factory=dict)

    begins: Any = None
    ends: Any = None
    open: Any = None
    settle: Any = None
    close: Any = None


def _tombstones(who: list[Forgotten], **given: Any) -> Tombstones:
    known = no_tombstones()
    for names, values, ends in who:
        key = entity_key(names, [TYPES[name] for name in names], values)
        by_name = {"a/0": ends[0], "a/1": ends[1]}
        one = Tombstone(
            0, names, known.digest(key), given.get("log", "file"), given.get("topics", {}),
            by_name, {}, "", "",
        )  # fmt: skip
        known = known.added([one])
    return known


_WHO = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.just(("user",)), st.tuples(st.sampled_from(USERS[:3]))),
            st.tuples(st.just(("shop",)), st.tuples(st.sampled_from(SHOPS[:3]))),
            st.tuples(
                st.just(("shop", "user")),
                st.tuples(st.sampled_from(SHOPS[:3]), st.sampled_from(USERS[:3])),
            ),
        ),
        st.tuples(st.integers(0, 12), st.integers(0, 12)),
    ).map(lambda drawn: (*drawn[0], drawn[1])),
    max_size=5,
)
_ROWS = st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from(SHOPS)), max_size=12)


def _is_gone(
    who: list[Forgotten], names: tuple[str, ...], row: dict[str, Any], partition: int, offset: int
) -> bool:
    return any(
        set(own) <= set(names)
        and all(row[name] == value for name, value in zip(own, values, strict=True))
        and None not in [row[name] for name in names]
        and offset < ends[partition]
        for own, values, ends in who
    )


@given(_WHO, st.lists(st.tuples(st.integers(0, 1), _ROWS), max_size=4))
def test_rows_of_the_forgotten_are_passed_over(
    who: list[Forgotten], batches: list[tuple[int, list[tuple[Any, Any]]]]
) -> None:
    """Exactly those of the right entities before the offsets, and all views agree about reads."""
    forgotten = ForgottenKeys(_tombstones(who), FakeLog())
    shards = ShardRouter(PLAN, 3, forgotten)
    models = {model.name: ModelRouter(PLAN, model, forgotten) for model in PLAN.models}
    offset = 0
    for partition, rows in batches:
        offsets = range(offset, offset + len(rows))
        offset += len(rows)
        columns = {
            "user": [user for user, _ in rows],
            "shop": [shop for _, shop in rows],
            "x": np.ones(len(rows)),
            "id": [f"id{number}" for number in offsets],
        }
        times = np.zeros(len(rows), np.int64)
        ranks = ranks_of(partition, np.array(offsets, np.int64))
        clock = PartitionClock(partition, 0, 0, is_idle=False)
        batch = SourceBatch("a", clock, ranks, times, times, columns)
        inputs = [one for _, one in shards.route(batch)]
        by_row = [dict(zip(("user", "shop"), row, strict=True)) for row in rows]
        left: dict[str, set[int]] = {}
        for view in VIEWS:
            left[view.name] = {
                number
                for number, row in zip(offsets, by_row, strict=True)
                if None not in [row[name] for name in view.join_keys]
                and not _is_gone(who, view.join_keys, row, partition, number)
            }
            for kind in ("updates", "reads"):
                routed = [getattr(one, kind).get(view.name) for one in inputs]
                found = [split_ranks(rows.ranks)[1] for rows in routed if rows is not None]
                assert {number for part in found for number in part} == left[view.name]
        for model in PLAN.models:
            spine = models[model.name].route(batch)[1].spine
            if spine is None:
                assert not rows
                continue
            for place, number in enumerate(offsets):
                kinds = [PLAN.view(name).join_keys for name in model.views]
                gone = any(_is_gone(who, one, by_row[place], partition, number) for one in kinds)
                reads = sum(number in left[name] for name in model.views)
                assert spine.reads[place] == (~reads if gone else reads)
                assert spine.keys[place] == ("" if gone else f"id{number}")


@given(_WHO, st.lists(st.tuples(st.sampled_from(USERS[:3]), st.sampled_from(SHOPS[:3]))))
def test_state_of_the_forgotten_is_told_by_its_keys(
    who: list[Forgotten], held: list[tuple[Any, Any]]
) -> None:
    """An entity key is meant exactly when a row of that entity would be passed over."""
    tombstones = _tombstones([(names, values, (1, 1)) for names, values, _ in who])
    for names in (("user", "shop"), ("user",), ("shop",)):
        types = [TYPES[name] for name in names]
        rows = [dict(zip(("user", "shop"), one, strict=True)) for one in held]
        keys = [entity_key(names, types, [row[name] for name in names]) for row in rows]
        matcher = EntityMatcher(tombstones, names, types)
        expected = [_is_gone([(*one[:2], (1, 1)) for one in who], names, r, 0, 0) for r in rows]
        assert matcher.of_keys(keys).tolist() == expected
        exact = [one for one in who if set(one[0]) == set(names)]
        expected = [_is_gone([(*one[:2], (1, 1)) for one in exact], names, r, 0, 0) for r in rows]
        assert matcher.of_faded([key_digest(key) for key in keys]).tolist() == expected


def test_offsets_count_in_their_own_log_only() -> None:
    """Another kind of log is refused; of a topic that was made anew nothing is passed over."""
    who: list[Forgotten] = [(("user",), ("u0",), (5, 5))]
    with pytest.raises(TombstoneError, match="forget` that entity again"):
        ForgottenKeys(_tombstones(who, log="kafka"), FakeLog())
    for now, dropped in (("one", [True, False]), ("two", [False, False])):
        log = FakeLog(topic_ids={"a": now})
        marks = ForgottenKeys(_tombstones(who, topics={"a": "one"}), log).marks(
            ("user",), ("string",)
        )
        assert marks is not None
        own = np.array([marks.mark(("u0",)), marks.mark(("u1",))])
        assert marks.dropped(own, np.zeros(2, np.int64)).tolist() == dropped
