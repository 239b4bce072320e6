"""JSON records to columns, a batch at a time; what does not fit is set aside with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.log import Chunk
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


class RecordDecoder(Protocol):
    """Decodes the records of one topic. Not safe for threads."""

    def decode(self, chunk: Chunk) -> Decoded:
        """All records of a chunk, the bad ones set aside."""
        ...


def make_decoder(topic: Topic) -> RecordDecoder:
    """The decoder for the topic's format and framing."""
    return JsonDecoder(topic)


class JsonDecoder:
    """Decodes JSON objects. Not safe for threads."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        fields = [_field(column) for column in topic.columns]
        struct = msgspec.defstruct("Record", fields, kw_only=True, gc=False)
        self._decoder: Any = msgspec.json.Decoder(struct)
        self._names = [column.name for column in topic.columns]

    def decode(self, chunk: Chunk) -> Decoded:
        """Decode a chunk of objects.

        The whole batch is tried first; if that fails its halves are, down to the bad records.
        """
        count = len(chunk.starts)
        whole = self._whole(chunk.records, count)
        if whole is not None:
            return whole[1]
        sifted = _Sifted([], [], [])
        self._sift([chunk.record(i) for i in range(count)], 0, sifted)
        return self._columns(sifted.rows, np.array(sifted.index, dtype=np.int64), sifted.bad)

    def _whole(self, records: bytes, count: int) -> tuple[list[Any], Decoded] | None:
        """A batch as rows and as columns if all its records are good, each with its own line."""
        # msgspec takes any white space between two values, so the lines are looked at too.
        if not _are_lines_whole(records):
            return None
        try:
            rows: list[Any] = self._decoder.decode_lines(records)
            decoded = self._columns(rows, np.arange(count), [])
        except _BAD:
            return None
        return (rows, decoded) if len(rows) == count else None

    def _sift(self, lines: list[bytes], first: int, sifted: _Sifted) -> None:
        """Put lines, the first of which is number ``first``, with the good or with the bad."""
        if len(lines) > 1:
            # A record of Kafka may be spread over lines; to JSON one white space is like the other.
            joined = b"\n".join(line.replace(b"\n", b"\r") for line in lines) + b"\n"
            whole = self._whole(joined, len(lines))
            if whole is not None:
                sifted.rows.extend(whole[0])
                sifted.index.extend(range(first, first + len(lines)))
                return
            half = len(lines) // 2
            self._sift(lines[:half], first, sifted)
            self._sift(lines[half:], first + half, sifted)
            return
        for line in lines:
            try:
                row = self._decoder.decode(line)
                self._columns([row], np.zeros(1, np.int64), [])
            except _BAD as error:
                sifted.bad.append(BadRecord(first, line, _reason(line, error)))
            else:
                sifted.rows.append(row)
                sifted.index.append(first)

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


_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _BadColumnError)


@dataclass(frozen=True)
class _Sifted:
    """Records of a batch that is not good as a whole; ``index`` as in ``Decoded``."""

    rows: list[Any]
    index: list[int]
    bad: list[BadRecord]


def _are_lines_whole(records: bytes) -> bool:
    """Whether every line begins and ends as an object does.

    An object cannot run over from one such line to the next: a comma would have to stand between
    them. So as many objects as lines means one object in every line.
    """
    data = np.frombuffer(records, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    begins = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    last = data[ends - 1]
    last = np.where(last == ord("\r"), data[np.maximum(ends - 2, 0)], last)
    return bool((data[begins] == ord("{")).all() and (last == ord("}")).all())


def _reason(line: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error) if line.strip() else "empty record"


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
