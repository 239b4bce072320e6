"""A view that keeps no history gives, at each advance, the last rows of one that does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.windows.view_state import ViewState
from tests.windows.random_streams import Stream, handlings, streams
from tests.windows.stream import Item, Row, Runner, advances, feature, pending_of, view_of


@settings(max_examples=300)
@given(streams(), st.data())
def test_the_last_rows_are_those_of_the_whole_history(stream: Stream, data: st.DataObject) -> None:
    """Last stamps and values of every advance, and all reads, are the same to the bit."""
    how = data.draw(handlings(stream))
    # The last advance is that of a log that is over: ties of its end take effect.
    silent_at = {len(how.cuts)} | data.draw(st.sets(st.integers(0, len(how.cuts)), max_size=2))
    rest = stream.items, stream.up_to_us, how.cuts, how.stored_at, silent_at
    whole = advances(stream.view, *rest)
    last_only = advances(replace(stream.view, offline_path=""), *rest)
    for history, own in zip(whole, last_only, strict=True):
        assert _last(own.rows) == _last(history.rows)
        assert len({key for _, key, _ in own.rows}) == len(own.rows)
        assert repr(own.reads) == repr(history.reads)


def _last(rows: list[Row]) -> dict[bytes, str]:
    return {key: repr((stamp, values)) for stamp, key, values in rows}


def test_a_long_silence_is_one_row() -> None:
    """Tiles that leave one after another make a row each, or one where only the last counts."""
    view = view_of(feature("n", "count", 30, 10))
    items = [Item(b"a", at, at, at, (1.0,)) for at in (5, 15, 25)]
    (every,) = advances(view, items, 100)
    assert [stamp for stamp, _, _ in every.rows] == [6, 16, 26, 30, 40, 50]
    (last,) = advances(replace(view, offline_path=""), items, 100)
    assert last.rows == [(50, b"a", [0.0])]


def test_what_was_stored_decays_though_nothing_comes() -> None:
    """A state that was stored and loaded gives the rows of tiles that leave, without any event."""
    view = view_of(feature("n", "count", 30, 10))
    runner = Runner(view)
    runner.hold([Item(b"a", 5, 5, 0, (1.0,))])
    runner.advance(7)
    runner.store("dump, load")
    assert runner.advance(29).rows == []
    assert runner.advance(30).rows == [(30, b"a", [0.0])]


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
