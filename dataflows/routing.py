"""Which rows of a batch go to which shard of which view, and which to which model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.feast_bytes import entity_key
from contracts.feature_schema import ValueType
from contracts.plan import ModelPlan, Plan, View
from dataflows.batches import (
    Floats,
    Ints,
    KeyedRows,
    LabelRows,
    ModelInput,
    ShardInput,
    SourceBatch,
    SpineRows,
)
from dataflows.learning.label_expression import compile_label

# Distinct entity keys that a worker remembers the bytes of; past it, it starts anew.
KEY_CACHE_ENTRIES_MAX = 1_000_000

_EntityKind = tuple[tuple[str, ...], tuple[ValueType, ...]]
# A shard, its keys, the code of each of its rows, and its rows.
_ShardPart = tuple[int, list[bytes], Ints, Ints]


class KeyEncoder:
    """Entity keys of a batch: their bytes and shards, remembered between batches."""

    def __init__(self, names: tuple[str, ...], types: tuple[ValueType, ...], shards: int) -> None:
        self._names = names
        self._types = types
        self._shards = shards
        self._known: dict[Any, tuple[bytes, int]] = {}

    def encode(self, columns: Mapping[str, Any]) -> tuple[list[bytes], Ints, Ints]:
        """(distinct keys, their shards, int64[n] code of each row or -1 where a part is null)."""
        if len(self._names) == 1:
            values, codes = _distinct(columns[self._names[0]])
        else:
            values, codes = _distinct_tuples([columns[name] for name in self._names])
        if len(self._known) > KEY_CACHE_ENTRIES_MAX:
            self._known.clear()
        found = [self._known.get(value) or self._learn(value) for value in values]
        keys = [key for key, _ in found]
        return keys, np.array([shard for _, shard in found], dtype=np.int64), codes

    def _learn(self, value: Any) -> tuple[bytes, int]:
        parts = value if isinstance(value, tuple) else (value,)
        key = entity_key(self._names, self._types, parts)
        self._known[value] = (key, crc32(key) % self._shards)
        return self._known[value]


class ShardRouter:
    """Splits the batches of all topics over the shards."""

    def __init__(self, plan: Plan, shards: int) -> None:
        self._shards = shards
        self._updates: dict[str, list[tuple[View, tuple[str, ...]]]] = {}
        self._reads: dict[str, list[View]] = {}
        self._encoders: dict[_EntityKind, KeyEncoder] = {}
        for view in plan.views:
            columns = tuple(dict.fromkeys(a.column for a in view.aggregates))
            self._updates.setdefault(view.topic, []).append((view, columns))
            self._encoders[_kind(view)] = KeyEncoder(*_kind(view), shards)
        for model in plan.models:
            read = self._reads.setdefault(model.spine_topic, [])
            read.extend(plan.view(name) for name in model.views if plan.view(name) not in read)

    def route(self, batch: SourceBatch) -> list[tuple[str, ShardInput]]:
        """One item for every shard, since every shard must learn the watermark."""
        inputs = [ShardInput(shard, batch.clock, {}, {}) for shard in range(self._shards)]
        if len(batch.ranks):
            split: dict[_EntityKind, list[_ShardPart]] = {}
            for view, columns in self._updates.get(batch.topic, ()):
                values = np.column_stack([_floats(batch.columns[name]) for name in columns])
                for shard, keys, codes, rows in self._split(split, view, batch):
                    inputs[shard].updates[view.name] = _take(batch, keys, codes, rows, values)
            nothing = np.empty((len(batch.ranks), 0))
            for view in self._reads.get(batch.topic, ()):
                for shard, keys, codes, rows in self._split(split, view, batch):
                    inputs[shard].reads[view.name] = _take(batch, keys, codes, rows, nothing)
        return [(f"{item.shard:04d}", item) for item in inputs]

    def _split(
        self,
        done: dict[_EntityKind, list[_ShardPart]],
        view: View,
        batch: SourceBatch,
    ) -> list[_ShardPart]:
        """What goes to each shard; worked out once per kind of entity."""
        kind = _kind(view)
        if kind not in done:
            keys, shards, codes = self._encoders[kind].encode(batch.columns)
            done[kind] = _by_shard(keys, shards, codes)
        return done[kind]


class ModelRouter:
    """Picks what one model needs out of the batches of all topics."""

    def __init__(self, plan: Plan, model: ModelPlan) -> None:
        self._model = model
        self._request = [f.name for f in model.schema.fields if f.kind == "request"]
        self._label = compile_label(model.label_value)
        self._join_keys = [plan.view(name).join_keys for name in model.views]

    def route(self, batch: SourceBatch) -> tuple[str, ModelInput]:
        """One item, empty but for the clock if the topic is neither spine nor label."""
        spine = labels = None
        is_spine = batch.topic == self._model.spine_topic
        if len(batch.ranks) and is_spine:
            spine = self._spine(batch)
        if len(batch.ranks) and batch.topic == self._model.label_topic:
            labels = self._labels(batch)
        return self._model.name, ModelInput(batch.clock, is_spine, spine, labels)

    def _spine(self, batch: SourceBatch) -> SpineRows:
        count = len(batch.ranks)
        request = np.empty((count, len(self._request)))
        for i, name in enumerate(self._request):
            request[:, i] = _floats(batch.columns[name])
        reads = np.zeros(count, np.int64)
        for join_keys in self._join_keys:
            whole = np.ones(count, np.bool_)
            for name in join_keys:
                whole &= np.array([value is not None for value in batch.columns[name]])
            reads += whole
        keys = batch.columns[self._model.spine_key]
        return SpineRows(keys, batch.effective_us, batch.ranks, request, reads)

    def _labels(self, batch: SourceBatch) -> LabelRows:
        columns = {name: _floats(batch.columns[name]) for name in self._label.columns}
        values = self._label.evaluate(columns)
        keys = batch.columns[self._model.label_key]
        return LabelRows(keys, batch.effective_us, batch.ranks, values)


def _kind(view: View) -> _EntityKind:
    return view.join_keys, view.join_key_types


def _floats(column: Any) -> Floats:
    return np.array(column, dtype=np.float64)


def _distinct(values: list[Any]) -> tuple[list[Any], Ints]:
    if all(value is None for value in values):
        return [], np.full(len(values), -1, np.int64)
    encoded = pa.array(values).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary.to_pylist(), codes


def _distinct_tuples(columns: list[list[Any]]) -> tuple[list[Any], Ints]:
    index: dict[Any, int] = {}
    codes = np.empty(len(columns[0]), np.int64)
    for i, value in enumerate(zip(*columns, strict=True)):
        codes[i] = -1 if None in value else index.setdefault(value, len(index))
    return list(index), codes


def _by_shard(keys: list[bytes], shards: Ints, codes: Ints) -> list[_ShardPart]:
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        return []
    row_shards = shards[codes[rows]]
    order = np.argsort(row_shards, kind="stable")
    rows, row_shards = rows[order], row_shards[order]
    cuts = np.flatnonzero(np.diff(row_shards)) + 1
    parts = []
    for part in np.split(rows, cuts):
        used, part_codes = np.unique(codes[part], return_inverse=True)
        part_keys = [keys[code] for code in used]
        parts.append((int(shards[used[0]]), part_keys, part_codes.astype(np.int64), part))
    return parts


def _take(
    batch: SourceBatch,
    keys: list[bytes],
    codes: Ints,
    rows: npt.NDArray[np.int64],
    values: Floats,
) -> KeyedRows:
    return KeyedRows(
        keys, codes, batch.effective_us[rows], batch.ranks[rows], batch.event_us[rows], values[rows]
    )
