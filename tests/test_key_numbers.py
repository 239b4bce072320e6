"""Numbers of keys without Python's objects, beside a dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st

from contracts.feature_schema import ValueType
from dataflows.key_numbers import KeyNumbers
from dataflows.packed_columns import IntegerColumn, TextColumn

_TEXTS = st.one_of(st.none(), st.text("ab\0ü", max_size=20), st.sampled_from(["", "a", "aaaaaaaa"]))
_INTEGERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-2, 2))
_KINDS: list[tuple[ValueType, ...]] = [
    ("string",), ("int64",), ("string", "int64"), ("string", "string", "int64"),
]  # fmt: skip


# Rows are drawn once for keys of all kinds.
@given(drawn=st.lists(st.lists(st.tuples(_TEXTS, _TEXTS, _INTEGERS), max_size=30), max_size=4))
def test_numbers_are_those_of_first_appearance(drawn: list[list[tuple[Any, ...]]]) -> None:
    """Equal keys have one number, others another; new ones count on; a null in a key has none."""
    for kinds in _KINDS:
        note(kinds)
        # Strings are the first of what was drawn, an integer is the last.
        columns = [i if kind == "string" else 2 for i, kind in enumerate(kinds)]
        numbers = KeyNumbers(kinds)
        known: dict[Any, int] = {}
        for rows in ([tuple(row[i] for i in columns) for row in rows] for rows in drawn):
            found = numbers.of([[one[i] for one in rows] for i in range(len(kinds))])
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


@given(st.lists(_TEXTS, max_size=20))
def test_a_column_of_texts_has_their_bytes(texts: list[str | None]) -> None:
    """Each text lies where its column says, and a null is told from an empty text."""
    column = TextColumn.of(texts)
    sizes = np.maximum(column.sizes, 0).tolist()
    places = zip(column.begins.tolist(), sizes, column.is_there.tolist(), strict=True)
    found = [column.data[at : at + size].decode() if there else None for at, size, there in places]
    assert found == texts


@given(st.lists(_INTEGERS, max_size=20))
def test_a_column_of_integers_has_them(integers: list[int | None]) -> None:
    """All 64 bits of each, and a null is told from 0."""
    column = IntegerColumn.of(integers)
    places = zip(column.integers.tolist(), column.is_there.tolist(), strict=True)
    assert [value if there else None for value, there in places] == integers
