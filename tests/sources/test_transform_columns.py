"""What a view's function may give as a column, and what is made of it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contracts.plan import ColumnType
from dataflows.sources.columns import BadColumnError
from dataflows.sources.transform_columns import taken_column

_NAN = float("nan")
_HOUR_US = 3_600_000_000
_NAIVE = datetime.fromisoformat("1970-01-01T01:00:00")
_ZONED = datetime.fromisoformat("1970-01-01T01:00:00+01:00")


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("string", ["a", None, _NAN, pd.NA, "", "é\0"], ["a", None, None, None, "", "é\0"]),
        ("string", [None, None], [None, None]),
        ("string", np.array(["a", "b"]), ["a", "b"]),
        ("string", pd.Series(["a", None, "a"], dtype="category"), ["a", None, "a"]),
        ("string", pd.Series(["a", None], dtype="string"), ["a", None]),
        ("int64", [1, None, 2**63 - 1, np.int8(3)], [1, None, 2**63 - 1, 3]),
        ("int64", [1.0, _NAN, 3.0], [1, None, 3]),
        ("int64", [True, False], [1, 0]),
        ("int64", [_NAN, None], [None, None]),
        ("int64", pd.Series([1, None]), [1, None]),
        ("int64", pd.Series([2**60 + 1, None], dtype="Int64"), [2**60 + 1, None]),
        ("float64", (1, None, 2.5, _NAN), [1.0, None, 2.5, None]),
        ("float64", [2**60 + 1], [float(2**60 + 1)]),
        ("float64", [True, None], [1.0, None]),
        ("float64", pd.Series([True, None], dtype="boolean"), [1.0, None]),
        ("float64", np.array([1, 2], np.uint8), [1.0, 2.0]),
        ("bool", [True, None, np.False_], [1.0, None, 0.0]),
        ("bool", pd.Series([True, None]), [1.0, None]),
        ("timestamp", [_NAIVE, None, pd.NaT], [_HOUR_US, None, None]),
        (
            "timestamp",
            [_ZONED, _NAIVE],
            [0, _HOUR_US],
        ),
        ("timestamp", pd.to_datetime(pd.Series(["1970-01-01T01:00:00.0000019"])), [_HOUR_US + 1]),
        ("timestamp", np.array(["1970-01-01T01", "NaT"], "M8[s]"), [_HOUR_US, None]),
    ],
)
def test_results_of_many_kinds_are_taken(kind: ColumnType, values: Any, wanted: list[Any]) -> None:
    """Lists, arrays and series whose values are of the right kind, whatever they are made of."""
    taken = taken_column("c", kind, values)
    assert isinstance(taken, list) == (kind in ("string", "int64"))
    found = taken if isinstance(taken, list) else taken.tolist()
    assert [
        None if isinstance(value, float) and math.isnan(value) else value for value in found
    ] == wanted


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", [1]), ("string", ["a", 1]), ("string", [b"a"]), ("string", ["\ud800"]),
        ("string", [["a"]]), ("string", pd.Series([1.5])), ("string", [True]),
        ("int64", ["3"]), ("int64", [3.5]), ("int64", [2**63]), ("int64", [math.inf]),
        ("int64", [2.0**63]), ("int64", [_NAIVE]), ("int64", pd.Series([1, 2.5])),
        ("float64", ["1.5"]), ("float64", [math.inf]), ("float64", pd.Series([-math.inf])),
        ("float64", [2**70]), ("float64", np.zeros((2, 2))), ("float64", [1j]),
        ("float64", {1.0, 2.0}), ("float64", (i for i in range(3))), ("float64", [object()]),
        ("bool", [1]), ("bool", ["true"]), ("bool", [0.0]),
        ("timestamp", [1]), ("timestamp", ["2020-01-01"]), ("timestamp", [1.5]),
        ("timestamp", np.array([2**62], "M8[s]")),
    ],
)  # fmt: skip
def test_results_of_the_wrong_kind_are_refused(kind: ColumnType, values: Any) -> None:
    """Nothing is guessed: no text becomes a number, no number a text, a time or a truth."""
    with pytest.raises(BadColumnError, match=r"must be|cannot be made|not a list|gave infinity"):
        taken_column("c", kind, values)
