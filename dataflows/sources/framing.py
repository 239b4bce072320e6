"""Records with the number of their schema in front, as clients of a schema registry write them.

Five bytes stand before the record: a zero, and the number (big-endian). Protobuf has the place of
its message after them, which is its decoder's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from contracts.log import Chunk
from contracts.plan import Topic
from dataflows.sources.columns import (
    BadRecord,
    Decoded,
    Ints,
    RecordDecoder,
    no_columns,
    record_ends,
)
from dataflows.sources.schema_registry import UnusableSchemaError

HEAD_BYTES = 5
# Decoders of so many schemas are kept; past it, the oldest is made anew when it is needed again.
DECODERS_MAX = 100
_NO_FRAME = -1


class FramedDecoder:
    """Takes the frame off; whatever the number, one decoder does the rest.

    Not safe for threads.
    """

    def __init__(self, topic: Topic, decoder: RecordDecoder) -> None:
        self._topic = topic
        self._decoder = decoder

    def decode(self, chunk: Chunk) -> Decoded:
        """Decode a chunk of framed records."""
        numbers = schema_numbers(chunk)
        rows = np.flatnonzero(numbers != _NO_FRAME)
        parts = [_decode_rows(chunk, rows, self._decoder)]
        return _joined(self._topic, parts, _unframed(chunk, numbers))


class RegistryDecoder:
    """Takes the frame off; each number has a decoder of its own. Not safe for threads.

    Args:
        topic: whose records are decoded.
        decoder_of: makes the decoder for a number; may raise UnusableSchemaError, then the
            records with it are bad, and LogError.
    """

    def __init__(self, topic: Topic, decoder_of: Callable[[int], RecordDecoder]) -> None:
        self._topic = topic
        self._decoder_of = decoder_of
        self._decoders: dict[int, RecordDecoder] = {}

    def decode(self, chunk: Chunk) -> Decoded:
        """Decode a chunk of framed records.

        Raises:
            LogError: a schema cannot be looked up just now.
        """
        numbers = schema_numbers(chunk)
        bad = _unframed(chunk, numbers)
        parts = []
        for number in np.unique(numbers[numbers != _NO_FRAME]).tolist():
            rows = np.flatnonzero(numbers == number)
            try:
                decoder = self._decoder(number)
            except UnusableSchemaError as error:
                bad += [BadRecord(row, chunk.record(row), str(error)) for row in rows.tolist()]
            else:
                parts.append(_decode_rows(chunk, rows, decoder))
        return _joined(self._topic, parts, bad)

    def _decoder(self, number: int) -> RecordDecoder:
        if number not in self._decoders:
            decoder = self._decoder_of(number)
            if len(self._decoders) >= DECODERS_MAX:
                del self._decoders[next(iter(self._decoders))]
            self._decoders[number] = decoder
        return self._decoders[number]


def schema_numbers(chunk: Chunk) -> Ints:
    """int64[n]: the number in front of each record; -1 where there is no frame."""
    data = np.frombuffer(chunk.records, np.uint8)
    is_framed = record_ends(chunk) - chunk.starts >= HEAD_BYTES
    starts = chunk.starts[is_framed]
    numbers = np.full(len(chunk.starts), _NO_FRAME, np.int64)
    found = np.zeros(len(starts), np.int64)
    for place in range(1, HEAD_BYTES):
        found = found << 8 | data[starts + place]
    found[data[starts] != 0] = _NO_FRAME
    numbers[is_framed] = found
    return numbers


def _unframed(chunk: Chunk, numbers: Ints) -> list[BadRecord]:
    bad = []
    for row in np.flatnonzero(numbers == _NO_FRAME).tolist():
        record = chunk.record(row)
        if not record:
            reason = "empty record"
        elif record[0] != 0:
            reason = (
                f"begins with the byte {record[0]}, not with the 0 of a schema registry's frame"
            )
        else:
            reason = f"{len(record)} bytes are too few for a schema registry's frame"
        bad.append(BadRecord(row, record, reason))
    return bad


def _decode_rows(chunk: Chunk, rows: Ints, decoder: RecordDecoder) -> Decoded:
    """Some rows of a chunk without their frames, decoded; positions are those in the chunk."""
    begins = chunk.starts[rows] + HEAD_BYTES
    # The newline behind each record is taken along.
    ends = record_ends(chunk)[rows] + 1
    data = chunk.records
    records = b"".join([data[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)])
    starts = np.cumsum(ends - begins) - (ends - begins)
    decoded = decoder.decode(Chunk(records, starts, chunk.offsets[rows], chunk.next_offset))
    whole = [(int(rows[one.index]), one.reason) for one in decoded.bad]
    return Decoded(
        rows[decoded.index],
        decoded.event_us,
        decoded.columns,
        [BadRecord(row, chunk.record(row), reason) for row, reason in whole],
    )


def _joined(topic: Topic, parts: list[Decoded], bad: list[BadRecord]) -> Decoded:
    """The parts of one chunk, in its order."""
    all_bad = [*bad, *(one for part in parts for one in part.bad)]
    all_bad.sort(key=lambda one: one.index)
    if not parts:
        none = np.empty(0, np.int64)
        return Decoded(none, none, no_columns(topic), all_bad)
    if len(parts) == 1:
        return Decoded(parts[0].index, parts[0].event_us, parts[0].columns, all_bad)
    index = np.concatenate([part.index for part in parts])
    order = np.argsort(index)
    columns: dict[str, Any] = {}
    for name, first in parts[0].columns.items():
        if isinstance(first, list):
            values = [value for part in parts for value in part.columns[name]]
            columns[name] = [values[i] for i in order.tolist()]
        else:
            columns[name] = np.concatenate([part.columns[name] for part in parts])[order]
    event_us = np.concatenate([part.event_us for part in parts])
    return Decoded(index[order], event_us[order], columns, all_bad)
