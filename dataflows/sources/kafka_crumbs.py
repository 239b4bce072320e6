"""Small fetches of Kafka: headers, checksums and records of all batches in one compiled loop.

What comes in live is a few records in several batches, for which a loop in Python takes longer than
all else in reading them. Whatever is not plain (compressed, of a transaction, of another format,
damaged) is not read here.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

_HEADER_BYTES = 61
_LENGTH_END, _CRC_BEGIN = 12, 21  # the length counts what lies behind it, the CRC covers the rest
_APPEND_TIME = 0x08
# Codec, transaction, control records.
_NOT_PLAIN = 0x07 | 0x10 | 0x20
_CRC32C = 0x82F63B78
_NO_EPOCH = -1


def _tables() -> Words:
    """uint32[8, 256]: what a byte does to a CRC32C, and what with up to seven zeros behind it."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CRC32C), table >> 1)
    tables = [table]
    for _ in range(7):
        tables.append((tables[-1] >> 8) ^ table[tables[-1] & 0xFF])
    return np.array(tables, np.uint32)


_TABLES = _tables()


@numba.njit(cache=True, nogil=True, inline="always")
def _number(source: Bytes, at: int, size: int) -> int:
    """A big-endian number with a sign."""
    value = np.int64(np.int8(source[at]))
    for place in range(at + 1, at + size):
        value = (value << 8) | np.int64(source[place])
    return int(value)


@numba.njit(cache=True, nogil=True)
def crc32c(source: Bytes, begin: int, end: int) -> int:
    """The CRC32C of the bytes from ``begin`` to before ``end``."""
    crc = np.uint32(0xFFFFFFFF)
    at = begin
    while at + 8 <= end:
        low = crc ^ (
            np.uint32(source[at])
            | np.uint32(source[at + 1]) << np.uint32(8)
            | np.uint32(source[at + 2]) << np.uint32(16)
            | np.uint32(source[at + 3]) << np.uint32(24)
        )
        crc = (
            _TABLES[7, low & np.uint32(255)]
            ^ _TABLES[6, (low >> np.uint32(8)) & np.uint32(255)]
            ^ _TABLES[5, (low >> np.uint32(16)) & np.uint32(255)]
            ^ _TABLES[4, low >> np.uint32(24)]
            ^ _TABLES[3, source[at + 4]]
            ^ _TABLES[2, source[at + 5]]
            ^ _TABLES[1, source[at + 6]]
            ^ _TABLES[0, source[at + 7]]
        )
        at += 8
    while at < end:
        crc = _TABLES[0, (crc ^ np.uint32(source[at])) & np.uint32(255)] ^ (crc >> np.uint32(8))
        at += 1
    return int(crc ^ np.uint32(0xFFFFFFFF))


@numba.njit(cache=True, nogil=True)
def plain_segments(source: Bytes, fetch_offset: int) -> tuple[Ints, int, int, int]:
    """Where the records of plain batches lie; a cut last batch is left.

    Args:
        source: uint8[n], batches one behind the other.
        fetch_offset: batches that end before it are left out.

    Returns:
        Segments as ``kafka_batches.fill`` takes them, how many records they have, the offset behind
        the last one, and the leader epoch of the last batch. The number of records is -1 if a batch
        is not plain; nothing else means anything then.
    """
    size = source.shape[0]
    segments = np.empty((size // _HEADER_BYTES + 1, 6), np.int64)
    used, at, records = 0, 0, 0
    next_offset, epoch = fetch_offset, _NO_EPOCH
    while size - at >= _HEADER_BYTES:
        base, epoch = _number(source, at, 8), _number(source, at + 12, 4)
        length, magic = _number(source, at + 8, 4), source[at + 16]
        end = at + _LENGTH_END + length
        if magic == 2 and end > size:
            break
        attributes = _number(source, at + 21, 2)
        if magic != 2 or end < at + _HEADER_BYTES or attributes & _NOT_PLAIN:
            return segments, -1, 0, 0
        if crc32c(source, at + _CRC_BEGIN, end) != _number(source, at + 17, 4) & 0xFFFFFFFF:
            return segments, -1, 0, 0
        last = base + _number(source, at + 23, 4)
        next_offset = max(next_offset, last + 1)
        count = _number(source, at + 57, 4)
        if last >= fetch_offset and count > 0:
            is_appended = attributes & _APPEND_TIME
            segments[used, 0], segments[used, 1] = at + _HEADER_BYTES, end
            segments[used, 2] = base
            segments[used, 3] = _number(source, at + (35 if is_appended else 27), 8)
            segments[used, 4] = 0 if is_appended else 1
            segments[used, 5] = count
            records += count
            used += 1
        at = end
    return segments[:used], records, next_offset, epoch
