"""A view that keeps no history gives, at each advance, the last rows of one that does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import View
from dataflows.windows.view_state import Reads, Rows, ViewState
from tests.windows.stream import Item, feature, pending_of, view_of
from tests.windows.test_kernel import streams

Last = dict[bytes, tuple[int, bytes]]


def _advances(
    view: View, items: Sequence[Item], up_to_us: int, cuts: Sequence[int], reloads: set[int]
) -> list[tuple[list[bytes], Rows, Reads]]:
    """The keys, rows and reads of each advance: before each of ``cuts``, and at the end."""
    state = ViewState(view)
    found = []
    begin = 0
    for number, end in enumerate([*cuts, len(items)]):
        if items[begin:end]:
            state.hold(pending_of(state, view, items[begin:end]))
        begin = end
        # The last advances are those of a log that is over: ties of its end take effect.
        is_last = end == len(items)
        watermark_us = up_to_us if is_last else items[end].effective_us
        rows, reads = state.advance(watermark_us, watermark_us + is_last)
        found.append((state.keys, rows, reads))
        if number in reloads:
            state = ViewState.load(view, state.dump())
    return found


def _last(keys: list[bytes], rows: Rows) -> Last:
    slots, stamps = rows.slots.tolist(), rows.stamps_us.tolist()
    return {
        keys[slot]: (stamp, values.tobytes())
        for slot, stamp, values in zip(slots, stamps, rows.values, strict=True)
    }


@settings(max_examples=300)
@given(streams(), st.data())
def test_the_last_rows_are_those_of_the_whole_history(
    stream: tuple[View, list[Item], int], data: st.DataObject
) -> None:
    """Last stamps and values of every advance, and all reads, are the same to the bit."""
    view, items, up_to_us = stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))))
    reloads = data.draw(st.sets(st.integers(0, len(cuts))))
    whole = _advances(view, items, up_to_us, cuts, reloads)
    last_only = _advances(replace(view, offline_path=""), items, up_to_us, cuts, reloads)
    for (keys, rows, reads), (own_keys, own_rows, own_reads) in zip(whole, last_only, strict=True):
        assert _last(own_keys, own_rows) == _last(keys, rows)
        assert len(set(own_rows.slots.tolist())) == len(own_rows.slots)
        order = list(zip(own_rows.stamps_us.tolist(), own_rows.slots.tolist(), strict=True))
        assert order == sorted(order)
        np.testing.assert_array_equal(own_reads.ranks, reads.ranks)
        np.testing.assert_array_equal(own_reads.values, reads.values)


def test_a_long_silence_is_one_row() -> None:
    """Tiles that leave one after another make a row each, or one where only the last counts."""
    view = view_of(feature("n", "count", 30, 10))
    items = [Item(b"a", at, at, at, (1.0,)) for at in (5, 15, 25)]
    ((_, rows, _),) = _advances(view, items, 100, [], set())
    assert rows.stamps_us.tolist() == [6, 16, 26, 30, 40, 50]
    ((_, rows, _),) = _advances(replace(view, offline_path=""), items, 100, [], set())
    assert (rows.stamps_us.tolist(), rows.values.tolist()) == ([50], [[0.0]])


def test_what_was_stored_decays_though_nothing_comes() -> None:
    """A state that was stored and loaded gives the rows of tiles that leave, without any event."""
    view = view_of(feature("n", "count", 30, 10))
    state = ViewState(view)
    state.hold(pending_of(state, view, [Item(b"a", 5, 5, 0, (1.0,))]))
    state.advance(7, 7)
    state = ViewState.load(view, state.dump())
    assert state.advance(29, 29)[0].stamps_us.tolist() == []
    rows, _ = state.advance(30, 30)
    assert (rows.stamps_us.tolist(), rows.values.tolist()) == ([30], [[0.0]])


def test_what_decays_is_found_among_thousands() -> None:
    """Each entity decays when its own tile leaves, wherever it stands, also after growing."""
    view = view_of(feature("n", "count", 1_000, 10))
    state = ViewState(view)
    rng = np.random.default_rng(7)
    times = np.sort(rng.integers(0, 5_000, 3_000))
    items = [Item(b"%d" % i, int(t), int(t), i, (1.0,)) for i, t in enumerate(times.tolist())]
    found: dict[bytes, list[int]] = {}
    for begin in range(0, len(items), 100):
        part = items[begin : begin + 100]
        state.hold(pending_of(state, view, part))
        rows, _ = state.advance(part[-1].effective_us, part[-1].effective_us)
        for slot, stamp in zip(rows.slots.tolist(), rows.stamps_us.tolist(), strict=True):
            found.setdefault(state.keys[slot], []).append(stamp)
    rows, _ = state.advance(10_000, 10_000)
    for slot, stamp in zip(rows.slots.tolist(), rows.stamps_us.tolist(), strict=True):
        found.setdefault(state.keys[slot], []).append(stamp)
    assert found == {i.key: [i.event_us + 1, i.event_us // 10 * 10 + 1_000] for i in items}
