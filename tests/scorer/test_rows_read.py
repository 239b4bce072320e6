"""Inputs read from messages by column are those that are read one by one, and checked alike."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import messages
from scorer.messages import inputs_of, rows_of
from scorer.v1 import scorer_pb2
from scorer.vector_plan import GoodInputs, plan_vector
from tests.scorer.shop import SCHEMA

PLAN = plan_vector(SCHEMA)
VALUES: dict[str, st.SearchStrategy[dict[str, float | int | str]]] = {
    "float64": st.builds(lambda value: {"double_value": value}, st.floats()),
    "int64": st.builds(lambda value: {"int64_value": value}, st.integers(-2, 2)),
    "string": st.builds(lambda value: {"string_value": value}, st.text(max_size=2)),
    "bool": st.builds(lambda value: {"bool_value": value}, st.booleans()),
}
NULL = st.just({"null_value": 0})


@st.composite
def rows(draw: st.DrawFn) -> list[scorer_pb2.Row]:
    """Rows for the plan; now and then a value is null, of another type, or not there."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        row = scorer_pb2.Row()
        for name, kinds in PLAN.input_types.items():
            how = draw(st.integers(0, 30))
            if how == 0:
                continue
            other = st.one_of(NULL, *VALUES.values())
            given = draw(other if how == 1 else VALUES[kinds[0]])
            row.inputs[name].CopyFrom(scorer_pb2.Value(**given))
        found.append(row)
    return found


@given(rows())
def test_by_column_or_one_by_one(given_rows: list[scorer_pb2.Row]) -> None:
    """The values are the same; those known as good are there, of their types, and finite."""
    with pytest.MonkeyPatch.context() as patch:
        # Two rows at a time.
        patch.setattr(messages, "_INPUTS_PER_TURN", 2 * len(PLAN.input_types))
        found = asyncio.run(rows_of(given_rows, PLAN))
    alone = [inputs_of(number, row.inputs) for number, row in enumerate(given_rows)]
    # NaN is not equal to itself.
    assert [repr(sorted(row.items())) for row in found] == [
        repr(sorted(row.items())) for row in alone
    ]
    for start in range(0, len(given_rows), 2):
        good = all(map(is_good, alone[start : start + 2]))
        assert {type(row) is GoodInputs for row in found[start : start + 2]} == {good}


def is_good(row: dict[str, float | int | str | bool | None]) -> bool:
    """Whether a row is as the plan wants it."""
    types = {"float64": float, "int64": int, "string": str, "bool": bool}
    return row.keys() == PLAN.input_types.keys() and all(
        type(value) is types[PLAN.input_types[name][0]]
        and not (isinstance(value, float) and value - value != 0)
        for name, value in row.items()
    )
