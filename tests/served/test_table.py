"""The table of rows under keys, against a dictionary of lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.served.table import KeyedTable

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(-2, 5), max_size=40)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 30), max_size=10)),
        st.tuples(st.just("reload"), st.just([])),
    ),
    max_size=15,
)


@given(STEPS)
def test_rows_are_found_in_the_order_in_which_they_came(steps: list[tuple[str, list[int]]]) -> None:
    """Adding, removing and reloading leave what a plain list would have."""
    table = KeyedTable([("value", np.int64)], 1_000)
    expected: list[tuple[int, int]] = []
    count = 0
    for action, numbers in steps:
        if action == "add":
            values = list(range(count, count + len(numbers)))
            count += len(numbers)
            table.add(np.array(numbers, np.int64), {"value": values})
            expected += zip(numbers, values, strict=True)
        elif action == "remove":
            gone = {expected[n][1] for n in numbers if n < len(expected)}
            table.remove(table.where(np.isin(table.column("value"), list(gone))).tolist())
            expected = [row for row in expected if row[1] not in gone]
        else:
            fresh = KeyedTable([("value", np.int64)], 1_000)
            fresh.load(table.dump())
            table = fresh
        assert len(table) == len(expected)
        for key in range(-2, 6):
            found = table.column("value")[table.find(key)].tolist()
            assert found == [value for each, value in expected if each == key]
