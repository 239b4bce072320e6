"""Stored bytes as the numbers that a vector holds, many at once."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.category import category_code
from contracts.feast_bytes import TAG_FLOAT64, decode_value
from scorer.errors import StoreUnavailableError

Row = Sequence[bytes | None]

_DOUBLE = np.dtype([("tag", "u1"), ("value", "<f8")])
_BYTES = _DOUBLE.itemsize
_TAG: Final = bytes([TAG_FLOAT64])
_TAGGED = struct.Struct("<Bd")
_NULL = _TAGGED.pack(TAG_FLOAT64, float("nan"))
_KNOWN_MAX = 65_536


class StoredNumbers:
    """Turns cells into doubles. Keeps what cells that are no doubles mean: small counts recur."""

    def __init__(self) -> None:
        """Know nulls only."""
        self._known: dict[bytes | None, bytes] = {None: _NULL, b"": _NULL}
        self._texts: dict[bytes | None, bytes] = {None: _NULL, b"": _NULL}

    def read(self, view: str, features: Sequence[str], rows: Sequence[Row]) -> NDArray[np.float64]:
        """float64[rows, features]: each cell as a double; booleans are 0.0 and 1.0, nulls NaN.

        Raises:
            StoreUnavailableError: bytes are broken, or hold text; the text names the feature.
        """
        found = doubles_of(rows, len(rows) * len(features))
        if found is None:
            data = self._as_doubles(view, features, rows)
            found = np.frombuffer(data, _DOUBLE)["value"]
        return found.reshape(len(rows), len(features))

    def coded(self, view: str, features: Sequence[str], texts: Sequence[int], row: Row) -> Row:
        """The row with doubles, their codes, in the place of texts.

        Args:
            view: name of the view, for messages.
            features: names of the row's features.
            texts: places of those that are texts.
            row: a cell for each feature.

        Raises:
            StoreUnavailableError: one of these cells is broken, or holds no text.
        """
        cells = list(row)
        for place in texts:
            cell = cells[place]
            code = self._texts.get(cell)
            if code is None:
                if len(self._texts) > _KNOWN_MAX:
                    self._texts = {None: _NULL, b"": _NULL}
                number = _code(view, features[place], cell)
                code = self._texts[cell] = _TAGGED.pack(TAG_FLOAT64, number)
            cells[place] = code
        return cells

    def _as_doubles(self, view: str, features: Sequence[str], rows: Sequence[Row]) -> bytes:
        known = self._known
        count = len(rows) * len(features)
        data = b"".join([known.get(cell, cell) or b"" for row in rows for cell in row])
        if len(data) == count * _BYTES and data[::_BYTES] == _TAG * count:
            return data
        if len(known) > _KNOWN_MAX:
            self._known = known = {None: _NULL, b"": _NULL}
        parts = []
        for row in rows:
            for feature, cell in zip(features, row, strict=True):
                if cell is not None and len(cell) == _BYTES and cell[0] == TAG_FLOAT64:
                    parts.append(cell)
                    continue
                if cell not in known:
                    known[cell] = _TAGGED.pack(TAG_FLOAT64, _number(view, feature, cell))
                parts.append(known[cell])
        return b"".join(parts)


def doubles_of(rows: Iterable[Row], count: int) -> NDArray[np.float64] | None:
    """The values of ``count`` cells, float64[count], if all of them are doubles; else None."""
    try:
        data = b"".join(chain.from_iterable(rows))  # type: ignore[arg-type]
    except TypeError:
        return None
    # A cell that begins with this tag is nine bytes long, so the next one begins behind it.
    if len(data) != count * _BYTES or data[::_BYTES] != _TAG * count:
        return None
    found: NDArray[np.float64] = np.frombuffer(data, _DOUBLE)["value"]
    return found


def _number(view: str, feature: str, data: bytes | None) -> float:
    value = _value(view, feature, data)
    if isinstance(value, str):
        raise StoreUnavailableError(
            f"feature {view}:{feature} holds text, which this model takes for a number: say in the"
            " definitions what it is, and publish another version"
        )
    return float("nan") if value is None else float(value)


def _code(view: str, feature: str, data: bytes | None) -> float:
    value = _value(view, feature, data)
    if value is not None and not isinstance(value, str):
        raise StoreUnavailableError(
            f"feature {view}:{feature} holds a number, which this model takes for text: say in the"
            " definitions what it is, and publish another version"
        )
    return float("nan") if value is None else category_code(value)


def _value(view: str, feature: str, data: bytes | None) -> float | str | bool | None:
    try:
        return decode_value(data or b"")
    except ValueError as error:
        raise StoreUnavailableError(f"feature {view}:{feature} cannot be read: {error}") from error
