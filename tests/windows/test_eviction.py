"""Silent entities are let go when a base is written, and nobody can tell by the results."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import View
from tests.windows.random_streams import Stream, handlings, streams, views
from tests.windows.stream import (
    Item,
    Runner,
    Storing,
    advances,
    assert_equal,
    feature,
    run,
    together,
    view_of,
)

# Views whose entities can fall silent: all windows end.
ENDING = views().filter(lambda view: all(a.window_us > 0 for a in view.aggregates))
COUNT = feature("n", "count", 20, 10)
LAST = feature("l", "last", 20, 10)


def _after(view: View, times: Iterable[int], until_us: int) -> Runner:
    """Entity ``a`` with updates at these times, ``b`` with one at the end of the time."""
    runner = Runner(view)
    width = len({a.column for a in view.aggregates})
    runner.hold([Item(b"a", at, at, i, (1.0,) * width) for i, at in enumerate(times)])
    runner.hold([Item(b"b", until_us - 1, until_us - 1, 99, (1.0,) * width)])
    runner.advance(until_us)
    return runner


@settings(max_examples=300)
@given(streams(ENDING), st.data())
def test_letting_go_changes_no_result(stream: Stream, data: st.DataObject) -> None:
    """Bases written anywhere, in silence or in the midst, leave all rows and reads as they are."""
    how = data.draw(handlings(stream))
    bases: dict[int, Storing] = dict.fromkeys(how.stored_at, "dump")
    silent_at = data.draw(st.sets(st.integers(0, len(how.cuts))))
    rest = stream.view, stream.items, stream.up_to_us, how.cuts
    never = together(advances(*rest, None, silent_at))
    assert together(advances(*rest, bases, silent_at)).text == never.text
    assert together(advances(*rest, how.stored_at, silent_at)).text == never.text


def test_an_entity_goes_with_its_last_tile_and_the_next_base() -> None:
    """As long as a tile holds anything it stays, and it stays until a base is written."""
    for until_us, left in ((25, [b"a", b"b"]), (30, [b"b"])):
        runner = _after(view_of(COUNT, LAST), [5, 15], until_us + 1)
        assert runner.state.keys == [b"a", b"b"]
        runner.store("changes")
        runner.store("dump")
        assert runner.state.keys == left


def test_changes_let_nobody_go() -> None:
    """Only a base numbers anew: what follows it refers to the numbers that it has."""
    runner = Runner(view_of(COUNT))
    runner.store("dump")
    runner.hold([Item(b"a", 5, 5, 0, (1.0,))])
    runner.advance(100)
    runner.store("changes")
    assert runner.state.keys == [b"a"]
    runner.store("changes, load")
    assert runner.state.keys == [b"a"]


def test_keys_that_were_handed_out_stay_as_they_were() -> None:
    """Rows of before mean something together with the list of before: a base makes a new one."""
    runner = _after(view_of(COUNT), [5], 100)
    old = runner.state.keys
    runner.store("dump")
    assert runner.state.keys is not old
    assert (old, runner.state.keys) == ([b"a", b"b"], [b"b"])


@pytest.mark.parametrize("what", ["dump", "dump, load"])
def test_who_was_let_go_still_reads_as_count_0(what: Storing) -> None:
    """Known, and silent: counts are 0 and not null; who never was there is null throughout."""
    runner = _after(view_of(COUNT, LAST), [5], 100)
    for _ in range(3):
        runner.store(what)
    runner.hold([Item(b"a", 200, 200, 7, None), Item(b"c", 200, 200, 8, None)])
    assert runner.advance(200).reads == {7: [0.0, None], 8: [None, None]}
    # It was read only, and is let go and known once more.
    runner.store(what)
    assert b"a" not in runner.state.keys
    runner.hold([Item(b"a", 300, 300, 9, None)])
    assert runner.advance(300).reads == {9: [0.0, None]}


def test_who_was_let_go_is_remembered_through_changes() -> None:
    """Who reads or comes after a base is in the changes, as one that was known."""
    runner = _after(view_of(COUNT, LAST), [5], 100)
    runner.store("dump")
    runner.hold([Item(b"a", 200, 200, 7, None)])
    runner.store("changes, load")
    assert runner.advance(200).reads == {7: [0.0, None]}
    runner.store("changes, load")
    runner.hold([Item(b"a", 210, 210, 8, None), Item(b"a", 211, 211, 9, (2.0,))])
    runner.hold([Item(b"a", 213, 213, 10, None)])
    found = runner.advance(215)
    assert found.reads == {8: [0.0, None], 10: [1.0, 2.0]}
    assert found.rows == [(212, b"a", [1.0, 2.0])]


def test_who_comes_back_begins_anew() -> None:
    """An entity that was let go has the rows of one that never went."""
    view = view_of(COUNT, LAST, feature("s", "std", 40, 10))
    items = [Item(b"a", at, at, at, (float(at),)) for at in (3, 7, 103, 108, 204, 209)]
    cuts = [2, 4]
    kept = run(view, items, 400, cuts)
    assert run(view, items, 400, cuts, {0: "dump", 1: "dump, load"}).text == kept.text


def test_who_is_waited_for_stays() -> None:
    """Rows that are held keep their entity, though it has nothing yet or no more."""
    runner = _after(view_of(COUNT), [5], 100)
    runner.hold([Item(b"a", 150, 150, 1, (1.0,)), Item(b"c", 150, 150, 2, None)])
    runner.store("dump, load")
    assert runner.state.keys == [b"a", b"b", b"c"]
    found = runner.advance(160)
    assert [row for row in found.rows if row[1] == b"a"] == [(151, b"a", [1.0])]
    assert found.reads == {2: [None]}


def test_a_whole_history_stays() -> None:
    """A feature without a window is never empty: its entity is not let go."""
    runner = _after(view_of(COUNT, feature("all", "sum")), [5], 10_000)
    runner.store("dump")
    runner.hold([Item(b"a", 20_000, 20_000, 1, None)])
    assert runner.advance(20_000).reads == {1: [0.0, 1.0]}


def test_with_a_ttl_they_go_when_they_are_too_old_to_be_read() -> None:
    """Until then they read as count 0, from then on as null, whether they are there or not."""
    view = view_of(COUNT, LAST, ttl_us=50)
    # The last row is that of the tile that left at 20.
    for until_us, left in ((70, [b"a", b"b"]), (71, [b"b"])):
        runner = _after(view, [5], until_us)
        runner.store("dump, load")
        assert runner.state.keys == left
        runner.hold([Item(b"a", until_us, until_us, 1, None)])
        wanted = [None, None] if left == [b"b"] else [0.0, None]
        assert runner.advance(until_us).reads == {1: wanted}


def test_of_one_moment_no_row_is_given_twice() -> None:
    """A row stamped one step after the watermark is not forgotten: another one comes after it."""
    runner = Runner(view_of(COUNT))
    runner.hold([Item(b"a", 50, 50, 0, (None,))])
    stamps = [stamp for stamp, _, _ in runner.advance(50, 51).rows]
    runner.store("dump, load")
    runner.hold([Item(b"a", 50, 50, 1, (None,))])
    stamps += [stamp for stamp, _, _ in runner.advance(50, 51).rows]
    assert stamps == [51, 52]


@pytest.mark.parametrize("ttl_us", [0, 40])
def test_hundreds_come_and_go(ttl_us: int) -> None:
    """Entities that live for a while, rest and come back, in a state that is often stored."""
    view = view_of(
        feature("n", "count", 60, 20),
        feature("v", "var", 30, 10),
        feature("d", "count_distinct", 40, 10, "s", "string"),
        feature("l", "last", 40, 10, "s", "string"),
        ttl_us=ttl_us,
    )
    rng = random.Random(ttl_us)
    items = []
    for at in range(2_000):
        # A dozen of three hundred at a time; each is seen again when its turn comes.
        key = b"%d" % ((at // 10 + rng.randrange(12)) % 97 + 100 * rng.randrange(3))
        values = None if at % 5 == 0 else (float(at % 7), f"text {at % 11 + at // 500}")
        items.append(Item(key, at, at, at, values))
    cuts = range(0, 2_000, 50)
    stored_at: dict[int, Storing] = {
        i: ("dump", "changes", "changes, load", "dump, load")[i % 4] for i in range(len(cuts))
    }
    assert_equal(view, items, 2_500, run(view, items, 2_500, cuts, stored_at))


@pytest.mark.parametrize(("ttl_us", "bytes_max"), [(0, 24), (100, 1)])
def test_the_silent_cost_next_to_nothing(ttl_us: int, bytes_max: int) -> None:
    """Of ten thousand entities that fell silent a base holds a digest each, or nothing at all."""
    view = view_of(COUNT, feature("s", "std", 100, 10), ttl_us=ttl_us)
    runner = Runner(view)
    runner.hold([Item(b"entity %d" % i, i, i, i, (1.0,)) for i in range(10_000)])
    runner.advance(10_050)
    before = len(pickle.dumps(runner.state.dump()))
    runner.advance(20_000)
    after = len(pickle.dumps(runner.state.dump()))
    assert runner.state.keys == []
    assert before > 5_000
    assert after <= 2_000 + 10_000 * bytes_max


def test_entities_for_whom_rows_wait_are_not_taken_for_silent() -> None:
    """Nobody would be let go, so no base need be written to do so, however many are new."""
    runner = Runner(view_of(feature("n", "count", 40, 10)))
    runner.hold([Item(b"%d" % i, 50, 50, i, (1.0,)) for i in range(9)])
    runner.advance(10)
    assert runner.state.silent_share() == 0.0
    runner.state.slots([b"never heard of"])
    assert runner.state.silent_share() == 0.1
    runner.store("dump")
    assert len(runner.state.keys) == 9
