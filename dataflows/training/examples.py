"""The dataflow's examples with their labels: vectors as they were scored, point in time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from contracts.plan import ModelPlan
from dataflows.tables import column_name, segment_column
from dataflows.training.errors import TrainingError

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
ROWS_MAX = 20_000_000
_TIME = "event_timestamp"
_LABEL_TIME = "label_timestamp"
_SAID = ("baseline_rate", "baseline_last", "score", "truth_score")
_PREDICTED = "predicted"


@dataclass(frozen=True)
class Period:
    """Predictions made in ``[from_us, until_us)``; None is no bound."""

    from_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True)
class Examples:
    """Labelled predictions, in the order of (time of prediction, key).

    Attributes:
        keys: n spine keys.
        times_us: of the predictions, int64 ``[n]``, microseconds since 1970 UTC.
        label_times_us: when the truth became known, int64 ``[n]``.
        features: float64 ``[n, d]`` in the schema's order; the model's defaults stand in the place
            of what was missing, as they do when the learner learns and the scorer scores.
        labels: float64 ``[n]``: 1.0 or 0.0, a number, or the place in ``classes``.
        classes: of a multi-class model, in the order in which they were first seen.
        said: column -> float64 ``[n]``: what the dataflow's baselines and its own model of that
            time said; ``right`` is 1.0 where the class it named came true.
        segments: input -> n texts.
    """

    keys: NDArray[np.object_]
    times_us: Times
    label_times_us: Times
    features: Floats
    labels: Floats
    classes: tuple[str, ...] = ()
    said: Mapping[str, Floats] = field(default_factory=dict)
    segments: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.times_us)

    def at(self, rows: NDArray[Any]) -> Examples:
        """Some of the rows: a mask, or places in ascending order."""
        return replace(
            self,
            keys=self.keys[rows],
            times_us=self.times_us[rows],
            label_times_us=self.label_times_us[rows],
            features=self.features[rows],
            labels=self.labels[rows],
            said={name: column[rows] for name, column in self.said.items()},
            segments={name: column[rows] for name, column in self.segments.items()},
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that a model learns from: equal exactly when the rows are."""
        digest = hashlib.sha256(json.dumps([*self.keys.tolist(), *self.classes]).encode())
        for column in (self.times_us, self.label_times_us, self.features, self.labels):
            digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def read_examples(
    plan: ModelPlan,
    folder: Path,
    period: Period,
    segments: tuple[str, ...] = (),
    rows_max: int = ROWS_MAX,
) -> Examples:
    """The labelled predictions that the dataflow wrote.

    Args:
        plan: of the model.
        folder: with the model's folders ``examples`` and ``outcomes``.
        period: when the predictions were made.
        segments: names of inputs to take along; those that were not written are left out.
        rows_max: more rows than this are refused.

    Raises:
        TrainingError: there are none, they do not fit the plan, or there are too many.
    """
    try:
        return _read(plan, folder, period, segments, rows_max)
    except (OSError, pa.ArrowException) as error:
        raise TrainingError(
            f"examples in {folder} cannot be read ({error}); if a run or a replay is rewriting "
            "them just now train again, else rebuild them with `headwater replay`"
        ) from error


def _read(
    plan: ModelPlan, folder: Path, period: Period, segments: tuple[str, ...], rows_max: int
) -> Examples:
    key = plan.spine_key
    vector = [column_name(name) for name in plan.schema.names]
    made = _dataset(folder / "examples", (key, _TIME, *vector))
    known = _dataset(folder / "outcomes", (key, _TIME, _LABEL_TIME, "label"))
    wanted = _within(period)
    rows = known.count_rows(filter=wanted)
    if rows == 0:
        raise TrainingError(
            f"model {plan.name!r} has no labelled examples in that time; let the dataflow run on, "
            "or choose another --from and --until"
        )
    if rows > rows_max:
        raise TrainingError(
            f"model {plan.name!r} has {rows:,} labelled examples, at most {rows_max:,} fit; "
            "narrow the time with --from"
        )
    said = [name for name in _SAID if name in known.schema.names]
    tags = tuple(name for name in segments if segment_column(name) in known.schema.names)
    named = [_PREDICTED] if _PREDICTED in known.schema.names else []
    columns = [key, _TIME, _LABEL_TIME, "label", *said, *named, *map(segment_column, tags)]
    outcomes = known.to_table(columns=columns, filter=wanted)
    predictions = made.to_table(columns=[key, _TIME, *vector], filter=wanted)
    joined = _joined(predictions, outcomes, key)
    return _examples(plan, joined, said, tags)


def _dataset(folder: Path, columns: tuple[str, ...]) -> ds.Dataset:
    if not any(folder.glob("**/*.parquet")):
        raise TrainingError(
            f"{folder} has no examples; run the dataflow first, or set HEADWATER_EXAMPLES_DIR"
        )
    found = ds.dataset(folder, format="parquet", exclude_invalid_files=False)
    lacking = [name for name in columns if name not in found.schema.names]
    if lacking:
        raise TrainingError(
            f"{folder} has no column {lacking[0]!r}: it was written under other definitions; "
            "rebuild it with `headwater replay`"
        )
    return found


def _within(period: Period) -> Any:
    stamp = pc.field(_TIME)
    wanted: Any = pc.scalar(True)
    if period.from_us is not None:
        wanted = wanted & (stamp >= _stamp(period.from_us))
    if period.until_us is not None:
        wanted = wanted & (stamp < _stamp(period.until_us))
    return wanted


def _stamp(time_us: int) -> Any:
    return pa.scalar(time_us, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def _joined(predictions: pa.Table, outcomes: pa.Table, key: str) -> pa.Table:
    """The vector of each outcome. Of predictions of one key and time the first one counts."""
    numbered = predictions.append_column("place_", pa.array(np.arange(len(predictions))))
    taken = numbered.select([key, _TIME, "place_"]).group_by([key, _TIME], use_threads=False)
    first = taken.aggregate([("place_", "min")])
    places = first.join(outcomes, keys=[key, _TIME], join_type="inner", use_threads=False)
    places = places.sort_by([(_TIME, "ascending"), (key, "ascending")])
    vectors = predictions.drop_columns([key, _TIME]).take(places["place__min"])
    for name in vectors.schema.names:
        places = places.append_column(name, vectors[name])
    return places


def _examples(
    plan: ModelPlan, joined: pa.Table, said: list[str], segments: tuple[str, ...]
) -> Examples:
    label_times_us = _times(joined, _LABEL_TIME)
    labels, classes = _labels(plan, joined["label"], label_times_us)
    kept = np.isfinite(labels)
    columns = [
        _numbers(joined[column_name(name)], default)
        for name, default in zip(plan.schema.names, plan.schema.defaults, strict=True)
    ]
    spoken = {name: _numbers(joined[name], 0.0) for name in said}
    if _PREDICTED in joined.column_names:
        right = _texts(joined[_PREDICTED]) == _texts(joined["label"])
        spoken["right"] = right.astype(np.float64)
    examples = Examples(
        keys=_texts(joined[plan.spine_key]),
        times_us=_times(joined, _TIME),
        label_times_us=label_times_us,
        features=np.column_stack(columns),
        labels=labels,
        classes=classes,
        said=spoken,
        segments={name: _texts(joined[segment_column(name)]) for name in segments},
    )
    return examples if kept.all() else examples.at(kept)


def _labels(
    plan: ModelPlan, column: pa.ChunkedArray, label_times_us: Times
) -> tuple[Floats, tuple[str, ...]]:
    """The labels as numbers, NaN for none, and the classes of a multi-class model."""
    if plan.task != "multiclass":
        return _numbers(column, np.nan), ()
    texts = _texts(column)
    classes: dict[str, int] = {}
    for row in np.argsort(label_times_us, kind="stable").tolist():
        if texts[row] is not None:
            classes.setdefault(texts[row], len(classes))
    places = [np.nan if text is None else float(classes[text]) for text in texts]
    return np.array(places, dtype=np.float64), tuple(classes)


def _numbers(column: pa.ChunkedArray, default: float) -> Floats:
    """As doubles, the default in the place of what is not a finite number."""
    values = column.cast(pa.float64()).fill_null(default).to_numpy()
    return np.where(np.isfinite(values), values, default)


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    found = np.empty(len(column), dtype=object)
    found[:] = column.cast(pa.string()).to_pylist()
    return found


def _times(table: pa.Table, name: str) -> Times:
    times: Times = table[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return times
