"""Protobuf records to columns: what does not fit is set aside with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from contracts.log import Chunk
from contracts.plan import Column, Topic
from dataflows.sources.columns import (
    BadColumnError,
    BadRecord,
    Decoded,
    Floats,
    Ints,
    check_event_times,
    check_numbers,
    convert,
    record_ends,
    sift,
)
from dataflows.sources.protobuf_schema import (
    TIMESTAMP,
    message_class,
    message_place,
    place_head,
    read_place,
)

_SECOND_NS = 1_000_000_000


class ProtobufDecoder:
    """Decodes messages of the topic's class. Not safe for threads.

    Raises:
        ProtobufClassError: the topic's class cannot be imported.
    """

    def __init__(self, topic: Topic) -> None:
        kind: Any = message_class(topic.schema)
        self._topic = topic
        self._name = kind.DESCRIPTOR.full_name
        self._parse = kind.FromString
        self._place = message_place(kind.DESCRIPTOR) if topic.framing != "none" else None
        self._head = b"" if self._place is None else place_head(self._place)
        fields = kind.DESCRIPTOR.fields_by_name
        self._readers = [_Reader(column, fields[column.name]) for column in topic.columns]

    def decode(self, chunk: Chunk) -> Decoded:
        """Decode a chunk of messages; of framed ones, what stands behind the schema's number."""
        data, ends = chunk.records, record_ends(chunk).tolist()
        records = [data[a:b] for a, b in zip(chunk.starts.tolist(), ends, strict=True)]
        bad: dict[int, str] = {}
        rows: list[Any] = []
        index = []
        head, skip = self._head, len(self._head)
        parse = self._parse
        for i, record in enumerate(records):
            try:
                if record.startswith(head):
                    rows.append(parse(record[skip:]))
                else:
                    rows.append(parse(self._without_place(record)))
                index.append(i)
            except (DecodeError, BadColumnError) as error:
                bad[i] = str(error) if record else "empty record"
        try:
            event_us, columns = self._columns(rows)
        except BadColumnError:
            found = sift(len(rows), lambda a, b: self._columns(rows[a:b]))
            bad |= {
                index[row]: reason if records[index[row]] else "empty record"
                for row, reason in found.items()
            }
            index = [i for row, i in enumerate(index) if row not in found]
            event_us, columns = self._columns([m for i, m in enumerate(rows) if i not in found])
        letters = [BadRecord(i, records[i], bad[i]) for i in sorted(bad)]
        return Decoded(np.array(index, np.int64), event_us, columns, letters)

    def _without_place(self, record: bytes) -> bytes:
        """The message behind its place, written in a way that is not the usual one."""
        place, length = read_place(record)
        if place == self._place:
            return record[length:]
        raise BadColumnError(
            f"is message {list(place)} of its file; {self._name} is {list(self._place or ())}"
        )

    def _columns(self, rows: Sequence[Any]) -> tuple[Ints, dict[str, Any]]:
        """Event times and columns; raise BadColumnError."""
        columns = {reader.column.name: reader.read(rows) for reader in self._readers}
        name = self._topic.timestamp_field
        return check_event_times(name, columns[name]), columns


class _Reader:
    """Takes one column out of messages.

    Attributes:
        column: what is made.
    """

    def __init__(self, column: Column, field: FieldDescriptor) -> None:
        self.column = column
        self._name = field.name
        self._may_be_absent = field.has_presence and not field.has_default_value
        self._is_timestamp = False
        inner = field.message_type
        if inner is not None:
            self._is_timestamp = inner.full_name == TIMESTAMP
            field = inner.fields[0]
            self._get: Callable[[Any], Any] = attrgetter(f"{self._name}.{field.name}")
        else:
            self._get = attrgetter(self._name)
        self._absent = field.default_value
        self._symbols: dict[int, str] = {}
        if field.enum_type is not None:
            # Of two names for one number the first counts, as in Protobuf's own JSON.
            self._symbols = {one.number: one.name for one in reversed(field.enum_type.values)}
        self._is_text = field.type == FieldDescriptor.TYPE_STRING

    def read(self, rows: Sequence[Any]) -> Any:
        """The column of these messages; raise BadColumnError."""
        column = self.column
        if self._is_timestamp:
            return self._times(rows)
        values: list[Any] = list(map(self._get, rows))
        is_absent = self._absences(rows, values)
        if self._symbols:
            values = list(map(self._symbols.get, values))
            if None in values:
                raise BadColumnError(f"{column.name} has a value that its enum does not have")
        if self._is_text:
            _check_text(column.name, values)
        for place in is_absent:
            values[place] = None
        converted = convert(column, values)
        if column.dtype == "float64":
            check_numbers(column, converted)
        return converted

    def _absences(self, rows: Sequence[Any], values: list[Any]) -> list[int]:
        """Rows in which the field is not there."""
        # What is absent reads as the default, so only that is looked at twice.
        absent, name = self._absent, self._name
        if not self._may_be_absent or absent not in values:
            return []
        found = [
            i for i, value in enumerate(values) if value == absent and not rows[i].HasField(name)
        ]
        if found and not self.column.nullable:
            raise BadColumnError(f"{self.column.name} is missing")
        return found

    def _times(self, rows: Sequence[Any]) -> Floats:
        """Microseconds since 1970, what is finer cut off; NaN where there is no time."""
        name = self.column.name
        stamps = list(map(attrgetter(name), rows))
        seconds = [stamp.seconds for stamp in stamps]
        nanoseconds = np.array([stamp.nanos for stamp in stamps], np.int64)
        if len(rows) and (nanoseconds.min() < 0 or nanoseconds.max() >= _SECOND_NS):
            raise BadColumnError(f"{name} has nanoseconds that are not within one second")
        times = np.array(seconds, np.float64) * 1e6 + nanoseconds // 1_000
        times[self._absences(rows, seconds)] = np.nan
        return times


def _check_text(name: str, values: list[Any]) -> None:
    try:
        # Texts that are not UTF-8 come as bytes where the .proto file does not ask for the check.
        "".join(values)
    except TypeError:
        raise BadColumnError(f"{name} is not UTF-8") from None
