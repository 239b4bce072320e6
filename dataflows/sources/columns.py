"""Columns of a batch, and what is the same for all formats in making them from records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.log import Chunk
from contracts.plan import Column, Topic

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Event times outside are taken for a mistake (a second count read as milliseconds and the like).
EARLIEST_US = 0  # 1970-01-01
LATEST_US = 4_102_444_800_000_000  # 2100-01-01


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


class RecordDecoder(Protocol):
    """Decodes the records of one topic. Not safe for threads."""

    def decode(self, chunk: Chunk) -> Decoded:
        """All records of a chunk, the bad ones set aside."""
        ...


class BadColumnError(ValueError):
    """A value of the right type that cannot be used."""


def record_ends(chunk: Chunk) -> Ints:
    """int64[n]: where each record of a chunk ends, which is before its newline."""
    return np.append(chunk.starts, len(chunk.records))[1:] - 1


def check_event_times(name: str, event_us: Floats) -> Ints:
    """Event times as integers; raise BadColumnError if one is null or out of all bounds."""
    if np.isnan(event_us).any():
        raise BadColumnError(f"{name} is null")
    if len(event_us) and (event_us.min() < EARLIEST_US or event_us.max() >= LATEST_US):
        raise BadColumnError(f"{name} is not between the years 1970 and 2100")
    return event_us.astype(np.int64)


def convert(column: Column, values: list[Any]) -> Any:
    """A column as ``Decoded`` has it, from Python values (times as text); None is null.

    Raises:
        BadColumnError: a value cannot be used.
    """
    if column.dtype == "string":
        return values
    if column.dtype == "timestamp":
        return parse_times(column.name, values)
    if column.dtype == "int64":
        return _integers(column.name, values)
    return np.array(values, dtype=np.float64)


def no_columns(topic: Topic) -> dict[str, Any]:
    """The columns of a batch without rows."""
    return {column.name: convert(column, []) for column in topic.columns}


def check_numbers(column: Column, numbers: Floats) -> None:
    """Raise BadColumnError for infinity, and for NaN (which is null) in a column without nulls."""
    if np.isinf(numbers).any():
        raise BadColumnError(f"{column.name} is infinite")
    if not column.nullable and np.isnan(numbers).any():
        raise BadColumnError(f"{column.name} is NaN, which counts as null")


def sift(count: int, convert_range: Callable[[int, int], object]) -> dict[int, str]:
    """Of ``count`` rows those that cannot be converted: position -> reason.

    ``convert_range`` takes a range of rows (begin, end) and raises BadColumnError if any of them
    is bad. All are tried at once; if that fails the halves are, down to the bad rows.
    """
    bad: dict[int, str] = {}
    left = [(0, count)]
    while left:
        begin, end = left.pop()
        try:
            convert_range(begin, end)
        except BadColumnError as error:
            if end - begin == 1:
                bad[begin] = str(error)
                continue
            middle = (begin + end) // 2
            left += [(middle, end), (begin, middle)]
    return bad


def parse_times(name: str, values: Sequence[str | None]) -> Floats:
    """Microseconds since 1970 of RFC 3339 texts, NaN for None; raise BadColumnError."""
    # Microseconds since 1970 stay exact in a double until the year 2255.
    try:
        stamps = pa.array(values, pa.string()).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid as error:
        raise BadColumnError(
            f"{name} is not a time with a zone such as 2013-01-31T23:59:00.123456Z"
        ) from error
    integers = stamps.cast(pa.int64())
    return np.asarray(integers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _integers(name: str, values: list[int | None]) -> list[int | None]:
    # They stay Python integers: as keys they must be exact, which a double is not.
    try:
        np.array([value for value in values if value is not None], dtype=np.int64)
    except OverflowError as error:
        raise BadColumnError(f"{name} does not fit into 64 bits") from error
    return values
