"""What a data scientist writes beside Feast's objects: ``Model`` and ``Label``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class Label:
    """The truth about a prediction, known later, on a stream of its own.

    Attributes:
        source: Feast ``KafkaSource`` that carries it.
        key: column of that source that equals the model's ``spine_key``.
        value: a column, or an expression over columns such as ``"arr_delay > 15"``.
        timeout: a prediction that has no label after this long (event time) is given up.
    """

    source: Any
    key: str
    value: str
    timeout: timedelta


@dataclass(frozen=True)
class Model:
    """One model: when to predict, from what, against which label, and how to learn.

    Attributes:
        name: lower case letters, digits and underscores; folder name in the model repository.
        spine: Feast ``KafkaSource``; every record is a moment at which a prediction is wanted.
        spine_key: column of the spine that identifies the prediction.
        label: the delayed label.
        learner: makes a new, untrained River estimator.
        features: name of the Feast ``FeatureService`` whose features are joined; None for none.
        request: columns of the spine that are part of the vector, before the features.
        defaults: vector field name -> value that stands in for a missing one (0.0 otherwise).
        publish_every: a new ONNX version at each multiple of this in event time.
    """

    name: str
    spine: Any
    spine_key: str
    label: Label
    learner: Callable[[], Any]
    features: str | None = None
    request: Sequence[str] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)
    publish_every: timedelta = timedelta(days=1)
