"""JSON records to columns, a whole batch at a time; what does not fit is set aside with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.plan import Column, Topic

Ints = npt.NDArray[np.int64]

# Event times outside are taken for a mistake (a second count read as milliseconds and the like).
EARLIEST_US = 0  # 1970-01-01
LATEST_US = 4_102_444_800_000_000  # 2100-01-01

_PYTHON_TYPES: Mapping[str, Any] = {
    "string": str,
    "int64": int,
    "float64": float,
    "bool": bool,
    "timestamp": str,
}


@dataclass(frozen=True)
class BadRecord:
    """A record that could not be used: its position in the batch, its bytes, and why."""

    index: int
    record: bytes
    reason: str


@dataclass(frozen=True)
class Decoded:
    """The good records of a batch.

    Attributes:
        index: int64[n], position of each in the batch that was decoded.
        event_us: int64[n], event time.
        columns: name -> list of str|None for strings, of int|None for integers;
            float64[n] (NaN is null) for all else.
        bad: the others, in order.
    """

    index: Ints
    event_us: Ints
    columns: dict[str, Any]
    bad: list[BadRecord]


class RecordDecoder:
    """Decodes the records of one topic. Not safe for threads."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        fields = [_field(column) for column in topic.columns]
        struct = msgspec.defstruct("Record", fields, kw_only=True, gc=False)
        self._decoder: Any = msgspec.json.Decoder(struct)
        self._names = [column.name for column in topic.columns]

    def decode(self, records: bytes, count: int) -> Decoded:
        """Decode ``count`` records, one a line, each ended by a newline.

        The whole batch is tried first; only if that fails is each record looked at by itself.
        """
        try:
            rows = self._decoder.decode_lines(records)
            if len(rows) == count:
                return self._columns(rows, np.arange(count), [])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _BadColumnError):
            pass
        return self._one_by_one(records)

    def _one_by_one(self, records: bytes) -> Decoded:
        rows: list[Any] = []
        index: list[int] = []
        bad: list[BadRecord] = []
        lines = records.split(b"\n")[:-1]
        for i, line in enumerate(lines):
            try:
                row = self._decoder.decode(line)
                self._columns([row], np.array([i]), [])
            except UnicodeDecodeError as error:
                bad.append(BadRecord(i, line, f"not UTF-8: {error}"))
            except RecursionError:
                bad.append(BadRecord(i, line, "nested too deeply"))
            except (msgspec.DecodeError, _BadColumnError) as error:
                bad.append(BadRecord(i, line, str(error) if line.strip() else "empty record"))
            else:
                rows.append(row)
                index.append(i)
        return self._columns(rows, np.array(index, dtype=np.int64), bad)

    def _columns(self, rows: Sequence[Any], index: Ints, bad: list[BadRecord]) -> Decoded:
        columns: dict[str, Any] = {}
        for column in self._topic.columns:
            name = column.name
            values = [getattr(row, name) for row in rows]
            columns[name] = _convert(column, values)
        event_us = columns[self._topic.timestamp_field]
        if np.isnan(event_us).any():
            raise _BadColumnError(f"{self._topic.timestamp_field} is null")
        if len(event_us) and (event_us.min() < EARLIEST_US or event_us.max() >= LATEST_US):
            raise _BadColumnError(
                f"{self._topic.timestamp_field} is not between the years 1970 and 2100"
            )
        return Decoded(index, event_us.astype(np.int64), columns, bad)


class _BadColumnError(ValueError):
    """A value of the right JSON type that cannot be used."""


def _field(column: Column) -> tuple[Any, ...]:
    kind = _PYTHON_TYPES[column.dtype]
    if column.nullable:
        return (column.name, kind | None, None)
    return (column.name, kind)


def _convert(column: Column, values: list[Any]) -> Any:
    if column.dtype == "string":
        return values
    if column.dtype == "timestamp":
        return _times(column.name, values)
    if column.dtype == "int64":
        return _integers(column.name, values)
    return np.array(values, dtype=np.float64)


def _integers(name: str, values: list[int | None]) -> list[int | None]:
    # They stay Python integers: as keys they must be exact, which a double is not.
    try:
        np.array([value for value in values if value is not None], dtype=np.int64)
    except OverflowError as error:
        raise _BadColumnError(f"{name} does not fit into 64 bits") from error
    return values


def _times(name: str, values: list[str | None]) -> npt.NDArray[np.float64]:
    # Microseconds since 1970 stay exact in a double until the year 2255.
    try:
        stamps = pa.array(values, pa.string()).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid as error:
        raise _BadColumnError(
            f"{name} is not a time with a zone such as 2013-01-31T23:59:00.123456Z"
        ) from error
    integers = stamps.cast(pa.int64())
    return np.asarray(integers.to_numpy(zero_copy_only=False), dtype=np.float64)

