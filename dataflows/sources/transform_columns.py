"""Columns of a batch as lists for a view's function, and what it gives back as columns again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.plan import ColumnType, Topic
from dataflows.sources.columns import BadColumnError

Floats = npt.NDArray[np.float64]

# What Python's datetime can hold: the years 1 to 9999.
_TIME_US_MIN = -62_135_596_800_000_000
_TIME_US_MAX = 253_402_300_799_999_999


class ListRows:
    """Rows as a dict of lists: of str, int, float, bool or datetime (UTC), None for null."""

    def __init__(self, topic: Topic) -> None:
        self._kinds = kinds_of(topic)

    def give(self, columns: Mapping[str, Any], part: slice) -> dict[str, list[Any]]:
        """New lists of these rows of all columns."""
        return {name: _given(name, k, columns[name][part]) for name, k in self._kinds.items()}

    def take(self, result: Any, count: int) -> Mapping[str, Any]:
        """What the function gave, if it is a dict."""
        if not isinstance(result, Mapping):
            raise BadColumnError(f"its function gave {_a(result)}, not a dict of lists")
        return result


def kinds_of(topic: Topic) -> dict[str, ColumnType]:
    """The columns of a topic by the names that views have for them."""
    return {topic.column_name(column.name): column.dtype for column in topic.columns}


def times_us(name: str, values: Floats) -> npt.NDArray[np.int64]:
    """int64[n]: times, 0 for null; raise BadColumnError for what Python cannot hold."""
    held = np.where(np.isnan(values), 0.0, values)
    if len(held) and (held.min() < _TIME_US_MIN or held.max() > _TIME_US_MAX):
        raise BadColumnError(f"{name} is not between the years 1 and 9999")
    return held.astype(np.int64)


def taken_column(name: str, kind: ColumnType, values: Any) -> Any:
    """A column that a function gave, as ``Decoded.columns`` has it.

    Args:
        name: of the column.
        kind: what it must hold. Booleans may stand for numbers, and whole floats for integers;
            a time without a zone is one of UTC; None, NaN, NaT and NA are null.
        values: a list, a tuple, an array of numpy or a series of pandas.

    Raises:
        BadColumnError: it holds something else.
    """
    if not isinstance(values, list | tuple) and not hasattr(values, "__array__"):
        raise BadColumnError(f"its function gave {_a(values)} for {name}, not a list")
    try:
        array = pa.array(values, from_pandas=True)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return _taken(name, kind, array)
    except MemoryError:
        raise
    except BadColumnError:
        raise
    except Exception as error:
        # Whatever there is between a list and its column, it is this list that is wrong.
        raise BadColumnError(f"{name} cannot be made {kind}: {error}") from error


def _given(name: str, kind: ColumnType, values: Any) -> list[Any]:
    if kind in ("string", "int64"):
        # A slice of a list is a list of its own.
        texts_or_integers: list[Any] = values
        return texts_or_integers
    numbers: Floats = values
    if kind == "float64":
        given: list[Any] = numbers.tolist()
    elif kind == "bool":
        given = (numbers != 0.0).tolist()
    else:
        moments = times_us(name, numbers).astype("datetime64[us]").tolist()
        given = [moment.replace(tzinfo=UTC) for moment in moments]
    for row in np.flatnonzero(np.isnan(numbers)).tolist():
        given[row] = None
    return given


def _taken(name: str, kind: ColumnType, array: Any) -> Any:
    held = array.type
    if pa.types.is_null(held):
        held_none: list[None] = [None] * len(array)
        return held_none if kind in ("string", "int64") else np.full(len(array), np.nan)
    if not _fits(kind, held):
        raise BadColumnError(f"its function gave {held} for {name}, which must be {kind}")
    if kind == "string":
        return array.to_pylist()
    if kind == "int64":
        return array.cast(pa.int64()).to_pylist()
    if kind == "timestamp":
        # Finer than a microsecond is cut off; coarser must not run over.
        micros = pa.timestamp("us", held.tz)
        array = array.cast(micros, safe=held.unit != "ns").cast(pa.int64())
    # An integer too large for a double is rounded, as it is when it comes out of a record.
    numbers = np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if np.isinf(numbers).any():
        raise BadColumnError(f"its function gave infinity for {name}")
    return numbers


def _fits(kind: ColumnType, held: pa.DataType) -> bool:
    types = pa.types
    if kind == "string":
        return bool(types.is_string(held) or types.is_large_string(held))
    if kind == "bool":
        return bool(types.is_boolean(held))
    if kind == "timestamp":
        return bool(types.is_timestamp(held))
    return bool(types.is_integer(held) or types.is_floating(held) or types.is_boolean(held))


def _a(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
