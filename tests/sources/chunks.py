"""Chunks of a log, as a reader would give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.log import Chunk


def chunk_of(records: Sequence[bytes], first_offset: int = 0) -> Chunk:
    """These records, at offsets that are byte positions as in a file."""
    sizes = [len(record) + 1 for record in records]
    starts = np.cumsum([0, *sizes])[: len(records)].astype(np.int64)
    data = b"".join(record + b"\n" for record in records)
    return Chunk(data, starts, starts + first_offset, first_offset + len(data))
