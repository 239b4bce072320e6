"""Entity keys of a batch and the shards they belong to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feast_bytes import decode_entity_key, entity_key
from contracts.feature_schema import FeatureSchema, ValueType
from contracts.plan import Aggregate, Column, ModelPlan, Plan, Topic, View
from dataflows import routing
from dataflows.batches import KeyedRows, SourceBatch, ranks_of
from dataflows.hashing import hash_texts
from dataflows.routing import KeyEncoder, ModelRouter, ShardRouter
from dataflows.watermark import PartitionClock
from tests.windows.stream import feature

_USERS = st.one_of(st.none(), st.text(max_size=3))
_SHOPS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 3))


@given(st.lists(st.lists(st.tuples(_USERS, _SHOPS), max_size=20), max_size=3), st.integers(1, 64))
def test_keys_are_those_of_feast(batches: list[list[tuple[Any, Any]]], shards: int) -> None:
    """Every whole key has Feast's bytes and the shard of their hash; one with a null has none."""
    names = ("user", "shop")
    types: tuple[ValueType, ...] = ("string", "int64")
    for chosen in ([0], [1], [0, 1]):
        own: tuple[str, ...] = tuple(names[i] for i in chosen)
        kinds: tuple[ValueType, ...] = tuple(types[i] for i in chosen)
        encoder = KeyEncoder(own, kinds, shards)
        for rows in batches:
            columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
            found = encoder.encode(columns, np.arange(len(rows)))
            homes, codes = (array.tolist() for array in found)
            for row, shard, code in zip(rows, homes, codes, strict=True):
                parts = tuple(row[i] for i in chosen)
                if None in parts:
                    assert shard == -1
                else:
                    key = encoder.keys[shard].keys[code]
                    assert shard == crc32(key) % shards
                    assert key == entity_key(own, kinds, parts)
                    assert decode_entity_key(key) == dict(zip(own, parts, strict=True))


def test_the_cache_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has seen more keys than it may remember forgets them and goes on."""
    monkeypatch.setattr(routing, "KEY_CACHE_ENTRIES_MAX", 10)
    encoder = KeyEncoder(("user",), ("string",), 4)
    for begin in range(0, 100, 5):
        names = [f"u{i}" for i in range(begin, begin + 5)]
        homes, codes = encoder.encode({"user": names}, np.arange(len(names)))
        assert [
            encoder.keys[shard].keys[code] for shard, code in zip(homes, codes, strict=True)
        ] == [entity_key(("user",), ("string",), (name,)) for name in names]
        assert len(encoder._known) <= 15


def test_a_missing_key_stays_missing_as_keys_come() -> None:
    """However many keys were met, a row without one belongs to no shard."""
    encoder = KeyEncoder(("user",), ("string",), 4)
    for count in range(300):
        homes, _ = encoder.encode({"user": [None, f"u{count}", None]}, np.arange(3))
        assert (homes >= 0).tolist() == [False, True, False]


def _plan() -> Plan:
    text = (Column("id", "string", False), Column("user", "string", True))
    number = (Column("id", "string", False), Column("user", "int64", True))
    x = Column("x", "float64", True)
    topics = (Topic("a", (*text, x), "at", 0, "id"), Topic("b", (*number, x), "at", 0, "id"))
    last = (feature("last", "last"),)
    views = (
        View("by_name", "a", ("user",), ("string",), last, 0, ""),
        View("by_number", "b", ("user",), ("int64",), last, 0, ""),
    )
    schema = FeatureSchema("p", ())
    model = ModelPlan("m", "a", "id", "b", "id", "x > 1", 1, 1, ("by_name",), schema)
    return Plan("p", topics, views, (model,))


def _batch(topic: str, users: list[Any]) -> SourceBatch:
    count = len(users)
    times = np.arange(count, dtype=np.int64)
    columns = {"id": [f"i{i}" for i in range(count)], "user": users, "x": times * 1.0}
    clock = PartitionClock(0, 0, 0, False)
    return SourceBatch(topic, clock, ranks_of(0, times * 10), times, times, columns)


def test_every_shard_hears_the_clock() -> None:
    """A batch goes to all shards, if only to tell the time."""
    routed = ShardRouter(_plan(), 5).route(_batch("a", ["u1"]))
    assert [int(key) for key, _ in routed] == [item.shard for _, item in routed] == list(range(5))
    assert all(item.clock == PartitionClock(0, 0, 0, False) for _, item in routed)
    assert sum(bool(item.updates) for _, item in routed) == 1


@pytest.mark.parametrize("users", [[None, None], []])
def test_rows_without_a_key_go_nowhere(users: list[None]) -> None:
    """A batch in which nobody has a key brings no updates and no reads."""
    for _, item in ShardRouter(_plan(), 3).route(_batch("a", users)):
        assert (item.updates, item.reads) == ({}, {})


def test_one_name_may_have_two_types() -> None:
    """A key column that is text in one topic and a number in another is encoded as each."""
    router = ShardRouter(_plan(), 1)
    for topic, name, user in (("a", "by_name", "7"), ("b", "by_number", 7)):
        ((_, item),) = router.route(_batch(topic, [user]))
        assert decode_entity_key(_key_of(item.updates[name])) == {"user": user}


def _key_of(rows: KeyedRows) -> bytes:
    assert len(rows.codes) == 1
    return rows.keys.keys[int(rows.codes[0])]


def test_a_model_gets_its_spine_and_its_labels() -> None:
    """Spine rows know how many views will answer them, labels are worked out, the rest is time."""
    router = ModelRouter(_plan(), _plan().models[0])
    name, spine = router.route(_batch("a", ["u1", None]))
    assert name == "m"
    assert spine.is_spine
    assert spine.spine is not None
    assert spine.spine.keys == ["i0", "i1"]
    assert spine.spine.reads.tolist() == [1, 0]
    assert spine.labels is None
    _, labels = router.route(_batch("b", [1, 2, 3]))
    assert not labels.is_spine
    assert labels.spine is None
    assert labels.labels is not None
    assert labels.labels.values.tolist() == [0.0, 0.0, 1.0]


_SHOP = (
    Column("id", "string", False),
    Column("user", "string", True),
    Column("x", "float64", True),
)
_NAMES = st.one_of(st.none(), st.sampled_from(["u1", "u2", "u3", "\u00fc"]))
_LINES = st.lists(st.tuples(_NAMES, _NAMES, st.one_of(st.none(), st.floats(-9, 9))), max_size=15)


def _derived_plan() -> Plan:
    """Views of one topic and kind of entity; a function makes the columns of two of them."""
    last = (feature("last", "last"),)
    name = Aggregate("name", "string", "user", "last", 0, 0, "string")
    distinct = Aggregate("many", "int64", "user", "count_distinct", 0, 0, "string")
    texts = (name, distinct, *last)
    user: tuple[tuple[str, ...], tuple[ValueType, ...]] = (("user",), ("string",))
    views = (
        View("made", "a", *user, last, 0, "", transform="python"),
        View("made_text", "a", *user, texts, 0, "", transform="pandas"),
        View("plain", "a", *user, last, 0, ""),
        View("text", "a", *user, texts, 0, ""),
    )
    schema = FeatureSchema("p", ())
    names = tuple(view.name for view in views)
    model = ModelPlan("m", "a", "id", "a", "id", "x > 1", 1, 1, names, schema)
    return Plan("p", (Topic("a", _SHOP, "at", 0, "id"),), views, (model,))


def _columns(users: list[str | None], x: list[float | None]) -> dict[str, Any]:
    return {"user": users, "x": np.array(x, np.float64)}


@given(st.lists(_LINES, max_size=3), st.integers(1, 5))
def test_rows_go_by_the_columns_of_their_view(
    batches: list[list[tuple[str | None, str | None, float | None]]], shards: int
) -> None:
    """A function's columns give a view's keys and values; what is read is told by the topic's."""
    router = ShardRouter(_derived_plan(), shards)
    for number, lines in enumerate(batches):
        users = [line[0] for line in lines]
        others = [line[1] for line in lines]
        x = [line[2] for line in lines]
        negative = [None if value is None else -value for value in x]
        batch = replace(
            _batch("a", users),
            columns=_columns(users, x),
            derived={
                "made": _columns(others, negative),
                "made_text": _columns(users, negative),
            },
        )
        routed = [item for _, item in router.route(batch)]
        for view, names, values in (
            ("plain", users, x), ("text", users, x), ("made", others, negative),
            ("made_text", users, negative),
        ):  # fmt: skip
            wanted = [
                (int(batch.ranks[i]), name, values[i]) for i, name in enumerate(names) if name
            ]
            found = _rows_of([item.updates[view] for item in routed if view in item.updates])
            assert found == wanted, (number, view)
            reads = [item.reads[view] for item in routed if view in item.reads]
            read = [(rank, name) for rank, name, _ in _rows_of(reads)]
            assert read == [(int(batch.ranks[i]), name) for i, name in enumerate(users) if name]
            assert all(rows.values.shape[1] == 0 for rows in reads)


def _rows_of(parts: list[KeyedRows]) -> list[tuple[int, str, float | None]]:
    """(rank, user, x) of the rows of all shards in the order of the batch."""
    rows = []
    for part in parts:
        for code, rank, values in zip(part.codes, part.ranks, part.values.tolist(), strict=True):
            user = decode_entity_key(part.keys.keys[int(code)])["user"]
            assert isinstance(user, str)
            x = None
            if values:
                x = None if np.isnan(values[-1]) else values[-1]
            if len(values) == 3:
                assert part.texts.texts[int(values[0])] == user
                assert values[1] == hash_texts([user])[0]
            rows.append((int(rank), user, x))
    return sorted(rows, key=lambda row: row[0])
