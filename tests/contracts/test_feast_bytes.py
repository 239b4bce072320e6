"""Our key and value bytes against Feast's own functions."""

from __future__ import annotations

import math

import pytest
from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from contracts import feast_bytes

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def keys(draw: st.DrawFn) -> tuple[list[str], list[str], list[str | int]]:
    """Join keys, their types and values."""
    names = draw(NAMES)
    types = [draw(st.sampled_from(["string", "int64"])) for _ in names]
    values: list[str | int] = [draw(TEXT) if t == "string" else draw(INT64) for t in types]
    return names, types, values


def feast_key(names: list[str], _: list[str], values: list[str | int]) -> bytes:
    """The same key by Feast."""
    protos = [Value(string_val=v) if isinstance(v, str) else Value(int64_val=v) for v in values]
    message = EntityKey(join_keys=names, entity_values=protos)
    return bytes(serialize_entity_key(message, entity_key_serialization_version=3))


def feast_value(dtype: str, value: float | str | bool | None) -> bytes:
    """The same value by Feast's protobuf message."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Value().SerializeToString()
    field = {"float64": "double_val", "int64": "int64_val", "bool": "bool_val"}
    message = Value()
    setattr(message, field.get(dtype, "string_val"), value)
    return bytes(message.SerializeToString())


@given(keys())
def test_entity_key_equals_feast(key: tuple[list[str], list[str], list[str | int]]) -> None:
    """A key of any join keys, in any order, has the bytes that Feast gives it."""
    assert feast_bytes.entity_key(*key) == feast_key(*key)


@given(keys())
def test_entity_key_decodes_to_what_feast_reads(
    key: tuple[list[str], list[str], list[str | int]],
) -> None:
    """Decoding gives back the values by name, and Feast can read the same bytes."""
    data = feast_bytes.entity_key(*key)
    assert feast_bytes.decode_entity_key(data) == dict(zip(key[0], key[2], strict=True))
    assert sorted(deserialize_entity_key(data).join_keys) == sorted(key[0])


@given(keys(), st.data())
def test_cut_off_entity_key_is_refused(
    key: tuple[list[str], list[str], list[str | int]], data: st.DataObject
) -> None:
    """Every proper prefix of a key is refused as not a key."""
    whole = feast_bytes.entity_key(*key)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match="not a Feast entity key"):
        feast_bytes.decode_entity_key(whole[:cut])


@pytest.mark.parametrize(
    ("types", "values", "error", "match"),
    [
        (["int64"], ["7"], TypeError, "'k' must be an integer"),
        (["int64"], [True], TypeError, "'k' must be an integer"),
        (["string"], [7], TypeError, "'k' must be a string"),
        (["int64"], [2**63], ValueError, "does not fit"),
        (["float64"], [1.0], ValueError, "use one of string, int64"),
        (["string"], ["a", "b"], ValueError, "2 values for the 1 join keys"),
    ],
)
def test_bad_entity_key_is_refused_by_name(
    types: list[str], values: list[str | int], error: type[Exception], match: str
) -> None:
    """A value that does not fit its join key is refused naming it, not stored under a wrong key."""
    with pytest.raises(error, match=match):
        feast_bytes.entity_key(["k"], types, values)


VALUES = st.one_of(
    st.tuples(st.just("float64"), st.floats() | st.none()),
    st.tuples(st.just("int64"), INT64 | st.none()),
    st.tuples(st.just("bool"), st.booleans() | st.none()),
    st.tuples(st.just("string"), TEXT | st.none()),
)


@given(VALUES)
def test_value_equals_feast_and_comes_back(
    typed: tuple[str, float | int | str | bool | None],
) -> None:
    """A value has Feast's bytes and decodes to itself, with its type; NaN is null."""
    dtype, value = typed
    data = feast_bytes.encode_value(dtype, value)  # type: ignore[arg-type]
    assert data == feast_value(dtype, value)
    decoded = feast_bytes.decode_value(data)
    if isinstance(value, float) and math.isnan(value):
        assert decoded is None
    else:
        assert decoded == value
        assert type(decoded) is type(value)


@given(
    st.sampled_from(["int32_val", "unix_timestamp_val", "float_val", "null_val"]),
    st.integers(-(2**31), 2**31 - 1),
)
def test_other_scalar_types_of_feast_are_read(field: str, number: int) -> None:
    """int32, timestamp, float and explicit null, which others may write, decode too."""
    value = 0 if field == "null_val" else number
    message = Value()
    setattr(message, field, value)
    expected = None if field == "null_val" else getattr(message, field)
    assert feast_bytes.decode_value(message.SerializeToString()) == expected


@pytest.mark.parametrize("data", [b"\x29abc", b"\x20\x80", b"\x12\x05ab", b"\x38", b"\x5a\x00"])
def test_broken_value_is_refused(data: bytes) -> None:
    """Bytes that are cut off, or a list, raise ValueError that shows them."""
    with pytest.raises(ValueError, match="Feast value"):
        feast_bytes.decode_value(data)
