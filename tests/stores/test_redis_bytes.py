"""What we write to Redis is, byte for byte, what Feast's own SDK writes."""

from __future__ import annotations

import math
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.feast_bytes import decode_value
from contracts.feast_redis import redis_field, redis_key
from contracts.feature_schema import ValueType
from contracts.online_store import RedisConfig
from contracts.plan import View
from dataflows.stores.redis_commands import RowLayout
from dataflows.stores.redis_writer import RedisOnlineWriter
from tests.services.outside import OutsideRedis
from tests.services.redis import RedisServer
from tests.stores.redis_shop import (
    KeyValues,
    client_of,
    config_for,
    contents,
    feast_writes,
    keys_of,
    make_view,
    numbered_rows,
    shown_rows,
)

pytestmark = pytest.mark.services
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8)
INT64 = st.integers(-(2**63), 2**63 - 1)
CELLS: dict[str, st.SearchStrategy[float]] = {
    "float64": st.floats(),
    "int64": st.one_of(
        st.integers(-(2**53), 2**53).map(float),
        st.sampled_from([-(2.0**63), 2.0**63 - 1024, math.nan, 0.0, -1.0, 127.0, 128.0]),
    ),
    "bool": st.sampled_from([0.0, 1.0, math.nan]),
    # Places in the texts of the table.
    "string": st.sampled_from([0.0, 1.0, 2.0, math.nan]),
}
# What Feast's data frames hold: from year 1 on.
STAMP = st.one_of(
    st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    st.integers(1, 2 * 10**15),
)
LONG_TEXTS = ["\0", "\u6771\u4eac" * 500_000, "x" * 127]
Table = tuple[View, list[KeyValues], list[int], list[list[float]], list[str]]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A view of any key and features, and some rows of distinct entities."""
    dtypes: list[ValueType] = draw(
        st.lists(st.sampled_from(["float64", "int64", "bool", "string"]), min_size=1, max_size=12)
    )
    types: list[ValueType] = draw(
        st.lists(st.sampled_from(["string", "int64"]), min_size=1, max_size=3)
    )
    names = draw(st.lists(NAME, min_size=len(types), max_size=len(types), unique=True))
    key = st.tuples(*(TEXT if kind == "string" else INT64 for kind in types))
    keys = draw(st.lists(key, min_size=1, max_size=5, unique=True))
    stamps = draw(st.lists(STAMP, min_size=len(keys), max_size=len(keys)))
    rows = [[draw(CELLS[dtype]) for dtype in dtypes] for _ in keys]
    texts = draw(st.lists(st.text(st.characters(codec="utf-8")), min_size=3, max_size=3))
    return make_view(draw(NAME), dtypes, tuple(names), tuple(types)), keys, stamps, rows, texts


@given(tables(), st.sampled_from([None, 3600]))
@example((make_view("v", ["float64"]), [("", -1)], [0], [[math.nan]], []), None)
@example((make_view("v", ["string"]), [("", -1)], [0], [[0.0]], [""]), None)
@example(
    (make_view("v", ["string"] * 2), [("", 1), ("", 2)], [0, 1], [[1, 0], [0, 2]], LONG_TEXTS), None
)
@settings(max_examples=150)
def test_bytes_equal_feasts(
    redis_server: RedisServer | OutsideRedis, table: Table, ttl: int | None
) -> None:
    """Keys, fields, values, event times and expiry of any rows are those of Feast's SDK."""
    view, keys, stamps, rows, texts = table
    config = config_for(redis_server.address, key_ttl_seconds=ttl)
    project = f"test_{uuid.uuid4().hex}"
    with client_of(config) as client:
        writer = RedisOnlineWriter(config, project, 5)
        staged = (keys_of(view, keys), np.array(stamps), np.array(rows))
        assert writer.write(view, *staged, texts) == len(rows)
        writer.commit()
        writer.close()
        ours = contents(client, project)
        lives = [client.ttl(key) for key in ours]
        for key in ours:
            client.delete(key)
        named = shown_rows(view, rows, texts)
        feast_writes(redis_server.address, project, view, keys, stamps, named, key_ttl_seconds=ttl)
        assert contents(client, project) == ours
        assert len(ours) == len(keys)
        assert all(3590 < life <= 3600 if ttl else life == -1 for life in lives)
        for key in ours:
            client.delete(key)


@given(tables(), st.sampled_from([None, 7]))
def test_bulk_and_single_commands_are_the_same(table: Table, ttl: int | None) -> None:
    """What goes to a cluster command by command is what goes to a server in one buffer."""
    view, keys, stamps, rows, texts = table
    layout = RowLayout("p\u00e4", view, ttl)
    data = (keys_of(view, keys), np.array(stamps), *layout.stage(np.array(rows), texts))
    expected = b""
    commands = list(layout.commands(*data))
    for command in commands:
        words = [p if isinstance(p, bytes) else str(p).encode() for p in command]
        expected += b"*%d\r\n" % len(words)
        expected += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    assert bytes(layout.encode(*data)) == expected
    assert len(commands) == layout.replies_per_row * len(keys)


def test_thousands_of_rows_arrive_and_the_later_one_stays(
    redis_server: RedisServer | OutsideRedis, redis_project: str
) -> None:
    """All rows of several views and chunks are there after one commit, each entity's last."""
    config = config_for(redis_server.address)
    one, other = make_view("one"), make_view("other", ["float64"])
    writer = RedisOnlineWriter(config, redis_project, 5)
    keys, stamps, values = numbered_rows(one, 5001)
    writer.write(one, keys, stamps, values + 1)
    writer.write(other, keys[:3000], stamps[:3000], values[:3000, :1])
    writer.write(one, keys, stamps, values)
    writer.write(one, [], np.zeros(0, np.int64), np.zeros((0, 3)))
    writer.commit()
    writer.commit()
    writer.close()
    with client_of(config) as client:
        found = contents(client, redis_project)
        assert len(found) == 5001
        assert sorted({len(row) for row in found.values()}) == [4, 6]
        single = f"{redis_project}_single"
        writer = RedisOnlineWriter(config, single, 5)
        for place in (0, 1999, 2000, 5000):
            part = slice(place, place + 1)
            writer.write(one, keys[part], stamps[part], values[part])
            if place < 3000:
                writer.write(other, keys[part], stamps[part], values[part, :1])
        writer.commit()
        writer.close()
        for key, row in contents(client, single).items():
            assert found[key.removesuffix(b"_single")] == row
        client.delete(*found, *contents(client, single))


def test_long_texts_go_in_bounded_chunks(
    redis_server: RedisServer | OutsideRedis, redis_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much text rows have, what is sent at once is bounded, and all of it arrives."""
    sizes: list[int] = []
    encode = RowLayout.encode

    def note(self: RowLayout, *data: Any) -> memoryview:
        sizes.append(len(encoded := encode(self, *data)))
        return encoded

    monkeypatch.setattr(RowLayout, "encode", note)
    view = make_view("texts", ["string", "float64"])
    texts = ["unused", "short", "x" * 1_000_000, "unused too", "y" * 5_000_000]
    codes = np.array([1, 2, 2, 2, 2, 2, 4, 1, math.nan, 2, 2])
    keys, stamps, _ = numbered_rows(view, len(codes))
    config = config_for(redis_server.address)
    writer = RedisOnlineWriter(config, redis_project, 5)
    values = np.stack((codes, codes), axis=1)
    writer.write(view, keys, stamps, values, texts)
    np.testing.assert_array_equal(values[:, 0], codes)  # the caller's own
    values[:] = 0.0
    texts.clear()
    writer.commit()
    writer.close()
    assert len(sizes) == 4
    assert max(sizes) < 5_100_000
    with client_of(config) as client:
        for key, code in zip(keys, codes.tolist(), strict=True):
            cell = client.hget(redis_key(redis_project, key), redis_field("texts", "f0"))
            length = 0 if math.isnan(code) else {1: 5, 2: 1_000_000, 4: 5_000_000}[int(code)]
            assert len(decode_value(cell or b"") or "") == length  # type: ignore[arg-type]
        client.delete(*contents(client, redis_project))


def test_what_does_not_fit_is_refused_before_anything_is_sent(redis_project: str) -> None:
    """Wrong shapes, numbers beyond 64 bits and codes without a text raise ValueError."""
    config = RedisConfig((("localhost", 1),), is_cluster=False)
    writer = RedisOnlineWriter(config, redis_project, 1)
    view = make_view("rides", ["int64"])
    keys, stamps = keys_of(view, [("a", 1)]), np.array([1])
    with pytest.raises(ValueError, match="'rides': 1 keys"):
        writer.write(view, keys, stamps, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="'rides': 1 keys"):
        writer.write(view, keys, np.zeros(2, np.int64), np.zeros((1, 1)))
    for value in (2.0**63, -math.inf):
        with pytest.raises(ValueError, match="'f0' does not fit 64 bits"):
            writer.write(view, keys, stamps, np.array([[value]]))
    with pytest.raises(ValueError, match="1 is no place in a list of 1 strings"):
        writer.write(make_view("texts", ["string"]), keys, stamps, np.array([[1.0]]), ["a"])
    writer.commit()  # nothing staged: nobody is asked
    writer.close()
