"""Bases and changes: what is stored is what was, however it was stored, and little of it."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import View
from dataflows.windows.view_state import ViewState
from tests.windows.oracle import Value
from tests.windows.random_streams import STORING, Stream, streams
from tests.windows.stream import Advance, Item, Runner, Storing, feature, view_of

# Each of the kinds of memory that a view can have.
VIEWS = {
    "hopping": view_of(
        feature("n", "count", 600, 60), feature("s", "std", 40, 10), feature("f", "first")
    ),
    "exact": view_of(feature("n", "count", 600, 1), feature("s", "std", 40, 1), exact_tiles_max=8),
    "strings": view_of(
        feature("l", "last", 600, 60, "s", "string"), feature("f", "first", 0, 0, "s", "string")
    ),
    "distinct": view_of(
        feature("d", "count_distinct", 600, 60, "x"),
        feature("e", "count_distinct"),
        distinct_bits=4,
    ),
    "latest": view_of(feature("s", "latest", column="s", column_type="string")),
}


@dataclass(frozen=True)
class Epoch:
    """What comes in, up to where time moves, and what is stored then."""

    items: Sequence[Item]
    watermark_us: int
    what: Storing


def _run(runner: Runner, epochs: Sequence[Epoch]) -> tuple[list[Advance], list[tuple[bytes, ...]]]:
    """What the epochs give, and all that was stored by the end of each."""
    found, stored = [], []
    for epoch in epochs:
        runner.hold(epoch.items)
        found.append(runner.advance(epoch.watermark_us))
        runner.store(epoch.what)
        stored.append(runner.stored)
    return found, stored


def _epochs(stream: Stream, cuts: list[int], what: list[Storing]) -> list[Epoch]:
    """The stream in epochs; half of what an epoch brings is still held at its end."""
    times = [item.effective_us for item in stream.items]
    found = []
    for i, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(times)], strict=True)):
        # Rows that come are from the last watermark on.
        watermark_us = times[(begin + end) // 2] if end < len(times) else stream.up_to_us
        found.append(Epoch(stream.items[begin:end], watermark_us, what[i % len(what)]))
    return found


@settings(max_examples=250)
@given(streams(), st.data())
def test_a_run_can_go_on_from_wherever_it_was_stored(stream: Stream, data: st.DataObject) -> None:
    """After a kill, what was stored at any epoch gives what the run gave after that epoch."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream.items)), max_size=6)))
    what = data.draw(st.lists(st.sampled_from(STORING), min_size=1, max_size=5))
    epochs = _epochs(stream, cuts, what)
    found, stored = _run(Runner(stream.view), epochs)
    resumed_at = data.draw(st.integers(0, len(epochs) - 1))
    resumed = Runner.resumed(stream.view, stored[resumed_at])
    again, _ = _run(resumed, epochs[resumed_at + 1 :])
    assert [repr(part) for part in again] == [repr(part) for part in found[resumed_at + 1 :]]


def _value(view: View, number: int) -> Value:
    """A number, or a string, as the view's first column has it."""
    return f"text {number}" if view.aggregates[0].column == "s" else float(number)


def _fill(view: View, entities: int) -> Runner:
    """So many entities with ten values each, all of it stored."""
    runner = Runner(view)
    for i in range(10):
        at = 60 * i + 1
        runner.hold(
            [Item(b"%d" % k, at, at, k, (_value(view, i * entities + k),)) for k in range(entities)]
        )
        runner.advance(at + 1)
    runner.store("dump")
    return runner


@pytest.mark.parametrize("name", VIEWS)
def test_changes_are_as_large_as_what_changed(name: str) -> None:
    """One of a thousand entities that changed costs a small part of all; none cost nothing."""
    view = VIEWS[name]
    runner = _fill(view, 1_000)
    everything = len(runner.stored[0])
    nothing = len(pickle.dumps(runner.state.changes()))
    assert nothing <= 2_000
    runner.hold([Item(b"77", 542, 542, 0, (_value(view, 100_000),))])
    runner.advance(543)
    one = len(pickle.dumps(runner.state.changes()))
    assert one - nothing <= 1_000
    assert one <= everything / 20


@pytest.mark.parametrize("name", VIEWS)
def test_what_did_not_change_is_in_the_base_only(name: str) -> None:
    """Read or not, after many changes each entity still has what it had."""
    view = VIEWS[name]
    runner = _fill(view, 30)
    plain = _fill(view, 30)
    for i in range(20):
        items = [Item(b"%d" % (i % 7), 545 + i, 545 + i, i, (_value(view, 500 + i),))]
        for one in (runner, plain):
            one.hold(items)
            one.advance(546 + i)
        runner.store("changes, load" if i % 3 == 0 else "changes")
    runner.store("changes, load")
    assert len(runner.stored) > 20
    reads = [Item(b"%d" % k, 570, 570, 100 + k, None) for k in range(31)]
    for one in (runner, plain):
        one.hold(reads)
    assert repr(runner.advance(600)) == repr(plain.advance(600))
    assert repr(runner.advance(2_000)) == repr(plain.advance(2_000))


def test_what_only_decayed_or_waits_is_a_change() -> None:
    """Time alone changes entities; rows that are held are stored until they took effect."""
    runner = Runner(view_of(feature("n", "count", 20, 10)))
    runner.hold([Item(b"a", 5, 5, 0, (1.0,)), Item(b"b", 6, 6, 1, (1.0,))])
    runner.advance(10)
    runner.store("dump")
    runner.hold([Item(b"c", 25, 25, 2, (1.0,)), Item(b"a", 25, 25, 3, None)])
    assert [row[1] for row in runner.advance(20).rows] == [b"a", b"b"]
    runner.store("changes, load")
    assert runner.state.held == 2
    found = runner.advance(30)
    assert found.rows == [(26, b"c", [1.0])]
    assert found.reads == {3: [0.0]}
    runner.store("changes, load")
    assert runner.state.held == 0
    assert runner.advance(39).rows == []
    assert runner.advance(40).rows == [(40, b"c", [0.0])]


def test_an_empty_state_can_be_stored() -> None:
    """Nothing is stored as nothing, and filled later."""
    view = VIEWS["hopping"]
    state = ViewState.load(view, ViewState(view).dump(), [])
    state = ViewState.load(view, state.dump(), [state.changes(), state.changes()])
    assert state.keys == []
    runner = Runner(view)
    runner.store("dump, load")
    runner.hold([Item(b"a", 5, 5, 0, (1.0,))])
    runner.store("changes, load")
    assert runner.advance(10).rows == [(6, b"a", [1.0, 0.0, 1.0])]


def test_silence_lets_bases_shrink() -> None:
    """A tile that holds nothing is not written: what is stored follows what is held."""
    runner = Runner(view_of(feature("s", "std", 1_000, 10), feature("n", "count")))
    sizes = []
    for until_us in (1_000, 1_500, 3_000):
        if until_us == 1_000:
            times = range(0, 1_000, 10)
            runner.hold([Item(b"%d" % (at % 7), at, at, at, (1.0,)) for at in times])
        runner.advance(until_us)
        sizes.append(len(pickle.dumps(runner.state.dump())))
    full, half, none = sizes
    assert full > half > none
    assert full - half > 0.3 * (full - none)


@pytest.mark.parametrize("name", VIEWS)
def test_a_loaded_state_does_not_hold_the_file_that_it_was_loaded_from(name: str) -> None:
    """Arrays that are read lie in the file's content, which is as large as all of the state."""
    view = VIEWS[name]
    runner = Runner(view)
    values = tuple("a" if one.column == "s" else 1.0 for one in view.aggregates)
    columns = len({one.column for one in view.aggregates})
    runner.hold([Item(b"%d" % at, at, at, at, values[:columns]) for at in range(20)])
    runner.advance(10)
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(runner.state.dump(), protocol=5, buffer_callback=arrays.append)
    content = np.frombuffer(bytearray(b"".join(one.raw() for one in arrays)), np.uint8)
    ends = np.cumsum([one.raw().nbytes for one in arrays]).tolist()
    parts = [content[end - one.raw().nbytes : end] for one, end in zip(arrays, ends, strict=True)]
    base = pickle.loads(body, buffers=[part.data for part in parts])
    is_held = weakref.ref(content)
    state = ViewState.load(view, base)
    del content, parts, base
    assert state.held == 10
    assert is_held() is None
