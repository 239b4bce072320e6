"""The bulk encoders give what the encoder of single values gives, which is what Feast's gives."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts import feast_columns
from contracts.feast_bytes import encode_value

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.floats(), max_size=50))
def test_float_column_equals_single_values(values: list[float]) -> None:
    """The bulk encoder gives value by value what the single encoder gives."""
    expected = [encode_value("float64", value) for value in values]
    assert feast_columns.encode_float64_column(np.array(values, dtype=np.float64)) == expected


@given(st.lists(st.one_of(st.integers(-300, 70_000), INT64), max_size=50))
@settings(max_examples=300)
def test_int_column_equals_single_values(values: list[int]) -> None:
    """The bulk encoder of integers gives value by value what the single encoder gives."""
    expected = [encode_value("int64", value) for value in values]
    assert feast_columns.encode_int64_column(np.array(values, dtype=np.int64)) == expected


@given(st.lists(st.one_of(st.integers(-(2**53), 2**53), st.just(math.nan)), max_size=50))
def test_int_column_of_doubles_has_nulls_for_nan(values: list[float]) -> None:
    """Whole numbers held as doubles are encoded as integers and NaN as null."""
    expected = [encode_value("int64", value) for value in values]
    assert feast_columns.encode_int64_column(np.array(values, dtype=np.float64)) == expected


def test_int_column_refuses_what_does_not_fit() -> None:
    """Infinity in an integer feature is an error, not a wrong number."""
    with pytest.raises(ValueError, match="does not fit 64 bits"):
        feast_columns.encode_int64_column(np.array([1.0, math.inf]))


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, math.nan]), max_size=20))
def test_bool_column_equals_single_values(values: list[float]) -> None:
    """Zero is false, NaN is null and one is true, value by value."""
    expected = [
        encode_value("bool", None if math.isnan(value) else bool(value)) for value in values
    ]
    assert feast_columns.encode_bool_column(np.array(values, dtype=np.float64)) == expected


TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)


@given(st.lists(TEXTS | st.none(), max_size=30), st.lists(TEXTS, max_size=5), st.randoms())
@example(["", None, "", "a\0b", "\0", "東京🗼" * 50], [""], Random(0))
def test_string_column_equals_single_values(
    values: list[str | None], others: list[str], random: Random
) -> None:
    """Strings by their places in any list give value by value what the single encoder gives."""
    texts = [*values, *others, *values]
    random.shuffle(texts)
    known = [text for text in texts if text is not None]
    codes = [
        math.nan if v is None else random.choice([i for i, t in enumerate(known) if t == v])
        for v in values
    ]
    expected = [encode_value("string", value) for value in values]
    column = np.array(codes, dtype=np.float64)
    assert feast_columns.encode_string_column(column, known) == expected
    assert feast_columns.encode_column("string", column, known) == expected


@pytest.mark.parametrize("code", [-1.0, 2.0, 0.5, math.inf])
def test_a_code_without_a_string_is_an_error(code: float) -> None:
    """A value that is no place in the list is refused, not taken from the list's other end."""
    with pytest.raises(ValueError, match="is no place in a list of 2 strings"):
        feast_columns.encode_string_column(np.array([0.0, code]), ["a", "b"])


def test_each_distinct_string_is_encoded_once() -> None:
    """Rows with one string share its bytes, so a long one is held once."""
    long = "x" * 1_000_000
    cells = feast_columns.encode_string_column(np.array([1.0, 0.0, 1.0]), ["a", long])
    assert cells[0] is cells[2]
    assert cells[0] == encode_value("string", long)
