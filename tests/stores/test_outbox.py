"""Rows that wait to be written: the last one of each entity, whatever came in between."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.batches import ViewRows
from dataflows.stores.outbox import Outbox
from dataflows.windows.view_state import Rows

KEYS = [[f"{shard}.{slot}".encode() for slot in range(5)] for shard in range(2)]
# Rows of one shard's view: (shard, view, slots).
PART = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["clicks", "orders"]),
    st.lists(st.integers(0, 4), max_size=6),
)


@given(st.lists(st.one_of(PART, st.sampled_from(["compact", "drain"])), max_size=20))
def test_the_last_row_of_each_entity(steps: list[tuple[int, str, list[int]] | str]) -> None:
    """What is drained is what a dictionary that is overwritten row by row would hold."""
    outbox = Outbox()
    wanted: dict[tuple[str, bytes], tuple[int, float]] = {}
    stamp = 0
    for step in [*steps, "drain"]:
        if step == "compact":
            outbox.compact()
            assert outbox.rows == len(wanted)
        elif step == "drain":
            found = {
                (last.view, key): (int(last.stamps_us[i]), float(last.values[i, 0]))
                for last in outbox.drain()
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
            outbox.add(shard, view, ViewRows(KEYS[shard], rows))
            assert outbox.rows >= len(wanted)
            for slot, at in zip(slots, stamps.tolist(), strict=True):
                wanted[view, KEYS[shard][slot]] = (at, at / 2)
