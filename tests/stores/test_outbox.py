"""Rows that wait to be written: the last one of each entity, whatever came in between."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.batches import ViewRows
from dataflows.stores.outbox import Outbox
from dataflows.windows.view_state import Rows

# A shard that made a new list of its entities has them at other places.
KEYS = [
    [[f"{shard}.{slot}".encode() for slot in order] for shard in range(2)]
    for order in ([0, 1, 2, 3, 4], [3, 4, 0, 1])
]
TEXTS = ["a", "b"]
# What of the rows is text: unknown, or nothing, in which case shards are drained together.
TEXT_COLUMNS = {"clicks": None, "orders": ()}
# Rows of one shard's view: (shard, view, slots).
PART = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["clicks", "orders"]),
    st.lists(st.integers(0, 3), max_size=6),
)


@given(st.lists(st.one_of(PART, st.sampled_from(["compact", "renew", "drain"])), max_size=20))
def test_the_last_row_of_each_entity(steps: list[tuple[int, str, list[int]] | str]) -> None:
    """What is drained is what a dictionary that is overwritten row by row would hold."""
    outbox = Outbox()
    wanted: dict[tuple[str, bytes], tuple[int, float]] = {}
    stamp = renewed = 0
    for step in [*steps, "drain"]:
        if step == "compact":
            outbox.compact()
            assert len(wanted) <= outbox.rows <= (1 + renewed) * len(wanted)
        elif step == "renew":
            renewed = 1
        elif step == "drain":
            drained = list(outbox.drain())
            assert all(len(set(last.keys)) == len(last.keys) for last in drained)
            found = {
                # Of two lists the later one's row counts, as it does in a store.
                (last.view, key): (int(last.stamps_us[i]), float(last.values[i, 0]))
                for last in drained
                if last.texts is TEXTS
                for i, key in enumerate(last.keys)
            }
            assert found == wanted
            assert outbox.rows == 0
            wanted = {}
        else:
            assert isinstance(step, tuple)
            shard, view, slots = step
            stamps = np.arange(stamp, stamp + len(slots))
            stamp += len(slots)
            rows = Rows(np.array(slots, np.int64), stamps, stamps[:, None] / 2)
            keys = KEYS[renewed][shard]
            outbox.add(shard, view, ViewRows(keys, rows, TEXTS, TEXT_COLUMNS[view]))
            assert outbox.rows >= len(wanted)
            for slot, at in zip(slots, stamps.tolist(), strict=True):
                wanted[view, keys[slot]] = (at, at / 2)


def test_shards_without_texts_are_drained_together() -> None:
    """A few rows of each of many shards make one write, unless places of texts mean others there.

    A later list of a shard's entities makes a write of its own: they would come twice.
    """
    outbox = Outbox()
    stamps = np.array([7])
    rows = Rows(np.array([1]), stamps, stamps[:, None] / 2)
    for keys in KEYS:
        for shard in range(2):
            for view, columns in TEXT_COLUMNS.items():
                outbox.add(shard, view, ViewRows(keys[shard], rows, TEXTS, columns))
    drained = [(last.view, last.keys) for last in outbox.drain()]
    assert [keys for view, keys in drained if view == "orders"] == [
        [b"0.1", b"1.1"],
        [b"0.4", b"1.4"],
    ]
    assert [len(keys) for view, keys in drained if view == "clicks"] == [1, 1, 1, 1]
