"""Crumbs of several partitions decoded and routed together, beside each by itself."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.log import Chunk
from contracts.plan import Column, Topic
from dataflows import crumbs
from dataflows.batches import KeyedRows, ShardInput, SourceBatch
from dataflows.crumbs import decode_together, together
from dataflows.routing import ShardRouter
from dataflows.sources import decoding
from dataflows.sources.columns import Decoded
from dataflows.sources.decoding import make_decoder
from dataflows.watermark import PartitionClock
from tests.sources.chunks import chunk_of
from tests.test_shard import _RECORDS, PLAN, Row, _batch, _batches, _rows_of

_TOPIC = Topic(
    "t",
    (
        Column("at", "timestamp", False),
        Column("user", "string", True),
        Column("items", "int64", True),
        Column("amount", "float64", True),
    ),
    "at",
    0,
    "at",
)
_LINES = st.one_of(
    st.sampled_from(
        [b"", b"{", b'{"at":"yesterday"}', b'{"at":"2013-01-31T00:00:00Z","items":9e99}', b"\n{}"]
    ),
    st.builds(
        b'{"at":"2013-01-31T00:00:%02dZ","items":%d,"user":"u%d",\n"amount":0.5}'.__mod__,
        st.tuples(st.integers(0, 59), st.integers(-3, 3), st.integers(0, 3)),
    ),
    st.just(b'{"at":"2013-01-31T00:00:00Z"}'),
)


@given(st.lists(st.lists(_LINES, max_size=5), min_size=1, max_size=4))
def test_decoded_together_is_decoded_each(partitions: list[list[bytes]]) -> None:
    """Good and bad records of each chunk are the same, whatever else is decoded with it."""
    chunks = [chunk_of(records) for records in partitions]
    wanted = [_plain_of(make_decoder(_TOPIC).decode(chunk)) for chunk in chunks]
    # Much and little are read in two ways.
    for much_bytes_min in (0, 2**30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "_PLAIN_BYTES_MIN", much_bytes_min)
            found = decode_together(make_decoder(_TOPIC), chunks)
        assert [_plain_of(one) for one in found] == wanted


def _plain_of(decoded: Decoded) -> list[Any]:
    columns = {name: [repr(value) for value in list(c)] for name, c in decoded.columns.items()}
    return [decoded.index.tolist(), decoded.event_us.tolist(), decoded.bad, columns]


@given(st.lists(_RECORDS, max_size=60), st.integers(0, 2**32))
def test_routed_together_is_routed_one_by_one(records: list[Any], seed: int) -> None:
    """Each shard hears the same clocks and gets the same rows, in the same order."""
    rng = random.Random(seed)
    batches = list(_batches(_rows_of(records), rng))
    one, other = ShardRouter(PLAN, 3), ShardRouter(PLAN, 3)
    while batches:
        size = rng.randint(1, 6)
        some, batches = batches[:size], batches[size:]
        found = [item for given in together(some) for _, item in one.route(*given)]
        wanted = [item for batch in some for _, item in other.route(batch)]
        for shard in range(3):
            assert _heard(found, shard) == _heard(wanted, shard)


def _heard(items: list[ShardInput], shard: int) -> tuple[list[PartitionClock], dict[str, Any]]:
    """Clocks, and rows by view, that a shard is given."""
    mine = [item for item in items if item.shard == shard]
    rows: dict[str, list[Any]] = {}
    for item in mine:
        for kind, views in (("updates", item.updates), ("reads", item.reads)):
            for name, some in views.items():
                rows.setdefault(f"{kind} {name}", []).extend(_plain(some))
    return [clock for item in mine for clock in (*item.before, item.clock)], rows


def _plain(rows: KeyedRows) -> list[Any]:
    keys = [rows.keys.keys[code] for code in rows.codes.tolist()]
    values = []
    for line in rows.values:
        texts = rows.text_columns or ()
        values.append(
            [
                rows.texts.texts[int(v)] if i in texts and v == v else repr(v)
                for i, v in enumerate(line.tolist())
            ]
        )
    times = (rows.effective_us, rows.ranks, rows.event_us)
    return list(zip(keys, *(column.tolist() for column in times), values, strict=True))


def _crumb(partition: int, count: int) -> SourceBatch:
    return _batch(partition, [Row(partition, i, i, i, "u0", 1, 1.0) for i in range(count)], count)


@pytest.mark.parametrize(
    ("sizes", "rows_max", "parts"),
    [
        pytest.param([2, 0, 3], 5, [5], id="few rows"),
        pytest.param([2, 6, 3], 5, [2, 6, 3], id="many rows between"),
        pytest.param([0, 0, 0], 5, [0], id="no rows"),
    ],
)
def test_small_neighbours_of_a_topic_become_one(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], rows_max: int, parts: list[int]
) -> None:
    """Only small batches are copied; those of another topic stay apart."""
    monkeypatch.setattr(crumbs, "_ROWS_MAX", rows_max)
    batches = [_crumb(partition, count) for partition, count in enumerate(sizes)]
    found = list(together([*batches, _crumb(3, 1)]))
    assert [len(batch.ranks) for batch, _ in found] == [*parts, 1]
    assert found[-1][0].topic == "b"


def test_no_records_are_decoded_to_nothing() -> None:
    """A chunk without records takes none of its neighbours'."""
    nothing = Chunk(b"", np.empty(0, np.int64), np.empty(0, np.int64), 7)
    record = b'{"at":"2013-01-31T00:00:00Z"}'
    found = decode_together(make_decoder(_TOPIC), [nothing, chunk_of([record, b"{"]), nothing])
    assert [(len(one.index), len(one.bad)) for one in found] == [(0, 0), (1, 1), (0, 0)]
