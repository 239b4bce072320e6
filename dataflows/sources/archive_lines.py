"""Archive files with one record of JSON a line, compressed or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

from contracts.log import RECORD_BYTES_MAX, Chunk, LogError
from dataflows.sources.archive_store import ArchiveBytes
from dataflows.sources.chunks import cut_chunk

_READ_BYTES = 1024 * 1024


class _Bytes(Protocol):
    """Gives bytes, none of them at the end."""

    def read(self, size: int) -> bytes: ...


def count_lines(file: ArchiveBytes, path: str, compression: str) -> int:
    """How many records a file has; raise LogError if it cannot be read to its end."""
    count = 0
    # One more than the place of the last newline, in bytes; and how much there is.
    whole, size = 0, 0
    for data in _read(file, path, compression, _READ_BYTES):
        found = int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))
        count += found
        if found:
            whole = size + data.rfind(b"\n") + 1
        size += len(data)
        if size - whole > RECORD_BYTES_MAX:
            raise _no_lines(path)
    if whole < size:
        raise _torn(path)
    return count


def line_chunks(
    file: ArchiveBytes, path: str, compression: str, first: int, begin: int, piece_bytes: int
) -> Iterator[Chunk]:
    """The records of a file whose first one has offset ``first``, from offset ``begin`` on.

    Args:
        file: its bytes.
        path: for messages.
        compression: as ``ArchiveName`` has it.
        first: offset of the first line.
        begin: records before it are left out.
        piece_bytes: size of a chunk, about; larger only for a larger record.

    Raises:
        LogError: it cannot be read on; all chunks before hold whole records.
    """
    offset = first
    rest = b""
    for data in _read(file, path, compression, piece_bytes):
        data = rest + data if rest else data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > RECORD_BYTES_MAX:
            raise _no_lines(path)
        if not end:
            continue
        chunk = _chunk(data[:end] if rest else data, offset)
        offset = chunk.next_offset
        if offset > begin:
            yield cut_chunk(chunk, max(begin - int(chunk.offsets[0]), 0), len(chunk.starts))
    if rest:
        raise _torn(path)


def _read(file: ArchiveBytes, path: str, compression: str, size: int) -> Iterator[bytes]:
    source: _Bytes = file
    try:
        if compression:
            # On its own it would ask for some kilobytes at a time.
            buffered = pa.BufferedInputStream(pa.PythonFile(file, "r"), _READ_BYTES)
            source = pa.CompressedInputStream(buffered, compression)
        while data := source.read(size):
            yield data
    except OSError as error:
        # What the store says is a LogError by now: this is the decompression.
        raise LogError(
            f"archive: {path} cannot be decompressed ({error}); it was cut off or damaged: put a "
            "whole copy in its place and start again"
        ) from error


def _chunk(records: bytes, offset: int) -> Chunk:
    newlines = np.flatnonzero(np.frombuffer(records, np.uint8) == ord("\n"))
    starts = np.empty(len(newlines), np.int64)
    starts[0] = 0
    starts[1:] = newlines[:-1] + 1
    offsets = np.arange(offset, offset + len(starts), dtype=np.int64)
    return Chunk(records, starts, offsets, offset + len(starts))


def _torn(path: str) -> LogError:
    return LogError(
        f"archive: {path} does not end with a newline: it was cut off; put a whole copy in its "
        "place (or, if its last record is whole, a newline behind it) and start again"
    )


def _no_lines(path: str) -> LogError:
    return LogError(
        f"archive: {path} has a line of more than {RECORD_BYTES_MAX} bytes; this is no file of "
        "JSON lines: move it away, or write it anew"
    )
