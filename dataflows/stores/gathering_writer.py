"""What a replay gathers, as an online store that nobody reads; ``gathered_layout`` says how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from contracts.plan import View
from dataflows.stores.gathered_layout import layout_of, make_gathered_table
from dataflows.stores.sqlite_file import quoted
from dataflows.stores.sqlite_writer import SqliteOnlineWriter


class GatheringWriter(SqliteOnlineWriter):
    """As its base, but with one row for each entity of a view."""

    def _make_table(self, view: View) -> str:
        layout = layout_of(self._project, view)
        make_gathered_table(self._connection, layout)
        names = ["event_us", "numbers", *layout.texts]
        cells = ", ".join("?" * (1 + len(names)))
        exchanged = ", ".join(f"{name} = excluded.{name}" for name in names)
        return (
            f"INSERT INTO {quoted(layout.table)} AS old (entity_key, {', '.join(names)})"
            f" VALUES ({cells}) ON CONFLICT (entity_key) DO UPDATE SET {exchanged}"
            " WHERE excluded.event_us >= old.event_us"
        )

    def _rows(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        texts: Sequence[str],
    ) -> Iterable[tuple[object, ...]]:
        columns = layout_of(self._project, view).columns(values, texts)
        return zip(keys, stamps_us.tolist(), *columns, strict=True)
