"""What every log, of files or of Kafka, is to those who read it and write it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

# A larger record is taken for a mistake; Kafka's own limit is a sixteenth of it by default.
RECORD_BYTES_MAX = 16 * 1024 * 1024

Ints = npt.NDArray[np.int64]


class LogError(Exception):
    """The log cannot be read or written; the message says where and what to do."""


class RecordTooLargeError(LogError):
    """The log does not take a record of this size; trying again changes nothing."""


@dataclass(frozen=True)
class Chunk:
    """Whole records read from a partition.

    Attributes:
        records: the bytes of all records, each with a newline behind it (binary ones too, so that
            JSON can be decoded by lines). A record may itself hold newlines in a Kafka topic.
        starts: int64[n], where in ``records`` each begins; it ends one before the next begins.
        offsets: int64[n], the position of each in its partition, rising.
        next_offset: where the next read begins.
        times_ms: int64[n], when Kafka says that each was written (milliseconds since 1970 UTC);
            None for a file.
    """

    records: bytes
    starts: Ints
    offsets: Ints
    next_offset: int
    times_ms: Ints | None = None

    def record(self, index: int) -> bytes:
        """One record as it was written."""
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.records)
        return self.records[self.starts[index] : end - 1]


class PartitionReader(Protocol):
    """One partition, read from an offset on. Nothing here blocks."""

    @property
    def offset(self) -> int:
        """Where the next read begins."""
        ...

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """About ``bytes_max`` of whole records, at least one; None if there is none just now.

        Nothing at or after offset ``until`` is given.

        Raises:
            LogError: the partition cannot be read on.
        """
        ...

    def has_news(self) -> bool:
        """Whether a read might give something that the last one did not."""
        ...

    def is_at_end(self, until: int | None = None) -> bool:
        """Whether all there is to read (before ``until``) was read, as far as is known by now.

        False while a broker does not answer: what nobody can see is not silence.
        """
        ...

    def has_withheld(self) -> bool:
        """Whether records were written that may not be read yet: then the end is no silence.

        In Kafka those of a transaction that is open, and all behind them.
        """
        ...

    def known_at(self, now: float) -> float:
        """Up to when (seconds of the monotonic clock that says ``now``) ``is_at_end`` is known."""
        ...

    def committed(self, offset: int) -> None:
        """All before ``offset`` is durably done: for those who watch the lag from outside."""
        ...

    def close(self) -> None:
        """Let go of the partition."""
        ...


class LogWriter(Protocol):
    """Appends to one topic."""

    def append(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Append (key, record) pairs and return how many; one key stays in order.

        Raises:
            LogError: the log cannot be written.
        """
        ...

    def close(self) -> None:
        """Wait until all is written (with a limit) and let go of the topic; LogError if not."""
        ...
