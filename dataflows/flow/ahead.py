"""Partitions read before their turn, so that the crumbs of one fetch are decoded together.

Bytewax asks one partition after another for a batch. To decode one takes a while however few its
records are, so whoever comes first decodes the crumbs of all. Each partition still gives its own
records when it is asked, and until then stands where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from contracts.log import Chunk, LogError, PartitionReader
from dataflows.sources.columns import Decoded

# More than this is no crumb.
CRUMB_BYTES = 64 * 1024


@dataclass
class _Held:
    """What was read ahead: where the partition stands, its records, and what they are."""

    offset: int
    chunk: Chunk
    decoded: Decoded | None = None


class AheadReader:
    """Reads a partition, at its turn or before it. Not safe for threads."""

    def __init__(self, reader: PartitionReader, bytes_max: int, until: int | None) -> None:
        """Each read takes about ``bytes_max``, and nothing at or after offset ``until``."""
        self._reader = reader
        self._bytes_max = bytes_max
        self._until = until
        self._held: _Held | None = None

    @property
    def offset(self) -> int:
        """Where the next ``take`` begins."""
        return self._reader.offset if self._held is None else self._held.offset

    @property
    def is_ahead(self) -> bool:
        """Whether there is something that was read before its turn."""
        return self._held is not None

    def take(self) -> tuple[Chunk, Decoded | None] | None:
        """The next records, and what they are if that is known; None if there are none just now.

        Raises:
            LogError: as ``PartitionReader.read``.
        """
        held, self._held = self._held, None
        if held is not None:
            return held.chunk, held.decoded
        chunk = self._reader.read(self._bytes_max, self._until)
        return None if chunk is None else (chunk, None)

    def read_ahead(self) -> _Held | None:
        """Read before its turn; what was read if it is a crumb."""
        offset = self._reader.offset
        try:
            chunk = self._reader.read(self._bytes_max, self._until)
        except LogError:
            # It is raised when it is this partition's turn.
            return None
        if chunk is None:
            return None
        self._held = _Held(offset, chunk)
        return self._held if is_crumb(chunk) else None


def is_crumb(chunk: Chunk) -> bool:
    """Whether so little was read that it comes in live."""
    return len(chunk.records) < CRUMB_BYTES


def decode_crumbs(
    chunk: Chunk,
    others: Iterable[AheadReader],
    decode: Callable[[Sequence[Chunk]], list[Decoded]],
) -> Decoded:
    """What the records of a crumb are; the crumbs of ``others`` are read ahead and decoded too."""
    held = [crumb for other in others if (crumb := other.read_ahead()) is not None]
    mine, *theirs = decode([chunk, *(crumb.chunk for crumb in held)])
    for crumb, decoded in zip(held, theirs, strict=True):
        crumb.decoded = decoded
    return mine
