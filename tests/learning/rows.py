"""Rows for the learner's tests, for us and for River."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from river import linear_model, metrics, optim, preprocessing

from contracts.feature_schema import FeatureSchema, VectorField
from dataflows.learning.learner import Learner
from dataflows.learning.records import (
    Labels,
    Learned,
    LearnerSpec,
    Predictions,
)

DEFAULTS = (0.0, -1.0, 3.5)
SCHEMA = FeatureSchema(
    project="test",
    fields=tuple(
        VectorField(name=f"view:f{place}", kind="feature", dtype="float64", default=default)
        for place, default in enumerate(DEFAULTS)
    ),
)
MAKERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: (
        preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.05))
    ),
    "adagrad": lambda: (
        preprocessing.StandardScaler(with_std=False)
        | preprocessing.MinMaxScaler()
        | preprocessing.StandardScaler()
        | linear_model.LogisticRegression(optim.AdaGrad(0.5))
    ),
}
END_US = 10_000
LOG_LOSS: Any = metrics.LogLoss  # without types, as all of River's metrics
ACCURACY: Any = metrics.Accuracy


def spec(
    maker: str = "sgd", timeout_us: int = END_US, every_us: int = 10, name: str = "late"
) -> LearnerSpec:
    """A spec over three features."""
    return LearnerSpec(name, SCHEMA, MAKERS[maker], timeout_us, every_us)


@dataclass(frozen=True)
class Row:
    """A prediction and, ``delay_us`` later, its label."""

    time_us: int
    delay_us: int
    features: tuple[float, float, float]
    truth: bool


VALUES = st.one_of(st.just(math.nan), st.sampled_from([0.0, 1.0, 1e9]), st.floats(-5, 5))
ROWS = st.lists(
    st.builds(Row, st.integers(0, 60), st.integers(0, 25), st.tuples(*[VALUES] * 3), st.booleans()),
    min_size=1,
    max_size=60,
).map(lambda rows: sorted(rows, key=lambda row: row.time_us))


def predictions(rows: list[Row], keys: list[str] | None = None) -> Predictions:
    """The rows as predictions; keys are their numbers unless given."""
    return Predictions(
        keys if keys is not None else [str(number) for number in range(len(rows))],
        np.array([row.time_us for row in rows], dtype=np.int64),
        np.array([row.features for row in rows], dtype=np.float64).reshape(len(rows), 3),
    )


def labels(entries: list[tuple[str, int, float]]) -> Labels:
    """Labels from (key, time, value), put into order of time."""
    entries = sorted(entries, key=lambda entry: entry[1])
    return Labels(
        [key for key, _, _ in entries],
        np.array([time_us for _, time_us, _ in entries], dtype=np.int64),
        np.array([value for _, _, value in entries], dtype=np.float64),
    )


def labels_of(rows: list[Row]) -> Labels:
    """The label of every row."""
    return labels(
        [
            (str(number), row.time_us + row.delay_us, float(row.truth))
            for number, row in enumerate(rows)
        ]
    )


def vector(features: tuple[float, ...]) -> dict[str, float]:
    """What River gets: a value for every name, defaults where there is none."""
    filled = (
        default if math.isnan(value) else value
        for value, default in zip(features, DEFAULTS, strict=True)
    )
    return dict(zip(SCHEMA.names, filled, strict=True))


def river_dataset(rows: list[Row]) -> Any:
    """The rows as River wants them."""
    return ((vector(row.features), row.truth) for row in rows)


def river_clock(rows: list[Row]) -> dict[str, Any]:
    """Moment and delay, by position: River asks for both exactly once per row, in order."""
    moments, delays = (
        iter([getattr(row, name) for row in rows]) for name in ("time_us", "delay_us")
    )
    return {"moment": lambda _: next(moments), "delay": lambda _, __: next(delays)}


def advance(learner: Learner, batch: Predictions, truths: Labels, end_us: int = END_US) -> Learned:
    """One call with everything, for tests that do not care about cuts."""
    return learner.advance(batch, truths, end_us)


def late_row(time_us: int) -> Row:
    """A row whose label nobody sends by itself."""
    return Row(time_us, 0, (1.0, 2.0, 3.0), truth=True)
