"""A stretch of event time: what a replay of a part of history takes of each batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from dataflows.batches import SourceBatch


@dataclass(frozen=True)
class Span:
    """Event times from ``from_us`` on and before ``to_us``, microseconds since 1970 UTC."""

    from_us: int
    to_us: int

    def of(self, batch: SourceBatch) -> SourceBatch:
        """The batch without rows of other times; they still move its partition's clock."""
        is_inside = (batch.event_us >= self.from_us) & (batch.event_us < self.to_us)
        if is_inside.all():
            return batch
        return replace(
            batch,
            ranks=batch.ranks[is_inside],
            event_us=batch.event_us[is_inside],
            effective_us=batch.effective_us[is_inside],
            columns=_taken(batch.columns, is_inside),
            derived={view: _taken(made, is_inside) for view, made in batch.derived.items()},
        )


def _taken(columns: Mapping[str, Any], is_inside: Any) -> dict[str, Any]:
    taken: dict[str, Any] = {}
    for name, column in columns.items():
        is_array = isinstance(column, np.ndarray)
        taken[name] = column[is_inside] if is_array else list(compress(column, is_inside))
    return taken
