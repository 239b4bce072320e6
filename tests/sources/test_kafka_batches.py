"""Record batches to chunks, against kafka-python's own reader of batches."""

from __future__ import annotations

import gzip
import struct
from contextlib import suppress
from typing import Any

import kafka.codec
import kafka.record.util
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder

from dataflows.sources import kafka_batches
from dataflows.sources.kafka_batches import BatchError, parse
from dataflows.sources.kafka_crumbs import crc32c
from tests.sources.kafka_reading import Record, records_of

Message = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

NONE, GZIP = 0, 1
_CODECS = [NONE, GZIP] + [
    number
    for number, is_there in (
        (2, kafka.codec.has_snappy()),
        (3, kafka.codec.has_lz4()),
        (4, kafka.codec.has_zstd()),
    )
    if is_there
]
_bytes = st.one_of(st.none(), st.binary(max_size=20), st.binary(min_size=125, max_size=300))
_messages: st.SearchStrategy[list[Message]] = st.lists(
    st.tuples(
        st.integers(0, 2**41),
        _bytes,
        _bytes,
        st.lists(st.tuples(st.text(max_size=5), _bytes), max_size=2),
    ),
    min_size=1,
    max_size=8,
)
_batches = st.lists(
    st.tuples(_messages, st.sampled_from(_CODECS), st.integers(0, 3)), min_size=1, max_size=4
)


def _batch(messages: list[Message], codec: int = NONE, base: int = 0) -> bytes:
    builder = MemoryRecordsBuilder(2, codec, 1 << 30)
    for time_ms, key, value, headers in messages:
        builder.append(time_ms, key, value, headers)
    builder.close()
    data = bytearray(builder.buffer())
    # The base offset is not part of what the CRC covers: a broker sets it.
    struct.pack_into(">q", data, 0, base)
    return bytes(data)


def _stock(data: bytes) -> list[Record]:
    found: list[Record] = []
    records = MemoryRecords(data)
    while (batch := records.next_batch()) is not None:
        found += [(record.offset, record.timestamp, record.value or b"") for record in batch]
    return found


def _keep_all(batch: memoryview) -> bool:
    return False


@given(_batches, st.integers(0, 40), st.integers(0, 60))
def test_a_fetch_gives_what_stock_reading_gives(
    batches: list[tuple[list[Message], int, int]], before: int, cut_bytes: int
) -> None:
    """Any batches give the values, offsets and times that kafka-python reads, from an offset on."""
    data, base = b"", 0
    for messages, codec, gap in batches:
        base += gap
        data += _batch(messages, codec, base)
        base += len(messages)
    # A broker may send a part of the next batch.
    rest = _batch([(0, None, b"x" * 60, [])], NONE, base)[:cut_bytes]
    wanted = [record for record in _stock(data) if record[0] >= before]
    # Small fetches have a way of their own.
    for small_bytes_max in (-1, kafka_batches.CRUMB_BYTES_MAX):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kafka_batches, "CRUMB_BYTES_MAX", small_bytes_max)
            chunk = parse(data + rest, before, _keep_all).chunk
        assert records_of(chunk) == wanted
        assert chunk.next_offset == max(before, base)


@given(st.binary(max_size=60), st.integers(0, 3))
def test_a_checksum_is_that_of_kafka(data: bytes, before: int) -> None:
    """Bytes of any length and at any place have the CRC32C that kafka-python gives them."""
    found = crc32c(np.frombuffer(b"x" * before + data + b"y", np.uint8), before, before + len(data))
    assert found == kafka.record.util.calc_crc32c(data)


@pytest.mark.parametrize("small_bytes_max", [-1, 2**30])
def test_plain_batches_have_their_leader_epoch(
    monkeypatch: pytest.MonkeyPatch, small_bytes_max: int
) -> None:
    """That of the last batch is told, as a broker wants to know it with the next fetch."""
    monkeypatch.setattr(kafka_batches, "CRUMB_BYTES_MAX", small_bytes_max)
    batches = [bytearray(_batch([(5, None, b"a", [])], base=i)) for i in range(2)]
    for epoch, batch in zip((3, 7), batches, strict=True):
        struct.pack_into(">i", batch, 12, epoch)
    assert parse(b"".join(batches), 0, _keep_all).leader_epoch == 7


def test_append_time_is_the_time_of_the_batch() -> None:
    """A topic with LogAppendTime gives each record the time at which its batch was written."""
    data = bytearray(_batch([(5, None, b"a", []), (9, None, b"b", [])]))
    attributes = struct.unpack_from(">h", data, 21)[0] | 0x08
    struct.pack_into(">h", data, 21, attributes)
    struct.pack_into(">q", data, 35, 1234)
    _seal(data)
    chunk = parse(bytes(data), 0, _keep_all).chunk
    assert records_of(chunk) == _stock(bytes(data)) == [(0, 1234, b"a"), (1, 1234, b"b")]


@pytest.mark.parametrize("at", range(17, 90))
def test_a_damaged_batch_is_an_error(at: int) -> None:
    """A wrong bit in what the CRC covers, or in the CRC itself, is told with the offset."""
    data = bytearray(_batch([(5, b"key", b"value" * 10, [])], base=700))
    data[at] ^= 4
    with pytest.raises(BatchError, match="the batch at offset 700 is damaged"):
        parse(bytes(data), 700, _keep_all)


@given(st.data())
def test_damage_behind_a_right_crc_ends_in_an_error_or_records(data: st.DataObject) -> None:
    """Whatever bytes a batch holds, reading ends, and gives no more than the batch can hold."""
    batch = bytearray(_batch([(5, b"key", b"value" * 10, []), (6, None, b"x", [])]))
    for _ in range(data.draw(st.integers(1, 4))):
        batch[data.draw(st.integers(57, len(batch) - 1))] = data.draw(st.integers(0, 255))
    _seal(batch)
    with suppress(BatchError):
        assert len(parse(bytes(batch), 0, _keep_all).chunk.records) <= len(batch)


def test_an_old_format_is_an_error() -> None:
    """A batch of before Kafka 0.11 is refused with what to do, not skipped."""
    builder = MemoryRecordsBuilder(1, NONE, 1 << 30)
    builder.append(5, b"key", b"value" * 20, [])
    builder.close()
    with pytest.raises(BatchError, match=r"format v1, of before Kafka 0\.11"):
        parse(bytes(builder.buffer()), 0, _keep_all)


@pytest.mark.parametrize(("codec", "name"), [(2, "snappy"), (3, "lz4"), (4, "zstd")])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, codec: int, name: str) -> None:
    """A compression that cannot be read here is an error that says what to install."""
    monkeypatch.setattr(kafka.codec, f"has_{name}", lambda: False)
    with pytest.raises(BatchError, match=rf"pip install 'kafka-python\[{name}\]'"):
        parse(_compressed(codec, b"..."), 0, _keep_all)


@pytest.mark.parametrize(
    ("codec", "payload", "message"),
    [(GZIP, b"not gzip", "not to be decompressed"), (7, b"", "the unknown compression 7")],
)
def test_a_payload_that_cannot_be_decompressed_is_an_error(
    codec: int, payload: bytes, message: str
) -> None:
    """Bytes that are not what the batch says they are, or of no known kind, are told."""
    with pytest.raises(BatchError, match=message):
        parse(_compressed(codec, payload), 0, _keep_all)


def test_members_of_gzip_are_read_one_after_another() -> None:
    """A gzip stream of several members, which some clients write, is read to its end."""
    plain = _batch([(5, None, b"a" * 50, []), (6, None, b"b" * 50, [])])
    payload = gzip.compress(plain[61:80]) + gzip.compress(plain[80:])
    data = bytearray(plain[:61] + payload)
    struct.pack_into(">h", data, 21, GZIP)
    struct.pack_into(">i", data, 8, len(data) - 12)
    _seal(data)
    assert records_of(parse(bytes(data), 0, _keep_all).chunk) == _stock(plain)


def test_batches_of_transactions_are_asked_about() -> None:
    """Only batches of transactions are shown to the filter, and what it skips moves the offset."""
    plain = _batch([(5, None, b"plain", [])])
    data = bytearray(_batch([(5, None, b"secret", [])], base=1))
    struct.pack_into(">h", data, 21, 0x10)
    _seal(data)
    seen: list[bytes] = []

    def skip(batch: memoryview) -> bool:
        seen.append(bytes(batch))
        return True

    chunk = parse(plain + bytes(data), 0, skip).chunk
    assert seen == [bytes(data)]
    assert records_of(chunk) == [(0, 5, b"plain")]
    assert chunk.next_offset == 2


def _compressed(codec: int, payload: bytes) -> bytes:
    data = bytearray(_batch([(5, None, b"", [])])[:61] + payload)
    struct.pack_into(">h", data, 21, codec)
    struct.pack_into(">i", data, 8, len(data) - 12)
    _seal(data)
    return bytes(data)


def _seal(data: bytearray) -> None:
    """Make the CRC right."""
    calc: Any = kafka.record.util.calc_crc32c
    struct.pack_into(">I", data, 17, calc(memoryview(data)[21:]))
