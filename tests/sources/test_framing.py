"""A schema registry's frame: zero, the schema's number, the record."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dataflows.sources.avro import AvroDecoder
from dataflows.sources.framing import RegistryDecoder, schema_numbers
from dataflows.sources.schema_registry import UnusableSchemaError
from tests.sources.chunks import chunk_of
from tests.sources.orders import AVRO, AVRO_SCHEMA, FORMATS, GOOD, to_avro

SWAPPED = {**AVRO_SCHEMA, "fields": AVRO_SCHEMA["fields"][::-1]}


@pytest.mark.parametrize("name", [name for name in FORMATS if name.endswith("framed")])
@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "begins with"),
        (b"\1\0\0\0\5", "begins with the byte 1, not with the 0"),
        (b"\0", "3 bytes are too few"),
        (b"\0\0\0\0\5", ""),
    ],
)
def test_a_record_without_a_frame_is_bad(name: str, head: bytes, reason: str) -> None:
    """Without zero and number it is bad, with its bytes as they were; its neighbours survive."""
    form = FORMATS[name]
    good = form.write(GOOD)
    record = head + (b"ab" if "too few" in reason else good[5:] or b"")
    if not head:
        record = b"\x7b" + record
    decoded = form.decode([good, record, good])
    assert [(bad.index, bad.record) for bad in decoded.bad] == ([(1, record)] if reason else [])
    assert all(reason in bad.reason for bad in decoded.bad)
    assert len(decoded.index) == 3 - len(decoded.bad)


def test_the_number_is_big_endian() -> None:
    """All four bytes count; what has no frame has no number."""
    records = [b"\0\0\0\0\1", b"\0\1\2\3\4xyz", b"\0\xff\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0\1"]
    assert schema_numbers(chunk_of(records)).tolist() == [1, 0x01020304, 2**32 - 1, -1, -1]
    assert schema_numbers(chunk_of([])).tolist() == []


def test_schemas_may_change_from_record_to_record() -> None:
    """Each record is read as its number says; rows stay in the order of the chunk."""
    asked = []

    def decoder_of(number: int) -> AvroDecoder:
        asked.append(number)
        if number == 9:
            raise UnusableSchemaError("there is no schema 9")
        return AvroDecoder(AVRO.topic, json.dumps({1: AVRO_SCHEMA, 2: SWAPPED}[number]))

    decoder = RegistryDecoder(replace(AVRO.topic, framing="schema-registry"), decoder_of)
    numbers = [1, 2, 9, 2, 1, 9, 1]
    records = [
        bytes([0, 0, 0, 0, number])
        + to_avro({**GOOD, "items": i}, {1: AVRO_SCHEMA, 2: SWAPPED}.get(number))
        for i, number in enumerate(numbers)
    ]
    records[3] = records[3][:-1]
    for _ in range(2):
        decoded = decoder.decode(chunk_of(records))
        assert decoded.index.tolist() == [0, 1, 4, 6]
        assert decoded.columns["items"] == [0, 1, 4, 6]
        assert decoded.columns["amount"].tolist() == [1.5] * 4
        assert [(bad.index, bad.record) for bad in decoded.bad] == [
            (i, records[i]) for i in (2, 3, 5)
        ]
        assert decoded.bad[0].reason == "there is no schema 9"
    # A decoder is made once; what could not be made is asked for in every chunk.
    assert asked == [1, 2, 9, 9]
