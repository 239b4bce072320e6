"""Crumbs: what comes in live, a few records of each partition at a time.

To decode or to route a batch takes a while that does not depend on how few records it has, so the
crumbs of several partitions of a topic are put together for it. What each partition says of itself
stays its own: its positions, effective times, dead letters and clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from contracts.log import Chunk
from dataflows.batches import SourceBatch
from dataflows.sources.chunks import joined_chunks
from dataflows.sources.columns import BadRecord, Decoded, RecordDecoder
from dataflows.watermark import PartitionClock

# Of larger batches a copy costs more than it saves.
_ROWS_MAX = 512


def decode_together(decoder: RecordDecoder, chunks: Sequence[Chunk]) -> list[Decoded]:
    """What ``decoder`` makes of each of some chunks, which may be of several partitions."""
    if len(chunks) == 1:
        return [decoder.decode(chunks[0])]
    whole = decoder.decode(joined_chunks(chunks))
    ends = np.cumsum([len(chunk.starts) for chunk in chunks])
    cuts = np.searchsorted(whole.index, ends).tolist()
    found: list[Decoded] = []
    first = row = bad = 0
    for end, cut in zip(ends.tolist(), cuts, strict=True):
        part = slice(row, cut)
        last = bad
        while last < len(whole.bad) and whole.bad[last].index < end:
            last += 1
        found.append(
            Decoded(
                whole.index[part] - first,
                whole.event_us[part],
                {name: column[part] for name, column in whole.columns.items()},
                [BadRecord(b.index - first, b.record, b.reason) for b in whole.bad[bad:last]],
            )
        )
        first, row, bad = end, cut, last
    return found


def together(
    batches: Sequence[SourceBatch],
) -> Iterator[tuple[SourceBatch, tuple[PartitionClock, ...]]]:
    """The same batches in the same order, small neighbours of one topic as one.

    Yields:
        A batch, which has the clock of its last part, and the clocks of its other parts.
    """
    for (topic, is_small), some in groupby(batches, _kind):
        parts = list(some)
        if is_small and len(parts) > 1:
            yield _joined(topic, parts), tuple(part.clock for part in parts[:-1])
        else:
            yield from ((part, ()) for part in parts)


def _kind(batch: SourceBatch) -> tuple[str, bool]:
    return batch.topic, len(batch.ranks) <= _ROWS_MAX


def _joined(topic: str, parts: Sequence[SourceBatch]) -> SourceBatch:
    """Without dead letters, which have gone another way."""
    clock = parts[-1].clock
    # A batch that only tells of silence has no columns.
    parts = [part for part in parts if len(part.ranks)] or parts[-1:]
    if len(parts) == 1:
        (part,) = parts
        columns, derived = part.columns, part.derived
    else:
        columns = _joined_columns([part.columns for part in parts])
        derived = {
            view: _joined_columns([part.derived[view] for part in parts])
            for view in parts[0].derived
        }
    return SourceBatch(
        topic,
        clock,
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.event_us for part in parts]),
        np.concatenate([part.effective_us for part in parts]),
        columns,
        derived,
    )


def _joined_columns(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _joined_column([part[name] for part in parts]) for name in parts[0]}


def _joined_column(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]
