"""What goes into the learner and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.feature_schema import FeatureSchema
from dataflows.learning.parity import Parity


@dataclass(frozen=True)
class LearnerSpec:
    """What a learner is, apart from what it has learned.

    Attributes:
        name: of the model, for messages.
        schema: the vector; its defaults must be finite.
        make_learner: makes a new, untrained River classifier that ``to_onnx`` can export.
        label_timeout_us: a label later than this after its prediction does not count; one
            exactly this late does.
        publish_every_us: a version at each multiple of this in event time.
    """

    name: str
    schema: FeatureSchema
    make_learner: Callable[[], Any]
    label_timeout_us: int
    publish_every_us: int

    def __post_init__(self) -> None:
        """Refuse what could not work (ValueError)."""
        if not self.schema.fields:
            raise ValueError(
                f"model {self.name} has no fields; give it a request field or features"
            )
        if not np.isfinite(self.schema.defaults).all():
            raise ValueError(f"model {self.name}: every default must be a finite number")
        if self.label_timeout_us <= 0 or self.publish_every_us <= 0:
            raise ValueError(
                f"model {self.name}: label timeout and publish_every must be above 0, got "
                f"{self.label_timeout_us} and {self.publish_every_us} microseconds"
            )


@dataclass(frozen=True)
class Predictions:
    """Moments at which a prediction is wanted, in the canonical order.

    Attributes:
        keys: n spine keys.
        times_us: int64 ``[n]``, ascending.
        features: float64 ``[n, d]`` in the schema's order; NaN is missing, and so is an infinite
            value, since one such value would spoil a scaler for ever.
    """

    keys: list[str]
    times_us: NDArray[np.int64]
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """Truths that became known, in the canonical order.

    Attributes:
        keys: m spine keys.
        times_us: int64 ``[m]``, ascending.
        values: float64 ``[m]``; NaN is ignored, 0 is False, all else is True.
    """

    keys: list[str]
    times_us: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Predictions made: the rows of ``Predictions`` as they came, and P(True) for each.

    A score is NaN where River itself gives NaN (MinMaxScaler before it has seen a row).
    """

    keys: list[str]
    times_us: NDArray[np.int64]
    features: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Predictions whose label came, in the order of the labels; all columns have shape ``[k]``.

    Attributes:
        labels: the truth.
        scores: P(True) as it was predicted.
        baseline_rates: share of True among the labels learned before the prediction; 0.5 before
            any.
        baseline_lasts: the label learned last before the prediction, 1.0 or 0.0; 0.5 before any.
    """

    keys: list[str]
    prediction_times_us: NDArray[np.int64]
    label_times_us: NDArray[np.int64]
    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    baseline_rates: NDArray[np.float64]
    baseline_lasts: NDArray[np.float64]


@dataclass(frozen=True)
class NewVersion:
    """A model ready for the repository.

    Attributes:
        version: 1, 2, 3 … without gaps.
        boundary_us: it has learned everything with event time strictly before this.
        trained_from_us: time of the earliest prediction it has learned from.
        trained_until_us: time of the last label it has learned from.
        examples: how many it has learned from, since the beginning.
        metrics: see ``Scoreboard.report``.
        parity: against River on rows that it has not learned from.
        onnx: the model.
        classes: of a multi-class model, in the order of its probabilities.
    """

    version: int
    boundary_us: int
    trained_from_us: int
    trained_until_us: int
    examples: int
    metrics: dict[str, float | None]
    parity: Parity
    onnx: bytes
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefusedVersion:
    """A model that was not published, and why. Its number goes to the next one."""

    version: int
    boundary_us: int
    reason: str


@dataclass
class LearnerCounts:
    """What happened in one call.

    Attributes:
        predictions: rows scored.
        repeated_predictions: of these, rows whose key was still waiting for its label; the first
            prediction stands, so the repeated one is scored and then forgotten.
        labels: rows looked at.
        ignored_labels: of these, NaN.
        unmatched_labels: of these, without a waiting prediction: unknown, repeated or too late.
        learned: of these, learned from.
        expired_predictions: given up, as their label did not come in time.
    """

    predictions: int = 0
    repeated_predictions: int = 0
    labels: int = 0
    ignored_labels: int = 0
    unmatched_labels: int = 0
    learned: int = 0
    expired_predictions: int = 0


@dataclass(frozen=True)
class Learned:
    """What one call of the learner gave."""

    predictions: Scored
    outcomes: Outcomes
    versions: list[NewVersion] = field(default_factory=list)
    refused: list[RefusedVersion] = field(default_factory=list)
    counts: LearnerCounts = field(default_factory=LearnerCounts)
