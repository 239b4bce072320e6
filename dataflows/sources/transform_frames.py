"""Columns of a batch as a DataFrame for a view's function. Imports pandas: only if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from contracts.plan import ColumnType, Topic
from dataflows.sources.columns import BadColumnError
from dataflows.sources.transform_columns import kinds_of, times_us


class FrameRows:
    """Rows as a DataFrame whose dtypes are those of the topic's columns, whatever a batch holds.

    Strings are objects (str or None), integers Int64 and booleans boolean with NA, floats float64
    with NaN, times ``datetime64[us, UTC]`` with NaT.
    """

    def __init__(self, topic: Topic) -> None:
        self._kinds = kinds_of(topic)

    def give(self, columns: Mapping[str, Any], part: slice) -> pd.DataFrame:
        """A new frame of these rows of all columns, indexed from 0 on."""
        # A frame copies what comes in a dict.
        return pd.DataFrame(
            {name: _given(name, kind, columns[name][part]) for name, kind in self._kinds.items()}
        )

    def take(self, result: Any, count: int) -> Mapping[str, Any]:
        """The frame's columns; a frame that was sorted is put into the order of the batch again."""
        if not isinstance(result, pd.DataFrame):
            kind = type(result).__name__
            raise BadColumnError(f"its function gave a value of type {kind}, not a DataFrame")
        if len(result) != count:
            raise BadColumnError(
                f"its function gave {len(result)} rows for {count}; it must give one for each, in "
                "the same order"
            )
        frame = result if _is_in_order(result.index) else _in_order(result)
        names = [name for name in frame.columns if isinstance(name, str)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadColumnError(f"its function gave the column {twice!r} twice")
        return {name: frame[name] for name in names}


def _is_in_order(index: pd.Index[Any]) -> bool:
    return bool(np.array_equal(index.to_numpy(), np.arange(len(index))))


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame by its index if that is still the one it was given, else as it is."""
    index = frame.index
    # An index that the function chose has the name of a column, and says nothing of the order.
    if index.name is not None or not pd.api.types.is_integer_dtype(index.dtype):
        return frame
    order = np.argsort(index.to_numpy(), kind="stable")
    return frame.iloc[order] if _is_in_order(index[order]) else frame


def _given(name: str, kind: ColumnType, values: Any) -> Any:
    if kind == "string":
        return pd.Series(values, dtype=object)
    if kind == "int64":
        array = pa.array(values, pa.int64())
        held = array.fill_null(0) if array.null_count else array
        return pd.arrays.IntegerArray(np.array(held), np.array(array.is_null()))
    is_null = np.isnan(values)
    if kind == "bool":
        return pd.arrays.BooleanArray(np.nan_to_num(values) != 0.0, is_null)
    if kind == "timestamp":
        moments = times_us(name, values).astype("datetime64[us]")
        moments[is_null] = np.datetime64("NaT")
        return pd.Series(moments).dt.tz_localize("UTC")
    return values
