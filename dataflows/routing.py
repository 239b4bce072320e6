"""Which rows of a batch go to which shard of which view, and which to which model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np

from contracts.category import category_code, text_of
from contracts.feast_bytes import entity_key_maker
from contracts.feature_schema import ValueType, is_in_vector
from contracts.on_demand import text_inputs
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
from dataflows.encoding import InputEncoder
from dataflows.erasure.matching import (
    NOT_FORGOTTEN,
    Bools,
    ColumnMarks,
    ForgottenKeys,
    KeyMarks,
    model_keys,
)
from dataflows.key_numbers import KeyNumbers
from dataflows.learning.label_expression import compile_label
from dataflows.packed_columns import is_there, values_at
from dataflows.watermark import PartitionClock
from dataflows.windows.inputs import Input, KeyList, TextList

# Distinct entity keys that a worker remembers the bytes of; past it, it starts anew.
KEY_CACHE_ENTRIES_MAX = 1_000_000
_NO_CODE = -1
_NO_TEXTS = TextList()
_NO_COLUMNS: tuple[int, ...] = ()

_EntityKind = tuple[tuple[str, ...], tuple[ValueType, ...]]


@dataclass(frozen=True)
class _Split:
    """Rows of a batch in the order of their shards.

    Attributes:
        rows: int64[n], place in the batch; rows without a key are left out.
        codes: int64[n], place in the list of keys of the row's shard.
        parts: shard, its list of keys, first row and end.
    """

    rows: Ints
    codes: Ints
    parts: list[tuple[int, KeyList, int, int]]


@dataclass(frozen=True)
class _Columns:
    """Columns that views are fed from, and what was made of them already."""

    columns: Mapping[str, Any]
    splits: dict[_EntityKind, _Split] = field(default_factory=dict)
    inputs: dict[Input, Floats] = field(default_factory=dict)


class KeyEncoder:
    """Entity keys of a batch: their shards and codes, remembered between batches.

    Attributes:
        keys: for each shard the keys that were met; a code is a place in it.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        types: tuple[ValueType, ...],
        shards: int,
        forgotten: KeyMarks | None = None,
    ) -> None:
        self._names = names
        self._types = types
        self._make_key = entity_key_maker(names, types)
        self._shards = shards
        self._forgotten = forgotten
        self._forget()
        # Its loops are compiled now, and not when the first record has come.
        self._known.of([[] for _ in names])

    def _forget(self) -> None:
        self._known = KeyNumbers(self._types)
        # By number; the last place is that of rows without a key.
        self._homes: Ints = np.full(64, _NO_CODE, np.int64)
        self._codes: Ints = np.full(64, _NO_CODE, np.int64)
        self._marks: Ints = np.full(64, NOT_FORGOTTEN, np.int64)
        self.keys: list[KeyList] = [KeyList() for _ in range(self._shards)]

    def encode(self, columns: Mapping[str, Any], ranks: Ints) -> tuple[Ints, Ints]:
        """(int64[n] shard of each row or -1, int64[n] its code).

        -1 is where a part of the key is null, and where the entity was forgotten after the record.
        """
        if len(self._known) > KEY_CACHE_ENTRIES_MAX:
            # New lists of keys too: shards know what they were told by the list.
            self._forget()
        parts = [columns[name] for name in self._names]
        found, new = self._known.of(parts)
        if len(new):
            self._learn(int(found[new[0]]), [values_at(part, new) for part in parts])
        homes = self._homes[found]
        if self._forgotten is not None:
            homes[self._forgotten.dropped(self._marks[found], ranks)] = _NO_CODE
        return homes, self._codes[found]

    def _learn(self, number: int, parts: list[list[Any]]) -> None:
        """New keys, the first of which has this number."""
        room = number + len(parts[0]) + 1
        if room > len(self._homes):
            more = np.full(room, _NO_CODE)
            self._homes = np.concatenate([self._homes, more])
            self._codes = np.concatenate([self._codes, more])
            self._marks = np.concatenate([self._marks, np.full(room, NOT_FORGOTTEN)])
        keys = [self._make_key(values) for values in zip(*parts, strict=True)]
        homes = [crc32(key) % self._shards for key in keys]
        codes = []
        for home, key in zip(homes, keys, strict=True):
            held = self.keys[home].keys
            codes.append(len(held))
            held.append(key)
        end = number + len(keys)
        self._homes[number:end], self._codes[number:end] = homes, codes
        if self._forgotten is not None:
            marks = [self._forgotten.mark(values) for values in zip(*parts, strict=True)]
            self._marks[number:end] = marks


class ShardRouter:
    """Splits the batches of all topics over the shards. Not safe for threads."""

    def __init__(self, plan: Plan, shards: int, forgotten: ForgottenKeys | None = None) -> None:
        """``forgotten`` are entities whose old records are passed over; None for nobody's."""
        self._shards = shards
        self._names = [f"{shard:04d}" for shard in range(shards)]
        self._updates: dict[str, list[tuple[View, InputEncoder]]] = {}
        self._reads: dict[str, list[View]] = {}
        self._encoders: dict[_EntityKind, KeyEncoder] = {}
        for view in plan.views:
            self._updates.setdefault(view.topic, []).append((view, InputEncoder(view)))
            kind = _kind(view)
            marks = None if forgotten is None else forgotten.marks(*kind)
            self._encoders[kind] = KeyEncoder(*kind, shards, marks)
        for model in plan.models:
            read = self._reads.setdefault(model.spine_topic, [])
            read.extend(plan.view(name) for name in model.views if plan.view(name) not in read)

    def route(
        self, batch: SourceBatch, before: tuple[PartitionClock, ...] = ()
    ) -> list[tuple[str, ShardInput]]:
        """One item for every shard, since every shard must learn the watermark.

        ``before`` are clocks that are to be heard before the batch's own, see ``crumbs``.
        """
        inputs = [ShardInput(shard, batch.clock, {}, {}, before) for shard in range(self._shards)]
        count = len(batch.ranks)
        if count:
            plain = _Columns(batch.columns)
            for view, encoder in self._updates.get(batch.topic, ()):
                is_derived = view.transform != "none"
                columns = _Columns(batch.derived[view.name]) if is_derived else plain
                values = encoder.encode(columns.columns, count, columns.inputs)
                split = self._split(view, columns, batch.ranks)
                for shard, rows in _keyed(split, batch, values, encoder):
                    inputs[shard].updates[view.name] = rows
            nothing = np.empty((count, 0))
            for view in self._reads.get(batch.topic, ()):
                # The spine may be another topic: what is read is told by its own columns.
                for shard, rows in _keyed(
                    self._split(view, plain, batch.ranks), batch, nothing, None
                ):
                    inputs[shard].reads[view.name] = rows
        return list(zip(self._names, inputs, strict=True))

    def _split(self, view: View, columns: _Columns, ranks: Ints) -> _Split:
        """Rows by shard; worked out once per kind of entity and set of columns."""
        kind = _kind(view)
        split = columns.splits.get(kind)
        if split is None:
            encoder = self._encoders[kind]
            split = columns.splits[kind] = self._new_split(encoder, columns.columns, ranks)
        return split

    def _new_split(self, encoder: KeyEncoder, columns: Mapping[str, Any], ranks: Ints) -> _Split:
        shards, codes = encoder.encode(columns, ranks)
        # So small a type is sorted by counting.
        rows = np.argsort(shards.astype(np.int16), kind="stable")
        ends = np.cumsum(np.bincount(shards + 1, minlength=self._shards + 1)).tolist()
        first = ends[0]
        parts = [
            (shard, encoder.keys[shard], begin - first, end - first)
            for shard, (begin, end) in enumerate(pairwise(ends))
            if begin < end
        ]
        rows = rows[first:]
        return _Split(rows, codes[rows], parts)


def _keyed(
    split: _Split, batch: SourceBatch, values: Floats, encoder: InputEncoder | None
) -> Iterator[tuple[int, KeyedRows]]:
    """What goes to each shard; ``encoder`` is what made the values, None for reads."""
    texts, text_columns = _NO_TEXTS, _NO_COLUMNS
    if encoder is not None:
        texts, text_columns = encoder.texts, encoder.text_columns
    # In order of shards first, so that what each gets lies in one piece.
    effective_us, ranks = batch.effective_us[split.rows], batch.ranks[split.rows]
    event_us, values = batch.event_us[split.rows], values[split.rows]
    for shard, keys, begin, end in split.parts:
        part = slice(begin, end)
        yield (
            shard,
            KeyedRows(
                keys,
                split.codes[part],
                effective_us[part],
                ranks[part],
                event_us[part],
                values[part],
                texts,
                text_columns,
            ),
        )


class ModelRouter:
    """Picks what one model needs out of the batches of all topics."""

    def __init__(
        self, plan: Plan, model: ModelPlan, forgotten: ForgottenKeys | None = None
    ) -> None:
        """``forgotten`` are entities of whom no old vector is made; None for nobody."""
        self._model = model
        self._request = [
            one
            for place, one in enumerate(model.schema.places)
            if one.kind == "request" and is_in_vector(place, one, model.schema)
        ]
        self._texts = text_inputs(model.schema)
        has_expression = model.label_topic and model.task != "multiclass"
        self._label = compile_label(model.label_value) if has_expression else None
        self._join_keys = [plan.view(name).join_keys for name in model.views]
        self._forgotten: dict[tuple[str, ...], ColumnMarks] = {}
        for names, types in model_keys(plan, model):
            marks = None if forgotten is None else forgotten.marks(names, types)
            if marks is not None:
                self._forgotten[names] = ColumnMarks(names, marks)

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
        for i, one in enumerate(self._request):
            column = batch.columns[one.name]
            request[:, i] = _codes(column) if one.dtype == "string" else _floats(column)
        reads = np.zeros(count, np.int64)
        gone = self._gone(batch)
        for join_keys in self._join_keys:
            whole = np.ones(count, np.bool_)
            for name in join_keys:
                whole &= is_there(batch.columns[name])
            if join_keys in gone:
                # Their reads go to no shard.
                whole &= ~gone[join_keys]
            reads += whole
        keys = list(batch.columns[self._model.spine_key])
        texts = tuple(list(batch.columns[name]) for name in self._texts)
        segments = tuple(_as_texts(batch.columns[name]) for name in self._model.segments)
        spine = SpineRows(keys, batch.effective_us, batch.ranks, request, reads, texts, segments)
        if gone:
            is_gone = np.logical_or.reduce(list(gone.values()))
            return spine.blanked(is_gone) if is_gone.any() else spine
        return spine

    def _gone(self, batch: SourceBatch) -> dict[tuple[str, ...], Bools]:
        """Join keys -> which rows are to be passed over, as the tombstones of such entities say."""
        if not self._forgotten:
            return {}
        found = {
            names: marks.dropped(batch.columns, batch.ranks)
            for names, marks in self._forgotten.items()
        }
        return {names: is_gone for names, is_gone in found.items() if is_gone.any()}

    def _labels(self, batch: SourceBatch) -> LabelRows:
        keys = list(batch.columns[self._model.label_key])
        if self._label is None:
            classes = _as_texts(batch.columns[self._model.label_value])
            nothing = np.full(len(classes), np.nan)
            return LabelRows(keys, batch.effective_us, batch.ranks, nothing, classes)
        columns = {name: _floats(batch.columns[name]) for name in self._label.columns}
        values = self._label.evaluate(columns)
        return LabelRows(keys, batch.effective_us, batch.ranks, values)


def _kind(view: View) -> _EntityKind:
    return view.join_keys, view.join_key_types


def _codes(column: Sequence[str | None]) -> Floats:
    """Codes of texts; NaN for null."""
    return np.array(
        [np.nan if text is None else category_code(text) for text in column], dtype=np.float64
    )


def _as_texts(column: Any) -> list[str | None]:
    """A column of texts, whole numbers or booleans as texts; None for null."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [None if value is None or value != value else text_of(value) for value in values]


def _floats(column: Any) -> Floats:
    return np.asarray(column, dtype=np.float64)
