"""Rows for the offline store, the examples and the outcomes, as Arrow batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.feast_bytes import decode_entity_key
from contracts.feast_columns import distinct_strings
from contracts.feature_schema import ValueType
from contracts.plan import ModelPlan, View
from dataflows.batches import ViewRows
from dataflows.learning.records import Outcomes, Scored
from dataflows.stores.day_table import TableSpec

TIME = pa.timestamp("us", tz="UTC")
# Entity keys whose parts are remembered, since most come again (some 500 bytes each).
_DECODED_KEYS_MAX = 100_000
_LABEL_TYPES = {
    "binary": pa.bool_(),
    "anomaly": pa.bool_(),
    "regression": pa.float64(),
    "multiclass": pa.string(),
}
_ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


def view_table(view: View, path: Path) -> TableSpec:
    """The table of a view's rows: join keys, features, event_timestamp."""
    keys = [
        (key, _ARROW_TYPES[kind])
        for key, kind in zip(view.join_keys, view.join_key_types, strict=True)
    ]
    features = [(a.feature, _ARROW_TYPES[a.dtype]) for a in view.aggregates]
    schema = pa.schema([*keys, *features, ("event_timestamp", TIME)])
    return TableSpec(f"views/{view.name}", path, schema, "event_timestamp", view.join_keys)


def examples_table(model: ModelPlan, folder: Path) -> TableSpec:
    """The table of a model's vectors: key, event_timestamp, vector (missing is null), score."""
    vector = [(column_name(f.name), pa.float64()) for f in model.schema.fields]
    schema = pa.schema(
        [
            (model.spine_key, pa.string()),
            ("event_timestamp", TIME),
            *vector,
            ("score", pa.float64()),
        ]
    )
    path = folder / model.name / "examples"
    return TableSpec(f"examples/{model.name}", path, schema, "event_timestamp", (model.spine_key,))


def outcomes_table(model: ModelPlan, folder: Path) -> TableSpec:
    """The table of a model's labelled predictions, by the time of the label.

    With many classes the score is that of ``predicted``; ``truth_score`` is that of ``label``.
    """
    classes = [("predicted", pa.string()), ("truth_score", pa.float64())]
    schema = pa.schema(
        [
            (model.spine_key, pa.string()),
            ("event_timestamp", TIME),
            ("label_timestamp", TIME),
            ("label", _LABEL_TYPES[model.task]),
            ("score", pa.float64()),
            ("baseline_rate", pa.float64()),
            ("baseline_last", pa.float64()),
            *(classes if model.task == "multiclass" else []),
            *((segment_column(name), pa.string()) for name in model.segments),
        ]
    )
    path = folder / model.name / "outcomes"
    return TableSpec(f"outcomes/{model.name}", path, schema, "label_timestamp", (model.spine_key,))


def segment_column(name: str) -> str:
    """The column of a segment in the table of outcomes."""
    return f"segment__{name}"


def column_name(field_name: str) -> str:
    """Feast's full feature name (``view__feature``) of a vector field."""
    return field_name.replace(":", "__")


def view_batch(spec: TableSpec, view: View, new: ViewRows) -> pa.RecordBatch:
    """Rows of a view as the table has them."""
    # ``keys`` holds all entities of a shard, of which a batch has a few.
    slots, codes = np.unique(new.rows.slots, return_inverse=True)
    decoded = [_decoded(new.keys[slot]) for slot in slots.tolist()]
    taken = pa.array(codes)
    arrays: list[Any] = [
        pa.array([key[name] for key in decoded], spec.schema.field(name).type).take(taken)
        for name in view.join_keys
    ]
    for i, aggregate in enumerate(view.aggregates):
        column = np.ascontiguousarray(new.rows.values[:, i])
        arrays.append(_feature(aggregate.dtype, column, new.texts))
    arrays.append(_times(new.rows.stamps_us))
    return pa.RecordBatch.from_arrays(arrays, schema=spec.schema)


def examples_batch(spec: TableSpec, scored: Scored) -> pa.RecordBatch:
    """Scored vectors as the table has them."""
    vector = [
        pa.array(np.ascontiguousarray(column), from_pandas=True) for column in scored.features.T
    ]
    arrays = [
        pa.array(scored.keys, pa.string()),
        _times(scored.times_us),
        *vector,
        pa.array(scored.scores),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=spec.schema)


def outcomes_batch(spec: TableSpec, outcomes: Outcomes, classes: Sequence[str]) -> pa.RecordBatch:
    """Labelled predictions as the table has them; ``classes`` as in ``Learned``."""
    of_classes = []
    labels = _labels(outcomes.labels, spec.schema.field("label").type, classes)
    if "predicted" in spec.schema.names:
        of_classes = [
            _labels(outcomes.predicted, pa.string(), classes),
            pa.array(outcomes.truth_probabilities),
        ]
    arrays = [
        pa.array(outcomes.keys, pa.string()),
        _times(outcomes.prediction_times_us),
        _times(outcomes.label_times_us),
        labels,
        pa.array(outcomes.scores),
        pa.array(outcomes.baseline_rates),
        pa.array(outcomes.baseline_lasts),
        *of_classes,
        *(pa.array(values, pa.string()) for values in outcomes.segments),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=spec.schema)


def _labels(values: npt.NDArray[Any], kind: pa.DataType, classes: Sequence[str]) -> Any:
    """Truths as Arrow has them; a place below 0 is null."""
    if kind == pa.string():
        return pa.array(
            [classes[int(place)] if place >= 0 else None for place in values.tolist()], kind
        )
    return pa.array(values != 0.0) if kind == pa.bool_() else pa.array(values)


def _feature(dtype: ValueType, column: npt.NDArray[np.float64], texts: Sequence[str]) -> Any:
    """A feature's values as Arrow has them; NaN is null."""
    if dtype == "string":
        found, rows = distinct_strings(column, texts)
        places = pa.array(rows, mask=rows == len(found))
        return pa.array(found, pa.string()).take(places)
    if dtype == "bool":
        return pa.array(column != 0, mask=np.isnan(column))
    numbers = pa.array(column, from_pandas=True)
    return numbers.cast(_ARROW_TYPES[dtype], safe=False) if dtype != "float64" else numbers


@lru_cache(maxsize=_DECODED_KEYS_MAX)
def _decoded(key: bytes) -> dict[str, str | int]:
    return decode_entity_key(key)


def _times(times_us: Any) -> Any:
    return pa.array(times_us, pa.int64()).cast(TIME)
