"""Parts of chunks, and chunks put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.log import Chunk


def cut_chunk(chunk: Chunk, first: int, last: int) -> Chunk:
    """The records ``first`` to ``last - 1``; of the last ones, with what the chunk ends with."""
    count = len(chunk.starts)
    if (first, last) == (0, count):
        return chunk
    begin = int(chunk.starts[first])
    end = int(chunk.starts[last]) if last < count else len(chunk.records)
    return Chunk(
        records=chunk.records[begin:end],
        starts=chunk.starts[first:last] - begin,
        offsets=chunk.offsets[first:last],
        next_offset=int(chunk.offsets[last - 1]) + 1 if last < count else chunk.next_offset,
        times_ms=None if chunk.times_ms is None else chunk.times_ms[first:last],
    )


def room_for(chunk: Chunk, first: int, bytes_max: int, until: int | None) -> int:
    """Behind which record to cut: from ``first`` on as many as fit, one at the least.

    None at or after offset ``until`` is taken, so it may be ``first`` itself.
    """
    last = len(chunk.starts)
    begin = int(chunk.starts[first])
    if len(chunk.records) - begin > bytes_max:
        last = int(np.searchsorted(chunk.starts, begin + bytes_max, side="right")) - 1
        last = max(last, first + 1)
    if until is not None:
        last = min(last, int(np.searchsorted(chunk.offsets, until)))
    return max(last, first)


def joined_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """One chunk of all records; it has times if all of the chunks do."""
    if len(chunks) == 1:
        return chunks[0]
    begins = np.cumsum([0] + [len(chunk.records) for chunk in chunks[:-1]])
    times = [chunk.times_ms for chunk in chunks if chunk.times_ms is not None]
    return Chunk(
        records=b"".join(chunk.records for chunk in chunks),
        starts=np.concatenate([c.starts + b for c, b in zip(chunks, begins, strict=True)]),
        offsets=np.concatenate([chunk.offsets for chunk in chunks]),
        next_offset=chunks[-1].next_offset,
        times_ms=np.concatenate(times) if len(times) == len(chunks) else None,
    )
