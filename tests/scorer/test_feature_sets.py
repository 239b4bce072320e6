"""What a model reads is worked out once for each version, however many callers ask."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, cast
from weakref import ref

from contracts.plan_file import plan_path
from scorer.applied import AppliedFeatures
from scorer.callers import Caller
from scorer.features import FeatureLimits, Features
from scorer.model import LoadedModel
from tests.scorer.shop import MODEL, WEIGHTS, linear_onnx, manifest_for


def test_a_version_is_taken_apart_once_and_let_go(tmp_path: Path) -> None:
    """Two requests get one and the same set; of a version that is swapped out nothing is kept."""
    onnx = linear_onnx(WEIGHTS, 0.0)
    serving = [LoadedModel(manifest_for("1", onnx), onnx)]
    features = Features(
        AppliedFeatures(plan_path(tmp_path), lambda: 0.0),
        lambda model: serving[0],
        cast(Any, None),
        FeatureLimits(in_flight_max=1, rows_max=1, read_timeout_seconds=1.0),
    )
    caller = Caller("somebody", frozenset({MODEL}))
    assert features.of_model(caller, MODEL)[1] is features.of_model(caller, MODEL)[1]
    before = ref(serving[0])
    serving[0] = LoadedModel(manifest_for("2", onnx), onnx)
    features.of_model(caller, MODEL)
    gc.collect()
    assert before() is None
