"""What the learner does not take."""

from __future__ import annotations

import math

import numpy as np
import pytest
from river import neighbors

from contracts.feature_schema import FeatureSchema, VectorField
from dataflows.learning.learner import Learner, LearnerStateError
from dataflows.learning.records import (
    Labels,
    LearnerSpec,
    Predictions,
)
from dataflows.river_onnx import UnsupportedEstimatorError
from tests.learning.rows import (
    END_US,
    MAKERS,
    SCHEMA,
    labels,
    late_row,
    predictions,
    spec,
)


def test_unsupported_estimators_are_refused_at_the_start() -> None:
    """A learner that could never publish is not even made."""
    with pytest.raises(UnsupportedEstimatorError, match="KNNClassifier"):
        Learner(LearnerSpec("late", SCHEMA, neighbors.KNNClassifier, END_US, 10))


@pytest.mark.parametrize(
    ("batch", "truths", "watermark_us", "named"),
    [
        (predictions([late_row(50)]), labels([]), 50, "predictions must lie in"),
        (predictions([late_row(19)]), labels([]), 50, "predictions must lie in"),
        (predictions([]), labels([("0", 19, 1.0)]), 50, "labels must lie in"),
        (predictions([]), labels([]), 19, "backwards"),
        (predictions([late_row(t) for t in (30, 29, 31)]), labels([]), 50, "backwards"),
        (predictions([late_row(30)], ["0", "1"]), labels([]), 50, "2 keys"),
        (Predictions(["0"], np.array([30]), np.zeros((1, 2))), labels([]), 50, r"shape \(1, 3\)"),
        (predictions([]), Labels(["0"], np.array([30]), np.zeros(2)), 50, "label values"),
    ],
)
def test_rows_out_of_order_are_refused(
    batch: Predictions, truths: Labels, watermark_us: int, named: str
) -> None:
    """A caller that breaks the order or the shapes hears of it, and the learner is unharmed."""
    learner = Learner(spec())
    learner.advance(predictions([]), labels([]), 20)
    before = learner.dumps()
    with pytest.raises(ValueError, match=named):
        learner.advance(batch, truths, watermark_us)
    assert learner.dumps() == before


def test_state_of_another_model_is_refused() -> None:
    """Saved state only goes back into a learner of the same name and schema."""
    saved = Learner(spec()).dumps()
    with pytest.raises(LearnerStateError, match="replay the log"):
        Learner.loads(spec(name="other"), saved)
    smaller = FeatureSchema("test", SCHEMA.fields[:2])
    with pytest.raises(LearnerStateError, match="replay the log"):
        Learner.loads(LearnerSpec("late", smaller, MAKERS["sgd"], END_US, 10), saved)


@pytest.mark.parametrize(
    ("schema", "timeout_us", "every_us", "named"),
    [
        (FeatureSchema("test", ()), 1, 1, "no fields"),
        (
            FeatureSchema("test", (VectorField("a", "request", "float64", math.nan),)),
            1,
            1,
            "finite",
        ),
        (SCHEMA, 0, 1, "above 0"),
        (SCHEMA, 1, 0, "above 0"),
    ],
)
def test_spec_that_cannot_work_is_refused(
    schema: FeatureSchema, timeout_us: int, every_us: int, named: str
) -> None:
    """An empty vector, a default that is no number and a zero duration are refused."""
    with pytest.raises(ValueError, match=named):
        LearnerSpec("late", schema, MAKERS["sgd"], timeout_us, every_us)
