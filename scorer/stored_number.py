"""Stored bytes as the numbers that a vector holds."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from contracts.feast_bytes import decode_value
from scorer.errors import StoreUnavailableError

_FLOAT64 = struct.Struct("<d")
_FLOAT64_TAG = 0x29
_INT64_TAG = 0x20


def stored_numbers(
    view: str, features: Sequence[str], cells: Sequence[bytes | None]
) -> list[float | None]:
    """Each feature's stored value as a double; booleans as 0.0 and 1.0.

    None is null, NaN, or no value at all.

    Raises:
        StoreUnavailableError: bytes are broken, or hold text; the text names the feature.
    """
    numbers: list[float | None] = []
    for feature, data in zip(features, cells, strict=True):
        # A scorer decodes little else than doubles and small counts: three times as fast here.
        if data and data[0] == _FLOAT64_TAG and len(data) == 9:
            value = _FLOAT64.unpack_from(data, 1)[0]
            numbers.append(value if value == value else None)  # NaN differs from itself
        elif data and data[0] == _INT64_TAG and len(data) == 2:
            numbers.append(float(data[1]))
        elif data and data[0] == _INT64_TAG and len(data) == 3:
            numbers.append(float(data[1] & 0x7F | data[2] << 7))
        else:
            numbers.append(_number(view, feature, data))
    return numbers


def _number(view: str, feature: str, data: bytes | None) -> float | None:
    if not data:
        return None
    try:
        value = decode_value(data)
    except ValueError as error:
        raise StoreUnavailableError(f"feature {view}:{feature} cannot be read: {error}") from error
    if isinstance(value, str):
        raise StoreUnavailableError(
            f"feature {view}:{feature} holds text ({value!r}); a model reads numbers: take the"
            " feature out of its feature service or make it a number"
        )
    return None if value is None or value != value else float(value)
