"""The functions of views: what they are given, what is taken from them, and which records fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from contracts.feature_schema import ValueType
from contracts.plan import ColumnType, View
from dataflows.sources.transform import Transformation
from dataflows.watermark import NOT_YET
from tests.sources.transforming import (
    BEGIN,
    TOPIC,
    Mode,
    Row,
    batches_of,
    dead_of,
    derived_of,
    moment,
    stream_of,
    view_of,
)

_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "shop": st.one_of(st.none(), st.text(max_size=3)),
            "n": st.one_of(st.none(), st.integers(-3, 9), st.integers(-(2**63), 2**63 - 1)),
            "x": st.one_of(st.none(), st.integers(0, 9).map(float)),
            "is_new": st.one_of(st.none(), st.booleans()),
            "seen_at": st.one_of(st.none(), st.integers(-(10**15), 10**15)),
        }
    ),
    max_size=25,
)


def _awkward_lists(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Doubles x; raises at 1, leaves out 2, and gives a number for the string of 3."""
    if 1.0 in rows["x"]:
        raise ValueError("one of these\nis 1")
    kept = [i for i, x in enumerate(rows["x"]) if x != 2.0]
    shops = [3 if rows["x"][i] == 3.0 else rows["shop"][i] for i in kept]
    doubled = [None if rows["x"][i] is None else rows["x"][i] * 2 for i in kept]
    return {"shop": shops, "double": doubled, "n": [rows["n"][i] for i in kept]}


def _awkward_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """The same, of a frame."""
    if (rows["x"] == 1.0).any():
        raise ValueError("one of these\nis 1")
    rows["double"] = rows["x"] * 2
    rows.loc[rows["x"] == 3.0, "shop"] = 3
    return rows[rows["x"] != 2.0][["double", "n", "shop"]]


_AWKWARD: dict[Mode, Callable[[Any], Any]] = {"python": _awkward_lists, "pandas": _awkward_frame}
_FAULTS = {1.0: "view v: ValueError: one of these is 1", 2.0: "view v: its function gave 0 "}
_FAULTS |= {3.0: "view v: "}


@settings(max_examples=40)
@given(rows=_ROWS, size=st.integers(1, 25))
def test_exactly_the_rows_at_fault_die(rows: list[Row], size: int) -> None:
    """However rows are cut into batches, each is derived or dead as it would be alone."""
    for mode in _AWKWARD:
        note(mode)
        _check_who_dies(mode, rows, size)


def _check_who_dies(mode: Mode, rows: list[Row], size: int) -> None:
    stream = stream_of((view_of(mode, ("double", "float64"), ("n", "int64")), _AWKWARD[mode]))
    batches = batches_of(stream, rows, size)
    dead = dead_of(batches)
    bad = {i for i, row in enumerate(rows) if row["x"] in _FAULTS}
    assert set(dead) == bad
    assert all(reason.startswith(_FAULTS[rows[i]["x"]]) for i, reason in dead.items())
    good = [i for i in range(len(rows)) if i not in bad]
    doubled = {i: None if rows[i]["x"] is None else rows[i]["x"] * 2 for i in good}
    assert derived_of(batches, "v", "double") == doubled
    assert derived_of(batches, "v", "n") == {i: rows[i]["n"] for i in good}
    assert derived_of(batches, "v", "shop") == {i: rows[i]["shop"] for i in good}
    # A record that is bad has not moved the watermark.
    begin_us = int(BEGIN.timestamp()) * 10**6 + BEGIN.microsecond
    newest = max((begin_us + i * 10**6 for i in good), default=NOT_YET)
    assert stream.newest_us == newest


@settings(max_examples=40)
@given(rows=_ROWS, size=st.integers(1, 25))
def test_what_a_function_hands_through_stays_as_it_is(rows: list[Row], size: int) -> None:
    """Values of each type come out of an idle function as they went in, nulls and all."""
    kinds: list[tuple[str, ColumnType]] = [
        ("shop", "string"), ("n", "int64"), ("x", "float64"), ("is_new", "bool"),
        ("seen_at", "timestamp"),
    ]  # fmt: skip
    for mode in _AWKWARD:
        stream = stream_of((view_of(mode, *kinds), lambda rows: rows))
        batches = batches_of(stream, rows, size)
        assert dead_of(batches) == {}, mode
        for name, _ in kinds:
            for batch in batches:
                plain, derived = batch.columns[name], batch.derived["v"][name]
                assert type(plain) is type(derived), mode
                np.testing.assert_array_equal(plain, derived, mode)


def test_a_function_is_given_plain_values() -> None:
    """Lists hold Python's own values, frames have the dtypes of the topic, whatever is null."""
    seen: list[Any] = []
    none: Row = {"shop": None, "n": None, "x": None, "is_new": None, "seen_at": None}
    full: Row = {"shop": "s", "n": 2**63 - 1, "x": 0.5, "is_new": True, "seen_at": -1}
    modes: tuple[Mode, ...] = ("python", "pandas")

    def keep(rows: Any) -> Any:
        seen.append(rows)
        return rows

    for mode in modes:
        stream = stream_of((view_of(mode), keep))
        for rows in ([none], [full], [none, full]):
            batches_of(stream, rows, 9)
    assert seen[2] == {
        "shop": [None, "s"], "n": [None, 2**63 - 1], "x": [None, 0.5], "is_new": [None, True],
        "seen_at": [None, moment(-1)], "at": [moment(0), moment(10**6)],
    }  # fmt: skip
    assert seen[2]["at"][0].tzinfo is UTC
    dtypes = {
        "shop": "object", "n": "Int64", "x": "float64", "is_new": "boolean",
        "seen_at": "datetime64[us, UTC]", "at": "datetime64[us, UTC]",
    }  # fmt: skip
    for frame in seen[3:]:
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == dtypes
    both = seen[5]
    assert both.isna().iloc[0].tolist() == [True, True, True, True, True, False]
    assert both.iloc[1].tolist() == ["s", 2**63 - 1, 0.5, True, moment(-1), moment(10**6)]


def _spoil_lists(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    result = {name: list(values) for name, values in rows.items()}
    for values in rows.values():
        values[:] = ["spoilt"] * len(values)
    rows.clear()
    return result


def _spoil_frame(rows: pd.DataFrame) -> pd.DataFrame:
    result = rows.copy(deep=True)
    rows["x"].to_numpy()[:] = -1.0
    rows["n"] = 0
    rows["shop"] = "spoilt"
    return result


@pytest.mark.parametrize("spoiler", ["python", "pandas"])
@pytest.mark.parametrize("other", ["python", "pandas"])
def test_a_function_that_changes_its_input_changes_nothing_else(spoiler: Mode, other: Mode) -> None:
    """Neither the topic's columns nor what other views are given notice it."""
    spoil: Callable[[Any], Any] = _spoil_lists if spoiler == "python" else _spoil_frame
    first = (view_of(spoiler, ("x", "float64"), name="a"), spoil)
    second = (view_of(other, ("x", "float64"), ("n", "int64"), name="b"), lambda rows: rows)
    rows = [{"shop": f"s{i}", "n": i, "x": float(i)} for i in range(3)]
    (batch,) = batches_of(stream_of(first, second), rows, 9)
    for columns in (batch.columns, batch.derived["b"]):
        assert columns["shop"] == ["s0", "s1", "s2"]
        assert columns["n"] == [0, 1, 2]
        assert columns["x"].tolist() == [0.0, 1.0, 2.0]


def test_a_result_is_not_shared_with_the_function() -> None:
    """A function that gives the same array again and again does not change earlier batches."""
    kept = np.zeros(1)

    def function(rows: dict[str, list[Any]]) -> dict[str, Any]:
        kept[:] = rows["x"]
        return {"shop": rows["shop"], "x": kept}

    rows = [{"shop": "s", "x": 1.0}, {"shop": "s", "x": 2.0}]
    batches = batches_of(stream_of((view_of("python", ("x", "float64")), function)), rows, 1)
    assert derived_of(batches, "v", "x") == {0: 1.0, 1: 2.0}


def test_a_record_that_is_bad_for_one_view_counts_for_none() -> None:
    """It is one dead letter, with the reason of the first view, and no other sees it."""

    def fail_at(bad: float) -> Callable[[Any], Any]:
        def function(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
            seen.extend(rows["x"])
            if bad in rows["x"]:
                raise KeyError(bad)
            return rows

        return function

    seen: list[float] = []
    views = [
        (view_of("python", ("x", "float64"), name=name), fail_at(bad))
        for name, bad in (("a", 1.0), ("b", 2.0), ("c", 1.0))
    ]
    batches = batches_of(stream_of(*views), [{"shop": "s", "x": float(x)} for x in range(4)], 9)
    assert dead_of(batches) == {1: "view a: KeyError: 1.0", 2: "view b: KeyError: 2.0"}
    (batch,) = batches
    assert batch.columns["x"].tolist() == [0.0, 3.0]
    for name in "abc":
        assert batch.derived[name]["x"].tolist() == [0.0, 3.0]
        assert batch.derived[name]["shop"] == ["s", "s"]
    seen.clear()
    batches_of(stream_of(*views[:2]), [{"x": 1.0}, {"x": 5.0}], 9)
    assert seen == [1.0, 5.0, 1.0, 5.0, 5.0]


@pytest.mark.parametrize("mode", ["python", "pandas"])
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda rows: None, "a value of type NoneType, not a "),
        (lambda rows: {}, "no column|a value of type dict"),
        (lambda rows: {n: [] for n in rows} if isinstance(rows, dict) else rows[:0], "gave 0 "),
        (lambda rows: {**rows, "x": 1.0}, "float for x, not a list|not a DataFrame"),
        (lambda rows: {**rows, "x": "12"}, "str for x, not a list|not a DataFrame"),
        (lambda rows: rows["no_such"], "KeyError: 'no_such'"),
        (lambda rows: pd.DataFrame(rows).drop(columns="x"), "no column 'x'|not a dict"),
        (lambda rows: pd.concat([rows, rows["x"]], axis=1), "column 'x' twice|TypeError"),
    ],
)
def test_a_function_that_is_always_wrong_kills_all(
    mode: Mode, function: Callable[[Any], Any], reason: str
) -> None:
    """Each record is a dead letter that names the view and says what was wrong."""
    stream = stream_of((view_of(mode, ("x", "float64")), function))
    batches = batches_of(stream, [{"shop": "s", "x": 1.0}] * 3, 9)
    assert list(dead_of(batches)) == [0, 1, 2]
    for found in dead_of(batches).values():
        assert found.startswith("view v: ")
        assert any(one in found for one in reason.split("|")), found
    assert stream.newest_us == NOT_YET


@given(st.sets(st.integers(0, 63)), st.integers(0, 64))
def test_looking_for_bad_rows_is_bounded(bad: set[int], count: int) -> None:
    """No more than two calls for each row, and no row is given to more than its logarithm."""
    given: list[int] = []
    calls = 0

    def function(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        nonlocal calls
        calls += 1
        given.extend(rows["n"])
        if bad & set(rows["n"]):
            raise ValueError("bad")
        return rows

    view = view_of("python", ("n", "int64"))
    columns = {name: np.zeros(count) for name in ("x", "is_new", "seen_at", "at")}
    rows = {**columns, "shop": ["s"] * count, "n": list(range(count))}
    done = Transformation(TOPIC, view, function).run(rows, count)
    assert sorted(done.bad) == sorted(i for i in bad if i < count)
    assert done.columns["n"] == [i for i in range(count) if i not in bad]
    assert calls <= max(2 * count - 1, 0)
    assert all(given.count(i) <= 7 for i in range(count))


def test_a_reason_is_one_short_line() -> None:
    """What an exception has to say may be as long as the batch; a letter's reason is not."""

    def function(rows: Any) -> Any:
        raise ValueError("line\n" * 10_000)

    (reason,) = dead_of(
        batches_of(stream_of((view_of("python"), function)), [{"shop": "s"}], 1)
    ).values()
    assert reason.startswith("view v: ValueError: line line")
    assert len(reason) <= 500
    assert "\n" not in reason


class _MuteError(Exception):
    """An error whose own message fails."""

    def __str__(self) -> str:
        raise ValueError("no message")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(0), "view v: SystemExit: 0"),
        (_MuteError(), "view v: _MuteError: a message that cannot be made (ValueError)"),
    ],
)
def test_a_function_cannot_end_the_run(error: BaseException, reason: str) -> None:
    """Calling ``exit``, and an error that cannot even be told, are faults of the record."""

    def ends(_: Any) -> Any:
        raise error

    stream = stream_of((view_of("python"), ends))
    assert dead_of(batches_of(stream, [{"shop": "s"}], 1)) == {0: reason}


def test_memory_is_no_fault_of_a_record() -> None:
    """A function that runs out of memory stops the flow instead of emptying the topic."""

    def function(rows: Any) -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        batches_of(stream_of((view_of("python"), function)), [{"shop": "s"}], 1)


@settings(max_examples=25)
@given(st.permutations(range(6)))
def test_a_sorted_frame_is_put_into_order_again(order: list[int]) -> None:
    """The index that a frame was given tells which row is which, wherever it stands."""
    stream = stream_of((view_of("pandas", ("x", "float64")), lambda rows: rows.iloc[order]))
    rows = [{"shop": f"s{i}", "x": float(i)} for i in range(6)]
    (batch,) = batches_of(stream, rows, 9)
    assert batch.derived["v"]["x"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert batch.derived["v"]["shop"] == [row["shop"] for row in rows]


@settings(max_examples=25)
@given(st.permutations(range(6)))
def test_an_index_of_the_functions_own_says_nothing(numbers: list[int]) -> None:
    """A frame indexed by a column has its rows in the order in which they stand."""
    function: Callable[[Any], Any] = lambda rows: rows.set_index("n", drop=False)  # noqa: E731
    stream = stream_of((view_of("pandas", ("n", "int64")), function))
    (batch,) = batches_of(stream, [{"shop": "s", "n": n} for n in numbers], 9)
    assert batch.derived["v"]["n"] == numbers


def test_integer_keys_are_exact() -> None:
    """A join key that is an integer keeps all its 64 bits through a function."""
    types: tuple[ValueType, ...] = ("int64",)
    aggregates = view_of("pandas", ("x", "float64")).aggregates
    view = View("v", "orders", ("n",), types, aggregates, 0, "", transform="pandas")
    (batch,) = batches_of(stream_of((view, lambda rows: rows)), [{"n": 2**62 + 1, "x": 1.0}, {}], 9)
    assert batch.derived["v"]["n"] == [2**62 + 1, None]


def test_a_time_that_python_cannot_hold_is_bad_alone() -> None:
    """A year past 9999, as binary formats can hold, is a dead letter and spoils no others."""
    columns = {
        "shop": ["s", "s"], "n": [1, 2], "x": np.zeros(2), "is_new": np.zeros(2),
        "seen_at": np.array([1e18, 0.0]), "at": np.zeros(2),
    }  # fmt: skip
    for mode in ("python", "pandas"):
        done = Transformation(TOPIC, view_of(mode, ("n", "int64")), lambda rows: rows).run(
            columns, 2
        )
        assert done.bad == {0: "view v: seen_at is not between the years 1 and 9999"}
        assert done.columns["n"] == [2]


def test_frames_are_for_those_who_use_them() -> None:
    """A view whose function takes lists does not cost the import of what makes frames."""
    code = """
import sys
from contracts.plan import Column, Topic, View
from dataflows.sources.transform import Transformation
topic = Topic("t", (Column("k", "string", False),), "k", 0, "k")
view = View("v", "t", ("k",), ("string",), (), 0, "", transform="python")
assert Transformation(topic, view, dict).run({"k": ["a"]}, 1).columns == {"k": ["a"]}
assert "dataflows.sources.transform_frames" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
