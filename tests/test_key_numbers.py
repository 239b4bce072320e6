"""Numbers of keys without Python's objects, beside a dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feature_schema import ValueType
from dataflows.key_numbers import KeyNumbers
from dataflows.packed_columns import IntegerColumn, TextColumn

_TEXTS = st.one_of(st.none(), st.text("ab\0ü", max_size=20), st.sampled_from(["", "a", "aaaaaaaa"]))
_INTEGERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-2, 2))
_KINDS: list[tuple[ValueType, ...]] = [
    ("string",), ("int64",), ("string", "int64"), ("string", "string", "int64"),
]  # fmt: skip


@pytest.mark.parametrize("kinds", _KINDS, ids="-".join)
@given(data=st.data())
def test_numbers_are_those_of_first_appearance(kinds: tuple[ValueType, ...], data: Any) -> None:
    """Equal keys have one number, others another; new ones count on; a null in a key has none."""
    row = st.tuples(*(_TEXTS if kind == "string" else _INTEGERS for kind in kinds))
    numbers = KeyNumbers(kinds)
    known: dict[Any, int] = {}
    for rows in data.draw(st.lists(st.lists(row, max_size=30), max_size=4)):
        columns = [
            TextColumn.of([one[i] for one in rows])
            if kind == "string"
            else IntegerColumn.of([one[i] for one in rows])
            for i, kind in enumerate(kinds)
        ]
        found = numbers.of(columns)
        new = []
        for place, one in enumerate(rows):
            if None not in one and one not in known:
                known[one] = len(known)
                new.append(place)
        assert found.numbers.tolist() == [known.get(one, -1) for one in rows]
        assert found.new.tolist() == new


def test_many_keys_keep_their_numbers_as_the_table_grows() -> None:
    """A hundred thousand keys are found again, in whatever order, whoever came between."""
    numbers = KeyNumbers(("string",))
    names = [f"card-{i}" for i in range(100_000)]
    for begin in range(0, len(names), 7_000):
        numbers.of([names[begin : begin + 7_000]])
    order = np.random.default_rng(1).permutation(len(names))
    found = numbers.of([[names[i] for i in order.tolist()]])
    assert np.array_equal(found.numbers, order)
    assert len(found.new) == 0
    assert len(numbers) == len(names)


@given(st.lists(_TEXTS, max_size=20), st.lists(_INTEGERS, max_size=20), st.data())
def test_packed_columns_are_their_values(
    texts: list[str | None], integers: list[int | None], data: Any
) -> None:
    """Rows, slices, chosen rows and columns put together have the values of the lists."""
    for values, kind in ((texts, TextColumn), (integers, IntegerColumn)):
        column: Any = kind.of(values)  # type: ignore[arg-type]
        assert column == values
        assert [column[row] for row in range(len(values))] == values
        assert column[1:3] == values[1:3]
        assert column.is_there.tolist() == [value is not None for value in values]
        if values:
            rows = data.draw(st.lists(st.integers(0, len(values) - 1)))
            taken = column[np.array(rows, np.int64)]
            assert taken.tolist() == [values[row] for row in rows]
            assert kind.join([column, taken]) == [*values, *taken]
    assert np.array_equal(
        np.asarray(IntegerColumn.of(integers), dtype=np.float64),
        np.array(integers, dtype=np.float64),
        equal_nan=True,
    )
