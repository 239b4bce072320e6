"""Label expressions against Python's own eval."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.learning.label_expression import LabelExpressionError, compile_label

COLUMNS = ("a", "b", "arr_delay")
LEAVES = st.sampled_from([*COLUMNS, "0", "1", "15", "2.5"])


def combine(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions one level deeper."""
    binary = st.sampled_from(["+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=", "and", "or"])
    return st.one_of(
        st.builds("({} {} {})".format, part, binary, part),
        st.builds("({0} < {1} <= {2})".format, part, part, part),
        st.builds("(not {})".format, part),
        st.builds("(-{})".format, part),
        st.builds("(+{})".format, part),
    )


EXPRESSIONS = st.recursive(LEAVES, combine, max_leaves=12).filter(
    lambda text: not set(COLUMNS).isdisjoint(re.findall(r"\w+", text)) and len(text) <= 500
)
VALUES = st.sampled_from([0.0, 1.0, -1.0, 15.0, 15.5, 2.5, -7.25])
TABLE = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=6)


def python_value(text: str, row: dict[str, float]) -> float:
    """What Python makes of it; dividing by zero has no value."""
    try:
        return float(eval(text, {"__builtins__": {}}, row))
    except ZeroDivisionError:
        return np.nan


@given(EXPRESSIONS, TABLE)
def test_equals_python(text: str, table: list[tuple[float, float, float]]) -> None:
    """Every allowed expression has Python's value on each row, short circuits included."""
    columns = dict(zip(COLUMNS, np.array(table).T, strict=True))
    expression = compile_label(text, COLUMNS)
    expected = [python_value(text, dict(zip(COLUMNS, row, strict=True))) for row in table]
    np.testing.assert_array_equal(expression.evaluate(columns), expected)


@given(EXPRESSIONS)
def test_missing_input_gives_missing_label(text: str) -> None:
    """A row with NaN in any column that the expression names is NaN, even if Python skips it."""
    expression = compile_label(text, COLUMNS)
    for missing in expression.columns:
        row = {name: np.array([np.nan if name == missing else 1.0]) for name in COLUMNS}
        assert np.isnan(expression.evaluate(row)).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b != 0 and a / b > 1", [0.0, 1.0]),
        ("b == 0 or a / b > 1", [1.0, 1.0]),
        ("0 < b < a / b", [0.0, 1.0]),
        ("a / b > 1", [math.nan, 1.0]),
        ("a / b > 1 or a > 0", [math.nan, 1.0]),
    ],
)
def test_a_division_by_zero_counts_only_where_python_gets_to_it(
    text: str, expected: list[float]
) -> None:
    """A guard before a division works as in Python; without one the label is missing."""
    columns = {"a": np.array([4.0, 4.0]), "b": np.array([0.0, 1.0])}
    np.testing.assert_array_equal(compile_label(text).evaluate(columns), expected)


def test_columns_stand_in_order_of_first_use() -> None:
    """``columns`` names each column once, in the order of the text."""
    assert compile_label("b > 1 and a + b < arr_delay").columns == ("b", "a", "arr_delay")


def test_bare_column_need_not_be_a_python_name() -> None:
    """A known column stands for itself, whatever it is called."""
    expression = compile_label(" is-late ", ["is-late"])
    assert expression.columns == ("is-late",)
    assert expression.evaluate({"is-late": np.array([1.0, 0.0])}).tolist() == [1.0, 0.0]


def test_no_rows() -> None:
    """An empty batch gives an empty result."""
    assert compile_label("a / 2 > 1").evaluate({"a": np.empty(0)}).shape == (0,)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("abs(a) > 1", "abs(a)"),
        ("a.real > 1", "a.real"),
        ("a[0] > 1", "a[0]"),
        ("a ** 2 > 1", "a ** 2"),
        ("a % 2", "a % 2"),
        ("a // 2", "a // 2"),
        ("a in b", "a in b"),
        ("a is b", "a is b"),
        ("a if b else 1", "a if b else 1"),
        ("(lambda: a)", "lambda: a"),
        ("(c := a)", "c := a"),
        ("a == 'x'", "'x'"),
        ("a == True", "True"),
        ("a == None", "None"),
        ("~a", "~a"),
        ("a > 1e999", "1e999"),
        ("a > 1j", "1j"),
        ("[a]", "[a]"),
        ("{a}", "{a}"),
        ("late > 1", "late"),
        ("a >", "a >"),
        ("a; b", "a; b"),
        ("", ""),
        ("1 < 2", "1 < 2"),
        ("a + " + "(" * 300 + "a" + ")" * 300, "605 characters"),
        ("(" * 240 + "a" + ")" * 240, "nested"),
        ("a\0", "null"),
    ],
)
def test_refusal_names_the_part(text: str, named: str) -> None:
    """Whatever is not on the list is refused, and the message quotes it."""
    with pytest.raises(LabelExpressionError) as caught:
        compile_label(text, COLUMNS)
    assert named in str(caught.value)
