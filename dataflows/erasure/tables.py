"""Which rows of the flow's tables are of entities that were forgotten, as tombstones tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataflows.erasure.matching import EntityMatcher, spine_matcher
from dataflows.erasure.tombstones import Tombstones
from dataflows.learning.pending import key_codes
from dataflows.stores.day_files import TableSpec

Bools = npt.NDArray[np.bool_]
RowMatcher = Callable[[pa.RecordBatch], Bools]


def row_matcher(spec: TableSpec, tombstones: Tombstones) -> RowMatcher:
    """A function that says of each row of a batch whether it is to go.

    Args:
        spec: a table of ``dataflows.tables``: of a view, of a model's examples or its outcomes.
        tombstones: who was forgotten.
    """
    kind, _, name = spec.name.partition("/")
    if kind != "views":
        return _spine_rows(spec.sort_columns[0], name, tombstones)
    types = ["int64" if spec.schema.field(n).type == pa.int64() else "string"
             for n in spec.sort_columns]  # fmt: skip
    return _view_rows(spec.sort_columns, EntityMatcher(tombstones, spec.sort_columns, types))


def _spine_rows(column: str, model: str, tombstones: Tombstones) -> RowMatcher:
    matches = spine_matcher(tombstones, model)

    def are_gone(batch: pa.RecordBatch) -> Bools:
        keys = pc.dictionary_encode(batch.column(column))
        found = matches(key_codes(keys.dictionary.to_pylist()))
        return np.asarray(found[keys.indices.to_numpy(zero_copy_only=False)], np.bool_)

    return are_gone


def _view_rows(names: tuple[str, ...], matcher: EntityMatcher) -> RowMatcher:
    def are_gone(batch: pa.RecordBatch) -> Bools:
        if not matcher.means_any:
            return np.zeros(batch.num_rows, np.bool_)
        rows = list(zip(*(batch.column(name).to_pylist() for name in names), strict=True))
        known = {values: bool(matcher.places(values)) for values in set(rows)}
        return np.fromiter((known[values] for values in rows), np.bool_, len(rows))

    return are_gone
