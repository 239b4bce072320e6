"""The file log: ``DIR/TOPIC/PARTITION.ndjson``, one object a line; an offset is a byte position."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import numpy as np

from contracts.log import RECORD_BYTES_MAX, Chunk, LogError


def partition_files(directory: Path, topic: str) -> dict[int, Path]:
    """Partition number -> file, in order. A topic that nobody has written to has none."""
    found = {}
    for path in (directory / topic).glob("*.ndjson"):
        if not re.fullmatch(r"0|[1-9][0-9]{0,8}", path.stem) or not path.is_file():
            raise LogError(f"{path}: partitions are named 0.ndjson, 1.ndjson, ...; move it away")
        found[int(path.stem)] = path
    return dict(sorted(found.items()))


def ensure_topic(directory: Path, topic: str) -> None:
    """Make the topic with one empty partition if it does not exist."""
    if not partition_files(directory, topic):
        (directory / topic).mkdir(parents=True, exist_ok=True)
        (directory / topic / "0.ndjson").touch()


class PartitionFile:
    """Reads one partition from an offset on. Not safe for threads."""

    def __init__(self, path: Path, offset: int) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise LogError(f"cannot open {path}: {error.strerror}") from error
        self._path = path
        self._memory = bytearray()
        self.offset = offset
        self._looked_to = offset
        self._is_at_end = False
        size = self.size()
        if size < offset:
            self._file.close()
            raise LogError(
                f"{path} has {size} bytes but was read up to {offset}: it was cut or "
                "replaced. Put it back, or rebuild everything with `headwater replay`"
            )

    def size(self) -> int:
        """Bytes in the file now, a record still being written included."""
        return os.fstat(self._file.fileno()).st_size

    def has_news(self) -> bool:
        """Whether anything was written since the last read."""
        return self.size() > self._looked_to

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """Up to ``bytes_max`` of whole records (one record may be larger); None if there is none.

        Nothing that begins at or after ``until`` is read.
        """
        size = bytes_max
        while True:
            # A torn record at the end is looked at once, not again and again.
            self._looked_to = self.size()
            room = size if until is None else min(size, until - self.offset)
            count = self._fill(min(room, self._looked_to - self.offset))
            end = self._memory.rfind(b"\n", 0, count) + 1
            if end > 0:
                self._is_at_end = False
                return self._chunk(bytes(memoryview(self._memory)[:end]))
            if count < size:
                self._is_at_end = True
                return None
            if size > RECORD_BYTES_MAX:
                raise LogError(
                    f"{self._path}: no newline within {size} bytes of offset {self.offset}; "
                    "this is not a log of JSON lines. Mend the file or move it away"
                )
            size *= 2

    def _fill(self, room: int) -> int:
        """Read up to so many bytes into the memory, and how many there were.

        It stays, since memory that is new costs more than reading.
        """
        if room <= 0:
            return 0
        if len(self._memory) < room:
            self._memory = bytearray(room)
        return os.preadv(self._file.fileno(), [memoryview(self._memory)[:room]], self.offset)

    def _chunk(self, records: bytes) -> Chunk:
        newlines = np.flatnonzero(np.frombuffer(records, np.uint8) == ord("\n"))
        offsets = np.empty(len(newlines), np.int64)
        offsets[0] = self.offset
        offsets[1:] = newlines[:-1] + (self.offset + 1)
        self.offset += len(records)
        return Chunk(records, offsets - offsets[0], offsets, self.offset)

    def is_at_end(self, until: int | None = None) -> bool:
        """Whether all was read that the file held at the last look, but for a torn record."""
        known = self._looked_to if until is None else min(self._looked_to, until)
        return self._is_at_end or self.offset >= known

    def has_withheld(self) -> bool:
        """All but a torn record can be read at once."""
        return False

    def known_at(self, now: float) -> float:
        """A file is what it is."""
        return now

    def committed(self, offset: int) -> None:
        """Nobody watches a file."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileLogWriter:
    """Appends records to a topic's partitions. Each ``append`` is one write per partition."""

    def __init__(self, directory: Path, topic: str) -> None:
        ensure_topic(directory, topic)
        self._partitions = list(partition_files(directory, topic).values())
        self._files = [path.open("ab", buffering=0) for path in self._partitions]
        for path, file in zip(self._partitions, self._files, strict=True):
            if _is_torn(path):
                # A writer died in a record. Ended here, it is a bad record that is seen and
                # counted; left open, it would spoil the next one too.
                self._write(file.fileno(), b"\n")

    def append(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Append (key, record without newline) pairs; return how many.

        The partition is chosen by the hash of the key, so one key stays in order.
        """
        buffers: list[list[bytes]] = [[] for _ in self._files]
        count = 0
        for key, record in records:
            buffers[crc32(key.encode()) % len(self._files)].append(record)
            count += 1
        for file, lines in zip(self._files, buffers, strict=True):
            if lines:
                self._write(file.fileno(), b"\n".join(lines) + b"\n")
        return count

    def lines(self) -> Iterable[bytes]:
        """All records that the topic holds, partition by partition."""
        for path in self._partitions:
            with path.open("rb") as file:
                yield from file

    def _write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except OSError as error:
                raise LogError(f"cannot append to the log: {error.strerror}") from error

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()


def _is_torn(path: Path) -> bool:
    """Whether the last record has no newline."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
