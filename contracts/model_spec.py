"""What a data scientist writes beside Feast's objects: ``Model`` and ``Label``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

Task = Literal["binary", "multiclass", "regression", "anomaly"]


@dataclass(frozen=True)
class Label:
    """The truth about a prediction, known later, on a stream of its own.

    Attributes:
        source: Feast ``KafkaSource`` that carries it.
        key: column of that source that equals the model's ``spine_key``.
        value: a column, or an expression over columns such as ``"arr_delay > 15"``.
        timeout: a prediction that has no label after this long (event time) is given up.
        on_timeout: the label of a prediction that is given up, such as False where silence means
            that nothing happened; None learns nothing from it.
    """

    source: Any
    key: str
    value: str
    timeout: timedelta
    on_timeout: bool | float | str | None = None


@dataclass(frozen=True)
class Rollout:
    """How a new version becomes the champion by itself, or is rolled back.

    A challenger gets the shares of the requests one after the other. At each step it must have been
    scored against so many labels without being found worse; after the last step it is promoted. The
    test is sequential: it may be looked at as often as one likes.

    Attributes:
        shares: of the requests, 0 to 1, growing.
        labels_per_step: labelled scores of the challenger before a step is over.
        margin: how much larger the challenger's mean loss may be: log loss for classes, squared
            error in units of the champion's for numbers.
        false_alarm: probability that an equally good challenger is ever rolled back.
        rest: after a challenger was rolled back no new one is tried for so long (event time).
        probation_labels: after its promotion a version is held against the champion before for so
            many labelled scores more, and rolled back if it is found to be worse; 0 for not at all.
    """

    shares: Sequence[float] = (0.05, 0.2, 0.5)
    labels_per_step: int = 1000
    margin: float = 0.0
    false_alarm: float = 0.01
    rest: timedelta = timedelta(hours=1)
    probation_labels: int = 1000


@dataclass(frozen=True)
class Drift:
    """When a model's features, scores and errors count as drifted.

    The last ``window_rows`` predictions are compared with a reference, ten times in a window. Drift
    begins when a value reaches its threshold and chance does not explain it; thresholds that are
    None are not watched.

    Attributes:
        window_rows: predictions in a window, a multiple of 10.
        reference_rows: predictions, or losses, in the reference.
        warmup_rows: predictions (or losses) before the reference, while the model is new.
        psi: population stability index of a feature.
        ks: largest difference of two distribution functions of a feature that is a number.
        missing: by how much a feature's missing rate may differ.
        score: as ``ks``, of the scores.
        error: share by which the mean loss may grow.
        false_alarm: probability of ever raising an alarm although nothing changes, over all
            features and looks.
        renew_after_rows: when drift of a feature has lasted for so many rows, what came to be is
            its new reference; None keeps the reference for ever.
    """

    window_rows: int = 1_000
    reference_rows: int = 10_000
    warmup_rows: int = 5_000
    psi: float | None = 0.2
    ks: float | None = 0.1
    missing: float | None = 0.05
    score: float | None = 0.1
    error: float | None = 0.1
    false_alarm: float = 0.01
    renew_after_rows: int | None = None


@dataclass(frozen=True)
class Model:
    """One model: when to predict, from what, against which label, and how to learn.

    Attributes:
        name: lower case letters, digits and underscores; folder name in the model repository.
        spine: Feast ``KafkaSource``; every record is a moment at which a prediction is wanted.
        spine_key: column of the spine that identifies the prediction.
        label: the delayed label; None for an anomaly detector, which learns without one.
        learner: makes a new, untrained River estimator.
        features: name of the Feast ``FeatureService`` whose features are joined; None for none.
        request: columns of the spine that are part of the vector, before the features.
        defaults: vector field name -> value that stands in for a missing one (0.0 otherwise; a text
            for a field that is one).
        publish_every: a new ONNX version at each multiple of this in event time.
        task: what the label is; None takes it from the learner and the label.
        segments: inputs (entity keys or request fields) by whose values metrics are also reported.
        assign_by: the input by whose value a request is assigned to champion or challenger; empty
            takes the first entity key, or the row's key where there is none.
        rollout: None makes each new version the champion at once.
        intended_use: for the model card.
        drift: what counts as drift; None does not watch for it.
    """

    name: str
    spine: Any
    spine_key: str
    label: Label | None
    learner: Callable[[], Any]
    features: str | None = None
    request: Sequence[str] = ()
    defaults: Mapping[str, float | str] = field(default_factory=dict)
    publish_every: timedelta = timedelta(days=1)
    task: Task | None = None
    segments: Sequence[str] = ()
    assign_by: str = ""
    rollout: Rollout | None = None
    intended_use: str = ""
    drift: Drift | None = Drift()
