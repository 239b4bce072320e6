"""Results that come one by one, gathered for the check. See ``check`` for the columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.workload import FEATURES


class EachEvent:
    """Rows of nine values, one for each event."""

    def __init__(self) -> None:
        self._cards: list[str] = []
        self._times_us: list[int] = []
        self._values: list[Sequence[float]] = []

    def add(self, card: str, time_us: int, values: Sequence[float]) -> None:
        """Take a row; ``values`` in the order of ``FEATURES``."""
        self._cards.append(card)
        self._times_us.append(time_us)
        self._values.append(values)

    def write(self, path: Path) -> None:
        """Write all rows."""
        features = dict(zip(FEATURES, zip(*self._values, strict=True), strict=True))
        table = pa.table({"card": self._cards, "time_us": self._times_us, **features})
        pq.write_table(table, path)


class EachWindow:
    """Rows of three values, one for each window of a card."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, int, float, float, float]] = []

    def add(self, card: str, window: str, start_us: int, values: Sequence[float]) -> None:
        """Take a row; ``values`` are count, sum and maximum."""
        count, total, largest = values
        self._rows.append((card, window, start_us, count, total, largest))

    def write(self, path: Path) -> None:
        """Write all rows."""
        names = ("card", "window", "start_us", "count", "sum", "max")
        columns = zip(*self._rows, strict=True)
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
