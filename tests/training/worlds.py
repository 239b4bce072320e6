"""Small worlds to train in: plans, examples in memory, and examples as the dataflow writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.category import category_code
from contracts.feature_schema import FeatureSchema, ValueType, VectorField
from contracts.model_spec import Task
from contracts.plan import ModelPlan
from dataflows.tables import examples_table, outcomes_table
from dataflows.training.examples import Examples, Floats

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START_US = 1_700_000_000_000_000
CITIES = ("Vienna", "Graz", "Linz", "Bregenz")


def plan_of(
    task: Task = "binary",
    types: Sequence[ValueType] = ("float64", "float64", "string"),
    segments: tuple[str, ...] = ("city",),
) -> ModelPlan:
    """A model of three fields: two numbers and a text; the defaults are 1, 2 and 3."""
    fields = [
        VectorField(
            f"view:f{place}",
            "feature",
            kind,
            place + 1.0,
            "view",
            f"f{place}",
            ("key",),
            ("string",),
        )
        for place, kind in enumerate(types)
    ]
    return ModelPlan(
        name="late",
        spine_topic="asked",
        spine_key="ride",
        label_topic="done",
        label_key="ride",
        label_value="late",
        label_timeout_us=DAY_US,
        publish_every_us=DAY_US,
        views=("view",),
        schema=FeatureSchema(project="test", fields=tuple(fields)),
        task=task,
        segments=segments,
        assign_by="key",
        intended_use="tests",
    )


def examples_of(task: Task = "binary", rows: int = 3_000, seed: int = 0) -> Examples:
    """Examples an hour apart, labels within two hours; all three fields matter for the label."""
    generator = np.random.default_rng(seed)
    cities = generator.choice(CITIES, rows)
    codes = np.array([category_code(city) for city in cities])
    effect = np.array([CITIES.index(city) for city in cities]) - 1.5
    features = np.column_stack([generator.normal(size=rows), generator.normal(5, 3, rows), codes])
    total = features[:, 0] + 0.2 * (features[:, 1] - 5) + effect + generator.normal(size=rows)
    classes: tuple[str, ...] = ()
    if task == "binary":
        labels = (total > 0).astype(np.float64)
    elif task == "regression":
        labels = 10 * total
    else:
        labels = np.digitize(total, [-1, 1]).astype(np.float64)
        classes = ("low", "middle", "high")
    times_us = START_US + np.arange(rows, dtype=np.int64) * HOUR_US
    last = np.roll(labels, 1)
    if task == "multiclass":
        last = (labels == last).astype(np.float64)
    return Examples(
        keys=np.array([f"r{row}" for row in range(rows)], dtype=object),
        times_us=times_us,
        label_times_us=times_us + generator.integers(1, 2 * HOUR_US, rows),
        features=features,
        labels=labels,
        classes=classes,
        said={"baseline_rate": np.full(rows, 0.5), "baseline_last": last},
        segments={"city": cities.astype(object)},
    )


def write_examples(
    folder: Path, keys: Sequence[str], times_us: Sequence[int], features: Floats, name: str = "0"
) -> None:
    """One more file of vectors; NaN is null. Fewer columns are those of other definitions."""
    numbers = {f"view__f{i}": column for i, column in enumerate(features.T)}
    schema = examples_table(plan_of(), folder).schema
    for missing in {"view__f0", "view__f1", "view__f2"} - numbers.keys():
        schema = schema.remove(schema.get_field_index(missing))
    columns = {
        "ride": list(keys),
        "event_timestamp": list(times_us),
        **{column: pa.array(values, from_pandas=True) for column, values in numbers.items()},
        "score": [0.5] * len(keys),
    }
    _write(folder / "examples", name, columns, schema)


def write_outcomes(
    folder: Path,
    keys: Sequence[str],
    times_us: Sequence[int],
    known_us: Sequence[int],
    labels: Sequence[Any],
    task: Task = "binary",
) -> None:
    """The file of labels, of some of them."""
    rows = len(keys)
    spec = outcomes_table(plan_of(task), folder)
    columns = {
        "ride": list(keys),
        "event_timestamp": list(times_us),
        "label_timestamp": list(known_us),
        "label": list(labels),
        "score": [0.25] * rows,
        "baseline_rate": [0.5] * rows,
        "baseline_last": [1.0] * rows,
        "predicted": ["early"] * rows,
        "truth_score": [0.1] * rows,
        "segment__city": ["Graz"] * rows,
    }
    named = {name: column for name, column in columns.items() if name in spec.schema.names}
    _write(folder / "outcomes", "0", named, spec.schema)


def _write(folder: Path, name: str, columns: dict[str, Any], schema: pa.Schema) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), folder / f"{name}.parquet")
