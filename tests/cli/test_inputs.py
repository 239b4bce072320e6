"""key=value words of the command line."""

from __future__ import annotations

import pytest

from cli.inputs import Scalar, as_type, parse_inputs


@pytest.mark.parametrize(
    ("word", "dtype", "value"),
    [
        ("a=123", "string", "123"),
        ("a=123", "int64", 123),
        ("a=-7", "float64", -7),
        ("a=1.5", "float64", 1.5),
        ("a=1e3", "float64", 1000.0),
        ("a=1.5", "int64", "1.5"),
        ("a=true", "bool", True),
        ("a=true", "string", "true"),
        ("a=1", "bool", "1"),
        ("a=null", "string", None),
        ("a=", "string", ""),
        ("a=x=y", "string", "x=y"),
        ("a=abc", "float64", "abc"),
        ("a=1_0", "int64", "1_0"),
        ("a=9223372036854775808", "int64", "9223372036854775808"),
        ("a=123", None, 123),
        ("a=1.0", None, 1.0),
        ("a=false", None, False),
        ("a=N123", None, "N123"),
        ('a:="123"', "int64", "123"),
        ("a:=123", "string", 123),
        ('a:="null"', "string", "null"),
        ("a:=null", "string", None),
    ],
)
def test_values_take_the_type_of_their_input(word: str, dtype: str | None, value: Scalar) -> None:
    """key=value becomes what the input is, key:=JSON stays what it says."""
    given = as_type(parse_inputs([word])["a"], dtype)
    assert given == value
    assert type(given) is type(value)
