"""The board: groups, their bounds, and that nothing depends on how outcomes are cut into calls."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.evaluation_file import MISSING_VALUE, OTHER_VALUES
from contracts.model_spec import Task
from dataflows.evaluation.board import BoardStateError, EvaluationBoard, Limits
from dataflows.evaluation.judged import Judged
from tests.evaluation.rows import CLASSES, SECOND_US, TASKS, make

ROWS = 600
SPAN_US = 100 * SECOND_US
SMALL = Limits(versions=3, values=4, groups=20)
Segments = list[list[str | None]]


def segments(count: int, seed: int = 0) -> Segments:
    """Two columns of values, more than are told apart, some missing."""
    generator = np.random.default_rng(seed)
    places = generator.integers(0, 9, (2, count)).tolist()
    return [[None if place == 8 else f"{name}{place}" for place in places[n]] for n, name in
            enumerate("ab")]  # fmt: skip


def versions(count: int, each: int = 70) -> Any:
    """Numbers that grow, with some rows of the version before mixed in."""
    numbers = np.arange(count) // each
    late = np.random.default_rng(1).random(count) < 0.2
    return np.maximum(numbers - late, 0)


def board(task: Task, limits: Limits = SMALL) -> EvaluationBoard:
    """A new one with two segments."""
    return EvaluationBoard(task, ["a", "b"], SPAN_US, limits)


def add(to: EvaluationBoard, rows: Judged, cuts: list[int]) -> None:
    """Add all rows in several calls."""
    columns, numbers = segments(len(rows)), versions(len(rows))
    for start, end in pairwise(sorted({0, len(rows), *cuts})):
        part = slice(start, end)
        to.add(rows.take(part), numbers[part], [column[part] for column in columns])


def bytes_of(one: EvaluationBoard) -> bytes:
    """All figures, to the last bit."""
    return msgspec.json.encode(one.report(CLASSES))


def cells_of(one: EvaluationBoard) -> dict[Any, list[list[int]]]:
    """What it keeps."""
    groups = one.dump()["groups"]
    return {
        key: [column.tolist() for column in (each.codes, each.lengths, each.cells, each.values)]
        for key, each in groups.items()
    }


@pytest.mark.parametrize("task", TASKS)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=30))
@settings(max_examples=8, deadline=None)
def test_cuts_change_no_bit(task: Task, cuts: list[int]) -> None:
    """However outcomes are cut into calls, every figure has the same bits."""
    rows = make(task, ROWS, unusable=0.05)
    once, often = board(task), board(task)
    add(once, rows, [])
    add(often, rows, cuts)
    assert bytes_of(often) == bytes_of(once)
    assert cells_of(often) == cells_of(once)


@pytest.mark.parametrize("task", TASKS)
def test_order_changes_no_bit(task: Task) -> None:
    """Once the values are known, outcomes may come in any order: versions, spans, late ones."""
    rows, columns, numbers = make(task, ROWS), segments(ROWS), versions(ROWS)
    found = set()
    for seed in range(3):
        one = EvaluationBoard(task, ["a", "b"], SPAN_US, Limits(3, 100, 40))
        order = np.random.default_rng(seed).permutation(ROWS) if seed else np.arange(ROWS)
        for part in np.array_split(order, 7):
            values = [[column[row] for row in part.tolist()] for column in columns]
            one.add(rows.take(part), numbers[part], values)
        found.add(bytes_of(one))
    assert len(found) == 1


@pytest.mark.parametrize("task", TASKS)
@given(cuts=st.lists(st.integers(0, ROWS), min_size=1, max_size=8), base=st.integers(0, 8))
@settings(max_examples=6, deadline=None)
def test_saved_and_gone_on(task: Task, cuts: list[int], base: int) -> None:
    """A board that is saved as a dump and changes, and loaded again, goes on as if nothing was."""
    rows = make(task, ROWS)
    once, moved = board(task), board(task)
    add(once, rows, [])
    columns, numbers = segments(ROWS), versions(ROWS)
    parts: list[bytes] = []
    for number, (start, end) in enumerate(pairwise(sorted({0, ROWS, *cuts}))):
        part = slice(start, end)
        moved.add(rows.take(part), numbers[part], [column[part] for column in columns])
        if number % 4 == base % 4 or not parts:
            parts = [pickle.dumps(moved.dump())]
        else:
            parts.append(pickle.dumps(moved.changes()))
        moved = board(task)
        moved.load([pickle.loads(each) for each in parts])
    assert bytes_of(moved) == bytes_of(once)


def alone(task: Task, mask: Any) -> dict[str, Any]:
    """The figures of a board that has seen only some of the rows."""
    one = EvaluationBoard(task, (), 10**15)
    one.add(make(task, ROWS).take(mask), versions(ROWS)[mask])
    found: dict[str, Any] = one.report(CLASSES)["all"]["all"]
    return found


@pytest.mark.parametrize("task", TASKS)
def test_each_group_has_its_rows(task: Task) -> None:
    """Figures of a version, of a value and of the last spans are those of their rows alone."""
    one = EvaluationBoard(task, ["a", "b"], SPAN_US)
    add(one, make(task, ROWS), [100])
    report = one.report(CLASSES)
    numbers, columns = versions(ROWS), segments(ROWS)
    assert list(report["versions"]) == [str(number) for number in range(9)]
    for name, found in report["versions"].items():
        assert found["all"] == alone(task, numbers == int(name))
    is_a3 = np.array([value == "a3" for value in columns[0]])
    short = report["all"]["segments"]["a"]["a3"]
    assert short.items() <= alone(task, is_a3).items()
    assert (
        report["versions"]["4"]["segments"]["a"]["a3"]["outcomes"] == (is_a3 & (numbers == 4)).sum()
    )
    is_missing = np.array([value is None for value in columns[1]])
    short = report["all"]["segments"]["b"][MISSING_VALUE]
    assert short.items() <= alone(task, is_missing).items()
    assert report["all"]["all"] == alone(task, slice(None))
    assert report["outcomes"] == ROWS
    assert report["until_us"] == (ROWS - 1) * SECOND_US
    assert report["recent"]["from_us"] == 400 * SECOND_US
    assert report["recent"]["all"] == alone(task, np.arange(ROWS) >= 400)


def test_a_bounded_number_of_values() -> None:
    """The first values are told apart, all later ones share a line; long ones too."""
    one = EvaluationBoard("binary", ["a"], SPAN_US, Limits(values=2))
    rows = make("binary", 7)
    values = ["x", "y", "z", "x", "w", None, "n" * 101]
    one.add(rows, np.ones(7, np.int64), [values])
    found = one.report()["all"]["segments"]["a"]
    assert {value: each["outcomes"] for value, each in found.items()} == {
        "x": 2, "y": 1, OTHER_VALUES: 3, MISSING_VALUE: 1,
    }  # fmt: skip
    one = EvaluationBoard("binary", ["a"], SPAN_US)
    one.add(rows.take(slice(0, 2)), np.ones(2, np.int64), [["n" * 101, "n" * 100]])
    assert list(one.report()["all"]["segments"]["a"]) == ["n" * 100, OTHER_VALUES]


@pytest.mark.parametrize("task", TASKS)
def test_recent_figures_move_on(task: Task) -> None:
    """They are those of the last two spans, whatever was reported before of as many outcomes."""
    one = EvaluationBoard(task, (), SPAN_US)
    for start in range(0, ROWS, 100):
        part = slice(start, start + 100)
        one.add(make(task, ROWS).take(part), versions(ROWS)[part])
        rows = np.arange(ROWS)
        mask = (rows >= start - 100) & (rows < start + 100)
        assert one.report(CLASSES)["recent"]["all"] == alone(task, mask)


def test_old_versions_share_their_figures() -> None:
    """The newest versions stay; older ones go into one slice, also when more labels come."""
    one = EvaluationBoard("binary", (), SPAN_US, Limits(versions=3))
    rows = make("binary", 60)
    one.add(rows.take(slice(0, 50)), np.arange(50) // 10)
    assert one.versions == ["2", "3", "4"]
    one.add(rows.take(slice(50, 60)), np.zeros(10, np.int64))
    report = one.report()
    assert list(report["versions"]) == ["2", "3", "4"]
    assert report["earlier"]["all"]["outcomes"] == 30
    assert report["all"]["all"]["outcomes"] == 60


def test_kept_versions_stay() -> None:
    """A version that is to be kept has its own figures however many newer ones come."""
    one = EvaluationBoard("binary", (), SPAN_US, Limits(versions=2))
    one.keep(["b1", "3"])
    names = ["b1", "b2", "2", "3", "4", "5"]
    one.add(make("binary", 60), [name for name in names for _ in range(10)])
    assert one.versions == ["b1", "3", "4", "5"]


def test_groups_are_bounded() -> None:
    """Versions give way when all together have too many groups, but for the newest one."""
    one = EvaluationBoard("binary", ["a"], SPAN_US, Limits(versions=50, values=100, groups=120))
    values = [str(number) for number in range(50)] * 12
    one.add(make("binary", 600), np.arange(600) // 50, [values])
    assert one.versions == ["10", "11"]
    one = EvaluationBoard("binary", ["a"], SPAN_US, Limits(groups=10))
    one.add(make("binary", 600), np.arange(600) // 50, [values])
    assert one.versions == ["11"]
    assert one.report()["all"]["segments"]["a"]["7"]["outcomes"] == 12


@pytest.mark.parametrize("task", TASKS)
def test_a_group_is_small(task: Task) -> None:
    """A group takes 10 KB at most."""
    assert board(task)._metrics.width * 8 < 10_000


def test_what_does_not_fit_is_refused() -> None:
    """Columns of another length, and state of another board, are named."""
    rows = make("binary", 5)
    with pytest.raises(ValueError, match="5 outcomes need as many versions, got 4"):
        board("binary").add(rows, np.ones(4, np.int64), segments(5))
    with pytest.raises(ValueError, match=r"\['a', 'b'\] need a column of 5 values each"):
        board("binary").add(rows, np.ones(5, np.int64), segments(5)[:1])
    with pytest.raises(ValueError, match=r"column scores has shape \(4,\), not \(5,\)"):
        Judged(rows.labels, rows.scores[:4], rows.label_times_us)
    for other, what in (
        (board("regression"), "task"),
        (EvaluationBoard("binary", ["a"], SPAN_US, SMALL), "segments"),
        (EvaluationBoard("binary", ["a", "b"], 2 * SPAN_US, SMALL), "publish_every"),
    ):
        with pytest.raises(BoardStateError, match=f"is of another {what}"):
            board("binary").load([other.dump()])
