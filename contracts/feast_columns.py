"""Whole columns of features as Feast's bytes, as ``encode_value`` gives them one by one.

All features are kept as doubles, NaN for null: a boolean as 0 or 1, a string as its place in a list
that comes with the column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from contracts.feast_bytes import FALSE, NULL, TAG_FLOAT64, TAG_INT64, TRUE, encode_value
from contracts.feature_schema import ValueType


def encode_column(
    dtype: ValueType, values: npt.NDArray[np.float64], texts: Sequence[str] = ()
) -> list[bytes]:
    """Feast's bytes of one feature's values.

    Args:
        dtype: of the feature.
        values: float64[n]; NaN is null.
        texts: what the values of a string feature stand for.

    Raises:
        ValueError: a value does not fit, or a string has no UTF-8 form.
    """
    if dtype == "float64":
        return encode_float64_column(np.ascontiguousarray(values))
    if dtype == "int64":
        return encode_int64_column(values)
    if dtype == "bool":
        return encode_bool_column(values)
    return encode_string_column(values, texts)


def encode_float64_column(values: npt.NDArray[np.float64]) -> list[bytes]:
    """``encode_value("float64", v)`` of every value of a column, in bulk. NaN is null."""
    cells = np.empty(len(values), dtype=[("tag", "u1"), ("value", "<f8")])
    cells["tag"] = TAG_FLOAT64
    cells["value"] = values
    encoded: list[bytes] = cells.view("V9").tolist()
    for row in np.flatnonzero(np.isnan(values)).tolist():
        encoded[row] = NULL
    return encoded


def encode_int64_column(
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64],
) -> list[bytes]:
    """``encode_value("int64", v)`` of every value of a column, in bulk. NaN is null.

    Raises:
        ValueError: a float is outside the 64 bit range (infinity too).
    """
    cells, lengths = int64_cells(values)
    width = cells.shape[1]
    encoded: list[bytes] = cells.view(f"V{width}").ravel().tolist()
    for row in np.flatnonzero(lengths < width).tolist():
        encoded[row] = encoded[row][: lengths[row]]
    return encoded


def int64_cells(
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The same side by side: uint8[n, W], and int64[n] how many of its bytes count (null: 0).

    The others are 0. W, at most 11, is what the longest one needs.

    Raises:
        ValueError: as ``encode_int64_column``.
    """
    null = np.isnan(values)
    if np.issubdtype(values.dtype, np.floating):
        known = np.where(null, 0, values)
        if ((known < -(2.0**63)) | (known >= 2.0**63)).any():
            raise ValueError("a value of an int64 feature does not fit 64 bits; use a double")
        numbers = known.astype(np.int64).view(np.uint64)
    else:
        numbers = values.astype(np.int64, copy=False).view(np.uint64)
    width = max(1, -(-int(numbers.max(initial=0)).bit_length() // 7))
    shifted = numbers[:, None] >> (np.arange(width, dtype=np.uint64) * np.uint64(7))
    used = shifted != 0
    used[:, 0] = True
    cells = np.empty((len(numbers), width + 1), dtype=np.uint8)
    cells[:, 0] = TAG_INT64
    cells[:, 1:] = shifted & np.uint64(0x7F)
    cells[:, 1:-1] |= used[:, 1:].astype(np.uint8) << 7
    cells[null] = 0
    return cells, np.where(null, 0, 1 + used.sum(axis=1))


def encode_bool_column(values: npt.NDArray[np.float64]) -> list[bytes]:
    """``encode_value("bool", v)`` of every value of a column, in bulk. NaN is null."""
    cells = (FALSE, TRUE, NULL)
    places = np.where(np.isnan(values), 2, values != 0)
    return [cells[place] for place in places.tolist()]


def encode_string_column(values: npt.NDArray[np.float64], texts: Sequence[str]) -> list[bytes]:
    """``encode_value("string", v)`` of every string of a column; each distinct one is done once.

    Args:
        values: float64[n], places in ``texts``; NaN is null.
        texts: what they stand for.

    Raises:
        ValueError: a value is no place in ``texts``, or a string has no UTF-8 form.
    """
    found, rows = distinct_strings(values, texts)
    cells = [*(encode_value("string", text) for text in found), NULL]
    return [cells[row] for row in rows.tolist()]


def distinct_strings(
    values: npt.NDArray[np.float64], texts: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The strings that occur in a column, each place once, and which of them each row has.

    Args:
        values: float64 of any shape, places in ``texts``; NaN is null.
        texts: far more strings perhaps than the column has.

    Returns:
        k strings, and int64 of the shape of ``values`` with places among them; null has k.

    Raises:
        ValueError: a value is no place in ``texts``.
    """
    known = ~np.isnan(values)
    distinct, inverse = np.unique(values[known], return_inverse=True)
    bad = (distinct < 0) | (distinct >= len(texts)) | (distinct != np.floor(distinct))
    if bad.any():
        raise ValueError(f"{distinct[bad][0]:g} is no place in a list of {len(texts)} strings")
    rows = np.full(values.shape, len(distinct), dtype=np.int64)
    rows[known] = inverse
    return [texts[place] for place in distinct.astype(np.int64).tolist()], rows
