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
            found = {
                # Of two lists the later one's row counts, as it does in a store.
                (last.view, key): (int(last.stamps_us[i]), float(last.values[i, 0]))
                for last in outbox.drain()
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
            outbox.add(shard, view, ViewRows(keys, rows, TEXTS))
            assert outbox.rows >= len(wanted)
            for slot, at in zip(slots, stamps.tolist(), strict=True):
                wanted[view, keys[slot]] = (at, at / 2)
