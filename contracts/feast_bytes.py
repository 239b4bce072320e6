"""Feast's bytes for entity keys (version 3) and values, without importing Feast or protobuf.

A key is ``<u32 count>``, per join key in the order of their names ``<u32 2><u32 length>name``, then
per value ``<u32 type><u32 length>bytes``, all little endian. A value is the protobuf message
``feast.types.Value``: one tag byte and the payload; a null is the empty message. NaN is null
everywhere here, as it is when Feast itself turns a data frame into values.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from contracts.feature_schema import ValueType

KEY_TYPES = ("string", "int64")

TAG_INT64, TAG_FLOAT64 = 0x20, 0x29
NULL, TRUE, FALSE = b"", b"\x38\x01", b"\x38\x00"

_STRING_TYPE = 2
_INT64_TYPE = 4

_TAG_STRING = 0x12
_TAG_INT32 = 0x18
_TAG_FLOAT32 = 0x35
_TAG_BOOL = 0x38
_TAG_TIMESTAMP = 0x40
_VARINT_TAGS = (TAG_INT64, _TAG_INT32, _TAG_TIMESTAMP)
_NULL_FIELD = b"\x98\x01"

_TWO_U32 = struct.Struct("<II")
_INT64_KEY = struct.Struct("<IIq")
_FLOAT64 = struct.Struct("<d")
_FLOAT32 = struct.Struct("<f")
_TAGGED_FLOAT64 = struct.Struct("<Bd")
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

Scalar = float | str | bool


@lru_cache(maxsize=1024)
def _key_layout(
    join_keys: tuple[str, ...], types: tuple[str, ...]
) -> tuple[bytes, tuple[tuple[int, bool], ...]]:
    """The part of a key that its values do not change, and (position, is string) per value."""
    if len(join_keys) != len(types):
        raise ValueError(f"{len(join_keys)} join keys {join_keys} but {len(types)} types {types}")
    if len(set(join_keys)) != len(join_keys):
        raise ValueError(f"join key named twice in {join_keys}; give each its own name")
    parts = [struct.pack("<I", len(join_keys))]
    order = []
    for name, position in sorted((name, i) for i, name in enumerate(join_keys)):
        if types[position] not in KEY_TYPES:
            raise ValueError(
                f"join key {name!r} has type {types[position]!r}; use one of {', '.join(KEY_TYPES)}"
            )
        encoded = name.encode()
        parts += [_TWO_U32.pack(_STRING_TYPE, len(encoded)), encoded]
        order.append((position, types[position] == "string"))
    return b"".join(parts), tuple(order)


def entity_key(
    join_keys: Sequence[str], types: Sequence[str], values: Sequence[str | int]
) -> bytes:
    """Feast's serialized entity key, version 3.

    Args:
        join_keys: names, in any order; they are sorted here together with their values.
        types: ``string`` or ``int64`` for each join key.
        values: one value for each join key.

    Raises:
        ValueError: a count does not match, a type is unknown or an int does not fit 64 bits.
        TypeError: a value is not of its join key's type.
    """
    prefix, order = _key_layout(tuple(join_keys), tuple(types))
    if len(values) != len(order):
        raise ValueError(f"{len(values)} values for the {len(order)} join keys {tuple(join_keys)}")
    parts = [prefix]
    for position, is_string in order:
        value = values[position]
        if is_string:
            if not isinstance(value, str):
                raise TypeError(_wrong_type(join_keys[position], "a string", value))
            encoded = value.encode()
            parts += [_TWO_U32.pack(_STRING_TYPE, len(encoded)), encoded]
        else:
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise TypeError(_wrong_type(join_keys[position], "an integer", value))
            if not _INT64_MIN <= value <= _INT64_MAX:
                raise ValueError(f"join key {join_keys[position]!r}: {value} does not fit 64 bits")
            parts.append(struct.pack("<IIq", _INT64_TYPE, 8, value))
    return b"".join(parts)


def entity_key_maker(
    join_keys: Sequence[str], types: Sequence[str]
) -> Callable[[Sequence[str | int]], bytes]:
    """``entity_key`` of these join keys, as a function of values that are of their types already.

    Raises:
        ValueError: as ``entity_key``; the function does for an int that does not fit 64 bits.
    """
    prefix, order = _key_layout(tuple(join_keys), tuple(types))
    if order == ((0, True),):
        return lambda values: _string_key(prefix, values[0])  # type: ignore[arg-type]
    if order == ((0, False),):
        return lambda values: _int64_key(prefix, values[0])  # type: ignore[arg-type]
    names, kinds = tuple(join_keys), tuple(types)
    return lambda values: entity_key(names, kinds, values)


def _string_key(prefix: bytes, value: str) -> bytes:
    encoded = value.encode()
    return prefix + _TWO_U32.pack(_STRING_TYPE, len(encoded)) + encoded


def _int64_key(prefix: bytes, value: int) -> bytes:
    try:
        return prefix + _INT64_KEY.pack(_INT64_TYPE, 8, value)
    except struct.error:
        raise ValueError(f"{value} does not fit 64 bits") from None


def _wrong_type(name: str, wanted: str, value: object) -> str:
    return f"join key {name!r} must be {wanted}, not {type(value).__name__} ({value!r})"


def decode_entity_key(key: bytes) -> dict[str, str | int]:
    """Join key name -> value of a serialized key; ``entity_key`` is its inverse.

    Raises:
        ValueError: the bytes are not a version 3 key of string and int64 values.
    """
    try:
        (count,) = struct.unpack_from("<I", key, 0)
        offset = 4
        fields: list[tuple[int, bytes]] = []
        while offset < len(key):
            kind, length = _TWO_U32.unpack_from(key, offset)
            offset += 8
            if offset + length > len(key):
                raise ValueError("a field is cut off")
            fields.append((kind, key[offset : offset + length]))
            offset += length
        if len(fields) != 2 * count:
            raise ValueError(f"{len(fields)} fields for {count} join keys")
        values = [_key_value(kind, payload) for kind, payload in fields[count:]]
        return dict(zip((name.decode() for _, name in fields[:count]), values, strict=True))
    except (struct.error, ValueError) as error:
        raise ValueError(f"not a Feast entity key (version 3): {key!r}: {error}") from error


def _key_value(kind: int, payload: bytes) -> str | int:
    if kind == _STRING_TYPE:
        return payload.decode()
    if kind == _INT64_TYPE:
        return int.from_bytes(payload, "little", signed=True)
    raise ValueError(f"value type {kind} is neither string (2) nor int64 (4)")


def encode_value(dtype: ValueType, value: Scalar | None) -> bytes:
    """Feast's bytes of one value; None and NaN give the null value ``b""``.

    Raises:
        ValueError: ``dtype`` is unknown or an int does not fit 64 bits.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NULL
    if dtype == "float64":
        return _TAGGED_FLOAT64.pack(TAG_FLOAT64, float(value))
    if dtype == "int64":
        whole = int(value)
        if not _INT64_MIN <= whole <= _INT64_MAX:
            raise ValueError(f"{value!r} does not fit a 64 bit integer")
        return bytes((TAG_INT64,)) + _varint(whole & 0xFFFF_FFFF_FFFF_FFFF)
    if dtype == "bool":
        return TRUE if value else FALSE
    if dtype == "string":
        encoded = str(value).encode()
        return bytes((_TAG_STRING,)) + _varint(len(encoded)) + encoded
    raise ValueError(f"value type {dtype!r} is unknown; use float64, int64, bool or string")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_value(data: bytes) -> float | int | str | bool | None:
    """The value in Feast's bytes; None for a null.

    Raises:
        ValueError: the bytes are broken or hold a list, a map or another type without a number.
    """
    if not data or data.startswith(_NULL_FIELD):
        return None
    tag = data[0]
    try:
        if tag == TAG_FLOAT64:
            return float(_FLOAT64.unpack_from(data, 1)[0])
        if tag in _VARINT_TAGS:
            number, _ = _read_varint(data, 1)
            return number - 2**64 if number > _INT64_MAX else number
        if tag == _TAG_BOOL:
            return data[1] != 0
        if tag == _TAG_STRING:
            length, start = _read_varint(data, 1)
            if start + length > len(data):
                raise ValueError("the text is cut off")
            return data[start : start + length].decode()
        if tag == _TAG_FLOAT32:
            return float(_FLOAT32.unpack_from(data, 1)[0])
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"not a Feast value: {data!r}: {error}") from error
    raise ValueError(f"a Feast value of a type that is not supported (tag {tag:#x}): {data!r}")


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """(number, offset behind it)."""
    number = shift = 0
    while True:
        byte = data[offset]
        offset += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, offset
        shift += 7
