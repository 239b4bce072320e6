"""Strings in a state: what they stand for survives everything, and unused ones do not stay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import View
from dataflows.windows.inputs import TextList
from dataflows.windows.view_state import ViewState
from tests.windows.oracle import Value
from tests.windows.random_streams import Stream, handlings, streams
from tests.windows.stream import Item, Runner, Storing, assert_equal, feature, run, view_of


def _latest(*columns: str) -> View:
    return view_of(*[feature(c, "latest", column=c, column_type="string") for c in columns])


def _string_view(window_us: int, hop_us: int) -> View:
    return view_of(
        feature("f", "first", window_us, hop_us, "s", "string"),
        feature("l", "last", window_us, hop_us, "s", "string"),
        feature("n", "count", window_us, hop_us, "s", "string"),
        feature("d", "count_distinct", window_us, hop_us, "s", "string"),
        feature("x", "max", window_us, hop_us),
    )


def _items(values: Sequence[Value], key: bytes = b"a") -> list[Item]:
    return [Item(key, i, i, i, (value,)) for i, value in enumerate(values)]


_VIEWS = st.one_of(
    st.builds(_string_view, st.sampled_from([20, 40]), st.sampled_from([5, 10, 20])),
    st.just(_string_view(0, 0)),
    st.just(_latest("s")),
)


@settings(max_examples=200)
@given(streams(_VIEWS), st.data())
def test_strings_equal_brute_force_however_stored(stream: Stream, data: st.DataObject) -> None:
    """First, last, counts and rows of strings, through any cuts and stores."""
    view, items, up_to_us = stream.view, stream.items, stream.up_to_us
    how = data.draw(handlings(stream))
    assert_equal(view, items, up_to_us, run(view, items, up_to_us, how.cuts, how.stored_at))


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1, max_size=20))
def test_any_text_comes_back_as_it_was(texts: list[str | None]) -> None:
    """Empty, long, with zero characters or any script: what comes out is what went in."""
    view = _latest("s")
    stored: dict[int, Storing] = dict.fromkeys(range(len(texts)), "changes, load")
    output = run(view, _items(texts), len(texts), range(1, len(texts)), stored)
    assert sorted(output.rows) == [(i + 1, b"a", [text]) for i, text in enumerate(texts)]


def test_an_empty_string_is_not_null() -> None:
    """It counts, it is distinct, it is first and last."""
    (*_, row) = sorted(run(_string_view(20, 10), [Item(b"a", 5, 5, 0, ("", None))], 9).rows)
    assert row == (6, b"a", ["", "", 1.0, 1.0, None])


def test_codes_of_many_workers_mean_the_same_strings() -> None:
    """Lists of several workers number strings as they like: equal strings are one in the state."""
    state = ViewState(_latest("s"))
    one, other = TextList(["x", "y", "z"]), TextList(["z", "y"])
    first = state.with_own_texts(one, np.array([[2.0], [0.0], [math.nan], [1.0]]))[:, 0].tolist()
    second = state.with_own_texts(other, np.array([[0.0], [1.0]]))[:, 0].tolist()
    assert math.isnan(first.pop(2))
    assert [state.texts[int(code)] for code in first] == ["z", "x", "y"]
    assert second == [first[0], first[2]]
    other.texts.append("new")
    (last,) = state.with_own_texts(other, np.array([[2.0]]))[:, 0].tolist()
    assert state.texts[int(last)] == "new"


def test_strings_that_nothing_refers_to_go_with_the_next_base() -> None:
    """A thousand last values leave one; a base forgets the others, what is left still reads."""
    runner = Runner(_latest("s"))
    for begin in range(0, 1_000, 100):
        texts = [f"value {i}" for i in range(begin, begin + 100)]
        items = [Item(b"a", begin + i, begin + i, i, (text,)) for i, text in enumerate(texts)]
        runner.hold(items)
        runner.advance(begin + 100)
    handed_out = runner.state.texts
    before = list(handed_out)
    runner.store("dump")
    assert len(runner.state.texts) == 1
    # What was handed out with earlier rows still means what it meant.
    assert handed_out == before
    runner.hold([Item(b"a", 2_000, 2_000, 1, None)])
    assert runner.advance(2_000).reads == {1: ["value 999"]}


@pytest.mark.parametrize("what", ["dump", "dump, load", "changes", "changes, load"])
def test_strings_of_rows_that_wait_stay(what: Storing) -> None:
    """What is held over a store is not forgotten, though no entity has it yet."""
    runner = Runner(_latest("s"))
    runner.hold(_items(["early"]))
    runner.advance(10)
    runner.store("dump")
    runner.hold([Item(b"a", 20, 20, 1, ("waits",)), Item(b"b", 21, 21, 2, (None,))])
    runner.store(what)
    runner.store(what)
    assert runner.advance(30).rows == [(21, b"a", ["waits"]), (22, b"b", [None])]


def test_a_string_that_left_its_window_is_not_read_again() -> None:
    """When its tile has left, first and last are null, whatever place the string had."""
    runner = Runner(view_of(feature("l", "last", 20, 10, "s", "string"), feature("n", "count")))
    runner.hold([Item(b"a", 5, 5, 0, ("old", 1.0))])
    assert [values[0] for _, _, values in runner.advance(19).rows] == ["old"]
    assert [values[0] for _, _, values in runner.advance(20).rows] == [None]
    runner.store("dump, load")
    assert runner.state.texts == []
    runner.hold([Item(b"a", 25, 25, 1, ("new", None))])
    assert [values[0] for _, _, values in runner.advance(30).rows] == ["new"]


def test_presence_is_all_that_a_count_takes_of_strings() -> None:
    """Counted strings are not kept."""
    runner = Runner(view_of(feature("n", "count", 20, 10, "s", "string")))
    runner.hold(_items(["a", None, "b", "a"]))
    (*_, last) = runner.advance(5).rows
    assert last == (4, b"a", [3.0])
    assert runner.state.texts == []
