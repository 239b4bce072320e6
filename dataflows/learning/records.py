"""What goes into the learner and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.feature_schema import FeatureSchema
from contracts.model_spec import Task
from dataflows.learning.parity import Parity


@dataclass(frozen=True)
class LearnerSpec:
    """What a learner is, apart from what it has learned.

    Attributes:
        name: of the model, for messages.
        schema: the vector; its defaults must be finite.
        make_learner: makes a new, untrained River estimator that ``to_onnx`` can export.
        label_timeout_us: a label later than this after its prediction does not count; one
            exactly this late does.
        publish_every_us: a version at each multiple of this in event time.
        task: what labels and scores are.
        has_labels: False for an anomaly detector that nobody tells the truth.
        on_timeout: the label of a prediction whose label did not come in time, as text; None
            learns nothing from it.
        segments: names of the inputs whose values go along from prediction to outcome.
    """

    name: str
    schema: FeatureSchema
    make_learner: Callable[[], Any]
    label_timeout_us: int
    publish_every_us: int
    task: Task = "binary"
    has_labels: bool = True
    on_timeout: str | None = None
    segments: tuple[str, ...] = ()

    @property
    def given_label(self) -> float | str | None:
        """``on_timeout`` as a label comes."""
        if self.on_timeout is None or self.task == "multiclass":
            return self.on_timeout
        return float(self.on_timeout)

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
        segments: one list of n texts for each of the spec's segments.
    """

    keys: list[str]
    times_us: NDArray[np.int64]
    features: NDArray[np.float64]
    segments: tuple[list[str | None], ...] = ()


@dataclass(frozen=True)
class Labels:
    """Truths that became known, in the canonical order.

    Attributes:
        keys: m spine keys.
        times_us: int64 ``[m]``, ascending.
        values: float64 ``[m]``; what is not finite is ignored. For a binary model 0 is False, all
            else is True.
        texts: m classes in the place of values, for a multi-class model; None is ignored.
    """

    keys: list[str]
    times_us: NDArray[np.int64]
    values: NDArray[np.float64]
    texts: list[str | None] | None = None


@dataclass(frozen=True)
class Scored:
    """Predictions made: the rows of ``Predictions`` as they came, and the score of each.

    A score is P(True), the number predicted, the largest of the classes' probabilities (0 before
    the first class was seen), or how unusual the row is. It is NaN where River itself gives NaN
    (MinMaxScaler before it has seen a row), and where its arithmetic fails.
    """

    keys: list[str]
    times_us: NDArray[np.int64]
    features: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Predictions whose label came, in the order of the labels; all columns have shape ``[k]``.

    Attributes:
        labels: the truth: 1.0 or 0.0, a number, or the place in ``Learned.classes``.
        scores: as it was predicted; see ``Scored``.
        baseline_rates: what the labels learned before the prediction say: the share of True (0.5
            before any), or their mean (0.0 before any). With many classes the share of the class
            that came true among the labels learned before this one.
        baseline_lasts: the label learned last before the prediction (0.5 or 0.0 before any). With
            many classes 1.0 if it was the class that came true, and 0.0 if not.
        versions: the newest version published before the prediction, 0 for none. Not in any table:
            a run that ends publishes once more than one that goes on.
        segments: one list of k texts for each of the spec's segments.
        predicted: with many classes, the place of the most probable one, -1 for none; else empty.
        truth_probabilities: with many classes, the probability given to the one that came true;
            else empty.
    """

    keys: list[str]
    prediction_times_us: NDArray[np.int64]
    label_times_us: NDArray[np.int64]
    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    baseline_rates: NDArray[np.float64]
    baseline_lasts: NDArray[np.float64]
    versions: NDArray[np.int64]
    segments: tuple[list[str | None], ...] = ()
    predicted: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    truth_probabilities: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


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
        examples_digest: of what it has learned from; see ``ExamplesDigest``.
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
    examples_digest: str = ""


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
        ignored_labels: of these, without a value, or of one class too many.
        unmatched_labels: of these, without a prediction as far as is known.
        repeated_labels: of these, for a prediction that has its label.
        late_labels: of these, for a prediction that was given up.
        learned: examples learned from.
        huge: examples left out, as a number in the vector has a square that no double holds.
        expired_predictions: given up, as their label did not come in time.
        given_labels: of these, learned from with the label that stands for silence.
    """

    predictions: int = 0
    repeated_predictions: int = 0
    labels: int = 0
    ignored_labels: int = 0
    unmatched_labels: int = 0
    repeated_labels: int = 0
    late_labels: int = 0
    learned: int = 0
    huge: int = 0
    expired_predictions: int = 0
    given_labels: int = 0


@dataclass(frozen=True)
class Learned:
    """What one call of the learner gave; ``classes`` are those seen so far, of a model of many."""

    predictions: Scored
    outcomes: Outcomes
    versions: list[NewVersion] = field(default_factory=list)
    refused: list[RefusedVersion] = field(default_factory=list)
    counts: LearnerCounts = field(default_factory=LearnerCounts)
    classes: tuple[str, ...] = ()
