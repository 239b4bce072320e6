"""Records to columns, a batch at a time; what does not fit is set aside with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from contracts.log import Chunk
from contracts.plan import Column, Topic
from dataflows.sources.columns import (
    BadColumnError,
    BadRecord,
    Decoded,
    Ints,
    RecordDecoder,
    check_event_times,
    convert,
)
from dataflows.sources.framing import FramedDecoder, RegistryDecoder
from dataflows.sources.plain_chunks import PlainChunks
from dataflows.sources.renaming import RenamingDecoder
from dataflows.sources.schema_registry import SchemaRegistry

_NO_RECORDS = Chunk(b"", np.empty(0, np.int64), np.empty(0, np.int64), 0)
# Who reads a few records only need not load the loop, which takes a tenth of a second.
_PLAIN_BYTES_MIN = 8 * 1024
_PYTHON_TYPES: Mapping[str, Any] = {
    "string": str,
    "int64": int,
    "float64": float,
    "bool": bool,
    "timestamp": str,
}


def make_decoder(topic: Topic, registry: SchemaRegistry | None = None) -> RecordDecoder:
    """The decoder for the topic's format and framing; its columns have the names of the views.

    Args:
        topic: whose records are decoded.
        registry: where the schemas of framed Avro records are found; without it all have the
            topic's own.
    """
    decoder = _make_decoder(topic, registry)
    return RenamingDecoder(topic, decoder) if topic.field_mapping else decoder


def _make_decoder(topic: Topic, registry: SchemaRegistry | None) -> RecordDecoder:
    if topic.format == "json":
        plain: RecordDecoder = JsonDecoder(topic)
    elif topic.format == "avro":
        # Only those who have Avro pay for its import, and for the compilation of its loop.
        from dataflows.sources.avro import AvroDecoder, AvroDecoders

        plain = AvroDecoder(topic, topic.schema)
        # Its loop is compiled now, and not when the first record has come.
        plain.decode(_NO_RECORDS)
        if topic.framing == "schema-registry" and registry is not None:
            return RegistryDecoder(topic, AvroDecoders(topic, registry).decoder)
    else:
        from dataflows.sources.protobuf import ProtobufDecoder

        plain = ProtobufDecoder(topic)
    return FramedDecoder(topic, plain) if topic.framing == "schema-registry" else plain


class JsonDecoder:
    """Decodes JSON objects. Not safe for threads."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        # Attributes have names of their own: those of fields need not be good for Python.
        self._attributes = {f"c{i}": column for i, column in enumerate(topic.columns)}
        fields = [_field(name, column) for name, column in self._attributes.items()]
        names = {attribute: column.name for attribute, column in self._attributes.items()}
        self._plain = PlainChunks(topic.columns, topic.timestamp_field)
        struct = msgspec.defstruct("Record", fields, kw_only=True, gc=False, rename=names)
        self._decoder: Any = msgspec.json.Decoder(struct)

    def decode(self, chunk: Chunk) -> Decoded:
        """Decode a chunk of objects.

        The whole batch is tried first; if that fails its halves are, down to the bad records.
        """
        if len(chunk.records) >= _PLAIN_BYTES_MIN:
            plain = self._plain.read(chunk)
            if plain is not None:
                return plain
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
        for attribute, column in self._attributes.items():
            values = [getattr(row, attribute) for row in rows]
            columns[column.name] = convert(column, values)
        name = self._topic.timestamp_field
        return Decoded(index, check_event_times(name, columns[name]), columns, bad)


_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadColumnError)


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


def _field(attribute: str, column: Column) -> tuple[Any, ...]:
    kind = _PYTHON_TYPES[column.dtype]
    if column.nullable:
        return (attribute, kind | None, None)
    return (attribute, kind)
