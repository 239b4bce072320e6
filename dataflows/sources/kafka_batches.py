"""Record batches of Kafka (format v2) to chunks, all batches of a fetch at once.

kafka-python makes an object of every record; here a loop in Python goes over the batches only, and
one compiled loop over the records. What it knows of transactions is kept: it is asked for every
batch of one.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass

import kafka.codec
import numba
import numpy as np
import numpy.typing as npt
from kafka.record.util import calc_crc32c

from contracts.log import Chunk
from dataflows.sources.kafka_crumbs import plain_segments

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and last
# timestamp, producer id, producer epoch, base sequence, number of records.
HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH_END = 12  # the length counts what lies behind it
CRC_BEGIN = 21  # what the CRC covers begins at the attributes
CODEC_MASK, APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
LEADER_EPOCH_NONE = -1
# Of more the checksum takes longer in a loop of ours than the one in Python is longer.
CRUMB_BYTES_MAX = 32 * 1024
_LIBRARIES = {2: "snappy", 3: "lz4", 4: "zstd"}


class BatchError(Exception):
    """A record batch is damaged or cannot be read here; the message says at which offset."""


@dataclass(frozen=True)
class Parsed:
    """What a fetch gave of one partition.

    Attributes:
        chunk: its records; there may be none (control records only).
        leader_epoch: of the last batch.
    """

    chunk: Chunk
    leader_epoch: int


def parse(data: bytes, fetch_offset: int, is_skipped: Callable[[memoryview], bool]) -> Parsed:
    """The records at or after ``fetch_offset`` of a fetch's batches; a cut last batch is left.

    Args:
        data: batches, one behind the other, as a broker sends them.
        fetch_offset: what was asked for: the first batch may begin before it.
        is_skipped: asked, in order, for each batch of a transaction or of control records.

    Raises:
        BatchError: a batch is damaged, of a format before Kafka 0.11, or needs a library.
    """
    if len(data) <= CRUMB_BYTES_MAX:
        crumbs = _parse_crumbs(data, fetch_offset)
        if crumbs is not None:
            return crumbs
    view = memoryview(data)
    segments: list[tuple[int, int, int, int, int, int]] = []
    inflated: list[bytes] = []
    at, end_of_payload = 0, len(data)
    next_offset, leader_epoch = fetch_offset, LEADER_EPOCH_NONE
    while len(data) - at >= HEADER.size:
        header = HEADER.unpack_from(data, at)
        base, length, leader_epoch, magic, crc, attributes, last_delta, first_ms, last_ms = header[
            :9
        ]
        end = at + LENGTH_END + length
        if end > len(data) and magic == 2:
            break
        _check(magic, length, base)
        if calc_crc32c(view[at + CRC_BEGIN : end]) != crc:
            raise _damaged(base, "its CRC is wrong")
        next_offset = max(next_offset, base + last_delta + 1)
        is_of_interest = base + last_delta >= fetch_offset
        if attributes & (TRANSACTIONAL | CONTROL) and is_skipped(view[at:end]):
            is_of_interest = False
        if is_of_interest and header[12] > 0:
            begin_ms, keeps_delta = (last_ms, 0) if attributes & APPEND_TIME else (first_ms, 1)
            place = (at + HEADER.size, end)
            if attributes & CODEC_MASK:
                inflated.append(_inflate(attributes & CODEC_MASK, view[place[0] : end], base))
                place = (end_of_payload, end_of_payload + len(inflated[-1]))
                end_of_payload = place[1]
            segments.append((*place, base, begin_ms, keeps_delta, header[12]))
        at = end
    payload = b"".join([data, *inflated]) if inflated else data
    return Parsed(_chunk(payload, segments, fetch_offset, next_offset), leader_epoch)


def _parse_crumbs(data: bytes, fetch_offset: int) -> Parsed | None:
    """As ``parse``; None if there is anything in it that is not plain, or damaged."""
    source = np.frombuffer(data, np.uint8)
    found = _plain_records(source, fetch_offset)
    if found[0] < 0:
        return None
    _, records, starts, offsets, times_ms, next_offset, epoch = found
    return Parsed(Chunk(records.tobytes(), starts, offsets, next_offset, times_ms), epoch)


def _check(magic: int, length: int, base: int) -> None:
    if magic != 2:
        raise BatchError(
            f"the batch at offset {base} has format v{magic}, of before Kafka 0.11, which is not "
            "read here: copy the topic with a newer producer"
        )
    if length < HEADER.size - LENGTH_END:
        raise _damaged(base, f"its length is {length}")


def _damaged(base: int, why: str) -> BatchError:
    return BatchError(
        f"the batch at offset {base} is damaged ({why}): start again, and if it stays so look at "
        "the broker's disk"
    )


def _inflate(codec: int, payload: memoryview, base: int) -> bytes:
    if codec == 1:
        decode, is_there = gzip.decompress, True
    elif codec == 2:
        decode, is_there = kafka.codec.snappy_decode, kafka.codec.has_snappy()
    elif codec == 3:
        decode, is_there = kafka.codec.lz4_decode, kafka.codec.has_lz4()
    elif codec == 4:
        decode, is_there = kafka.codec.zstd_decode, kafka.codec.has_zstd()
    else:
        raise BatchError(f"the batch at offset {base} has the unknown compression {codec}")
    if not is_there:
        name = _LIBRARIES[codec]
        raise BatchError(
            f"the batch at offset {base} is compressed with {name}: "
            f"pip install 'kafka-python[{name}]' and start again"
        )
    try:
        return bytes(decode(payload.tobytes()))
    except Exception as error:
        # Each library has its own errors.
        raise _damaged(base, f"not to be decompressed: {error}") from error


def _chunk(
    payload: bytes,
    segments: list[tuple[int, int, int, int, int, int]],
    fetch_offset: int,
    next_offset: int,
) -> Chunk:
    table = np.array(segments, np.int64).reshape(-1, 6)
    # A damaged batch may claim any number of records; one takes seven bytes at the least.
    count = min(int(table[:, 5].sum()), len(payload) // 7 + 1)
    # A newline takes less than what stands around a value in its batch.
    room = int((table[:, 1] - table[:, 0]).sum())
    records = np.empty(room, np.uint8)
    starts, offsets, times_ms = (np.empty(count, np.int64) for _ in range(3))
    source = np.frombuffer(payload, np.uint8)
    found, size = fill(source, table, fetch_offset, records, starts, offsets, times_ms)
    if found < 0:
        base = int(table[-found - 1, 2])
        raise _damaged(base, "a record does not fit into it")
    return Chunk(
        records=records[:size].tobytes(),
        starts=starts[:found],
        offsets=offsets[:found],
        next_offset=next_offset,
        times_ms=times_ms[:found],
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _varint(source: Bytes, at: int, end: int) -> tuple[int, int]:
    """The signed number at ``at``, and where it ends; -1 if it does not end before ``end``."""
    value = np.uint64(0)
    shift = np.uint64(0)
    for place in range(at, min(at + 10, end)):
        byte = source[place]
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            number = np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1))
            return int(number), place + 1
        shift += np.uint64(7)
    return 0, -1


@numba.njit(cache=True, nogil=True)
def fill(
    source: Bytes,
    segments: Ints,
    fetch_offset: int,
    records: Bytes,
    starts: Ints,
    offsets: Ints,
    times_ms: Ints,
) -> tuple[int, int]:
    """Copy the values of all records, a newline behind each.

    Args:
        source: uint8[n], payloads of batches.
        segments: int64[batches, 6]: begin and end in ``source``, base offset, base time, factor of
            the time deltas (0 or 1), number of records.
        fetch_offset: records before it are left out.
        records: filled, as are the other arrays; large enough for all records.
        starts: where in ``records`` each begins.
        offsets: of each.
        times_ms: of each.

    Returns:
        Number of records and of bytes; of a damaged batch minus its number (from 1), and 0.
    """
    found, size = 0, 0
    for batch in range(segments.shape[0]):
        at, end, base, base_ms, keeps_delta, count = segments[batch]
        for _ in range(count):
            length, at = _varint(source, at, end)
            record_end = at + length
            if at < 0 or length < 1 or record_end > end:
                return -batch - 1, 0
            delta_ms, at = _varint(source, at + 1, record_end)
            delta, at = _varint(source, at, record_end) if at >= 0 else (0, -1)
            key, at = _varint(source, at, record_end) if at >= 0 else (0, -1)
            if at < 0 or key > record_end - at:
                return -batch - 1, 0
            value, at = _varint(source, at + max(key, 0), record_end)
            if at < 0 or value > record_end - at or found >= len(starts):
                return -batch - 1, 0
            if base + delta >= fetch_offset:
                starts[found] = size
                offsets[found] = base + delta
                times_ms[found] = base_ms + keeps_delta * delta_ms
                if value > 0:
                    records[size : size + value] = source[at : at + value]
                    size += value
                records[size] = 10
                size += 1
                found += 1
            at = record_end
        if at != end:
            return -batch - 1, 0
    return found, size


@numba.njit(cache=True, nogil=True)
def _plain_records(
    source: Bytes, fetch_offset: int
) -> tuple[int, Bytes, Ints, Ints, Ints, int, int]:
    """What ``fill`` fills, of batches that are all plain; the number of records is -1 if not."""
    segments, count, next_offset, epoch = plain_segments(source, fetch_offset)
    size = source.shape[0]
    count = min(count, size // 7 + 1)
    room = max(count, 0)
    records = np.empty(size if count > 0 else 0, np.uint8)
    starts, offsets = np.empty(room, np.int64), np.empty(room, np.int64)
    times_ms = np.empty(room, np.int64)
    found, used = count, 0
    if count > 0:
        found, used = fill(source, segments, fetch_offset, records, starts, offsets, times_ms)
    kept = max(found, 0)
    return (
        found, records[:used], starts[:kept], offsets[:kept], times_ms[:kept], next_offset, epoch,
    )  # fmt: skip


def warm_up() -> None:
    """Compile, or load what was compiled before, so that the first fetch need not wait."""
    _chunk(b"", [], 0, 0)
    _parse_crumbs(b"", 0)
