"""The join of served rows and labels, against its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dataflows.served.join import ServedJoin
from dataflows.served.joined import Joined
from dataflows.served.rows import ServedRow

TIMEOUT_US = 10
KEYS = st.integers(0, 3)
# (key, time) of rows; (key, time, value) of labels, in the order of their log.
ROWS = st.lists(st.tuples(KEYS, st.integers(0, 40)), max_size=25)
LABELS = st.lists(st.tuples(KEYS, st.integers(0, 60), st.floats(-5, 5)), max_size=25)
Found = set[tuple[int, float, int]]


def _row(number: int, key: int, at_us: int) -> ServedRow:
    return ServedRow(key, number, at_us, number / 7, "1", "champion", is_answer=True)


def _join(**given: Any) -> ServedJoin:
    return ServedJoin(TIMEOUT_US, 0, has_classes=False, **{"on_timeout": None, **given})


def _found(joined: Joined) -> Found:
    return set(
        zip(joined.pairs, joined.labels.tolist(), joined.label_times_us.tolist(), strict=True)
    )


def _columns(labels: list[tuple[int, int, float]]) -> tuple[list[int], list[int], list[float]]:
    return [key for key, _, _ in labels], [at for _, at, _ in labels], [v for _, _, v in labels]


def _expected(
    rows: list[tuple[int, int]], labels: list[tuple[int, int, float]], given: float | None = None
) -> Found:
    """By definition: the first label of the key from the row's moment to the timeout."""
    found: Found = set()
    for number, (key, at_us) in enumerate(rows):
        fitting = [
            (value, label_us)
            for label_key, label_us, value in labels
            if label_key == key and at_us <= label_us <= at_us + TIMEOUT_US
        ]
        if fitting:
            found.add((number, *fitting[0]))
        elif given is not None:
            found.add((number, given, at_us + TIMEOUT_US))
    return found


@given(ROWS, LABELS, st.lists(st.booleans(), max_size=60), st.none() | st.floats(-1, 1))
def test_a_row_gets_the_first_label_of_its_time_whichever_log_is_ahead(
    rows: list[tuple[int, int]],
    labels: list[tuple[int, int, float]],
    turns: list[bool],
    silence: float | None,
) -> None:
    """However rows and labels are mixed and cut, each row gets the label that is its own."""
    # One label of a key at one time: a second one is a repeated record.
    labels = list({(key, at_us): (key, at_us, value) for key, at_us, value in labels}.values())
    join = _join(on_timeout=silence)
    found: Found = set()
    rows_left = [_row(number, *row) for number, row in enumerate(rows)]
    labels_left = list(labels)
    for is_rows in [*turns, True, False]:
        size = 1 if turns else 100
        some_rows = rows_left[: size if is_rows else 0]
        some_labels = labels_left[: 0 if is_rows else size]
        del rows_left[: len(some_rows)], labels_left[: len(some_labels)]
        found |= _found(join.add(some_rows, *_columns(some_labels), 0))
        fresh = _join(on_timeout=silence)
        fresh.load(join.dump())
        join = fresh
    found |= _found(join.add(rows_left, *_columns(labels_left), 0))
    found |= _found(join.add([], [], [], [], 1_000))
    assert found == _expected(rows, labels, silence)
    assert join.waiting == 0
    counts = join.counts
    assert counts.rows == len(rows)
    assert (counts.joined, counts.joined + counts.unlabelled) == (len(found), len(rows))
    assert counts.labels == len(labels)


def test_a_row_waits_as_long_as_its_label_may_come() -> None:
    """A label at the very end of the timeout counts; the clock beyond it ends the wait."""
    join = _join()
    join.add([_row(0, 1, 5), _row(1, 2, 5)], [], [], [], 5 + TIMEOUT_US)
    assert join.waiting == 2
    joined = join.add([], [1], [5 + TIMEOUT_US], [1.0], 5 + TIMEOUT_US)
    assert joined.pairs == [0]
    join.add([], [], [], [], 6 + TIMEOUT_US)
    assert (join.waiting, join.counts.unlabelled) == (0, 1)


def test_labels_that_nobody_waited_for_are_counted() -> None:
    """Repeated, unmatched and empty labels have counts of their own."""
    join = _join()
    join.add([_row(0, 1, 5)], [1, 1, 2, 1], [6, 6, 6, 7], [1.0, 1.0, 1.0, float("nan")], 0)
    join.add([], [], [], [], 1_000)
    counts = join.counts
    assert (counts.labels, counts.joined) == (4, 1)
    assert (counts.repeated_labels, counts.unmatched_labels, counts.ignored_labels) == (1, 1, 1)


def test_what_waits_is_bounded() -> None:
    """Past the bound the oldest rows and labels are given up, and counted."""
    join = _join(rows_max=100)
    join.add([_row(i, i, 0) for i in range(250)], [], [], [], 0)
    keys = list(range(1_000, 1_250))
    join.add([], keys, [0] * 250, [1.0] * 250, 0)
    assert join.waiting == 100
    assert (join.counts.dropped_rows, join.counts.dropped_labels) == (150, 150)
    joined = join.add([], [0, 249], [1, 1], [1.0, 1.0], 0)
    assert joined.pairs == [249]


def test_what_was_saved_may_be_more_than_there_is_room_for_now() -> None:
    """Who lowers the bound keeps the newest rows and labels, with their probabilities."""
    many = ServedJoin(TIMEOUT_US, 0, has_classes=True, on_timeout=None, rows_max=10)
    rows = [
        ServedRow(
            key, key, 0, 0.7, "1", "", is_answer=True, predicted="red",
            classes=("blue", "red"), probabilities=(key / 10, 1 - key / 10),
        )
        for key in range(10)
    ]  # fmt: skip
    many.add(rows, list(range(20, 27)), [1] * 7, ["red"] * 7, 0)
    few = ServedJoin(TIMEOUT_US, 0, has_classes=True, on_timeout=None, rows_max=4)
    few.load(many.dump())
    assert (few.waiting, few.counts.dropped_rows, few.counts.dropped_labels) == (4, 6, 3)
    joined = few.add([], list(range(10)), [1] * 10, ["blue"] * 10, 0)
    assert joined.pairs == [6, 7, 8, 9]
    assert joined.truth_probabilities.tolist() == [0.6, 0.7, 0.8, 0.9]


def test_with_many_classes_the_truth_has_its_probability() -> None:
    """A class that the version did not know had no probability."""
    join = ServedJoin(TIMEOUT_US, 1, has_classes=True, on_timeout=None)
    rows = [
        ServedRow(
            key, key, 0, 0.7, "1", "", is_answer=True, segments=(None,), predicted="red",
            classes=("blue", "red"), probabilities=(0.3, 0.7),
        )
        for key in range(3)
    ]  # fmt: skip
    joined = join.add(rows, [0, 1, 2], [1, 2, 3], ["red", "blue", "green"], 0)
    assert joined.truth_probabilities.tolist() == [0.7, 0.3, 0.0]
    assert [join.classes[int(place)] for place in joined.labels] == ["red", "blue", "green"]
    assert [join.classes[place] for place in joined.predicted] == ["red"] * 3
    assert joined.segments == ([None] * 3,)


def test_each_row_keeps_its_own_segments() -> None:
    """Values go along with their row, whatever came together with it; a missing one is told so."""
    join = ServedJoin(TIMEOUT_US, 2, has_classes=False, on_timeout=None)
    values = [("UA", "JFK"), ("DL", None), ("UA", "LGA")]
    rows = [replace(_row(n, n, 5), segments=pair) for n, pair in enumerate(values)]
    joined = join.add(rows, [2, 0, 1], [6, 7, 8], [1.0, 2.0, 3.0], 9)
    assert joined.pairs == [2, 0, 1]
    assert joined.segments == (["UA", "UA", "DL"], ["LGA", "JFK", None])
